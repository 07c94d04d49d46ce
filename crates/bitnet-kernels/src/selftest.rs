//! A quick executed proof that a kernel does on this CPU what the scalar one does: virtual machines have been seen
//! to report instructions that they do not carry out as they should.
//!
//! Every operation in which instruction sets differ runs once, on small inputs that pass every unrolled loop, every flush of
//! narrow sums and the widest tiles, with a remainder behind each.

use bitnet_core::{HybridMemoryPool, ThreadPool, tensor::Values, threads::ColumnsMut};
use bitnet_quant::{
    Activations, Axis, PackedBase3, PackedTernary, Probes, QuantError, QuantizedRows, Scales, ScreenTable,
    TernaryLines,
};
use half::{bf16, f16};

use crate::{
    ATTENTION_CHUNK, BlockType, Blocks, DeltaStep, KvChunk, KvChunkMut, Queries,
    table::{Kernel, KernelError},
};

#[cfg(test)]
pub(crate) mod faulty;

/// Two strips, the second of which is used in part.
const ROWS: usize = 20;
/// 37 blocks of 16 columns and a part of one, so that loops have a remainder.
const COLS: usize = 599;
/// Enough for byte planes on every set that has them, and for the widest tile.
const TOKENS: usize = 17;
/// Fewer than byte planes pay for.
const FEW: usize = 5;
/// Columns that share a scale, in the matrix that has groups.
const GROUP: usize = 64;
/// Columns of the head that is screened.
const HEAD_COLS: usize = 128;
/// Hidden vectors that pass over the head together.
const HIDDEN: usize = 11;
const HEAD_DIM: usize = 32;
/// Query heads that share a key head.
const HEADS: usize = 2;

/// What runs on a kernel; the bits of what it gives.
type Run = fn(&Material, &Kernel) -> Vec<u32>;

/// What is run, and in which words its failure is told.
const CHECKS: [(&str, Run); 11] = [
    ("the integer product of one token", |m, k| m.products(k, 1)),
    ("the integer product of several tokens", |m, k| [m.products(k, FEW), m.products(k, TOKENS)].concat()),
    ("the product with scales by group", Material::groups),
    ("the product of weights in base 3", Material::base3),
    ("a product that leaves out zeros", Material::lines),
    ("the screen of a head", Material::screen),
    ("the product of floats", Material::dense),
    ("the product of blocks", Material::blocks_of_integers),
    ("attention", Material::attention),
    ("the operations of recurrent blocks", Material::recurrent),
    ("a float operation", Material::floats),
];

/// Compares every operation with the scalar kernel's.
pub(crate) fn self_test(kernel: &Kernel) -> Result<(), KernelError> {
    let (name, scalar) = (kernel.name(), crate::table::scalar());
    if kernel == scalar {
        return Ok(());
    }
    let material = Material::new().map_err(|error| KernelError::Untested { name, why: error.to_string() })?;
    match CHECKS.iter().find(|(_, run)| run(&material, kernel) != run(&material, scalar)) {
        Some((what, _)) => Err(KernelError::SelfTest { name, what }),
        None => Ok(()),
    }
}

/// Numbers from a small generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// A float from -2 to 2.
    fn float(&mut self) -> f32 {
        self.next() as i32 as f32 / (1 << 30) as f32
    }
}

/// The inputs that both kernels are given.
struct Material {
    strips: PackedTernary,
    groups: PackedTernary,
    base3: PackedBase3,
    rows: TernaryLines,
    columns: TernaryLines,
    /// `[TOKENS, COLS]` with one step per token; the first half is extreme.
    codes: QuantizedRows,
    /// `[FEW, COLS]` with a step per block.
    blocks: QuantizedRows,
    /// Float activations, `[TOKENS, COLS]`, from -2 to 2.
    x: Vec<f32>,
    head: ScreenTable,
    hidden: Probes,
    /// Keys and values of one chunk in binary16.
    f16s: Vec<f16>,
    int8s: Vec<u8>,
    steps: Vec<f32>,
    /// Blocks of integers, of whatever type; no scale among them is infinite or no number.
    stored: Vec<u8>,
}

impl Material {
    fn new() -> Result<Self, QuantError> {
        let (pool, threads) = (HybridMemoryPool::new(), ThreadPool::new(1));
        let memory = |error: bitnet_core::Error| QuantError::Memory(error.to_string());
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let bytes = strips(&mut random);
        let strips = PackedTernary::from_strips(ROWS, COLS, bytes.clone().into(), Scales::Tensor(0.37))?;
        let scales = (0..ROWS * COLS.div_ceil(GROUP)).map(|_| random.float()).collect();
        let scales = Scales::Group { size: GROUP, scales };
        let mut codes = QuantizedRows::new(&pool, TOKENS, COLS).map_err(memory)?;
        (0..TOKENS).for_each(|token| extreme_codes(&mut random, &mut codes, token));
        let x: Vec<f32> = (0..TOKENS * COLS).map(|_| random.float()).collect();
        let mut blocks = QuantizedRows::new(&pool, FEW, COLS).map_err(memory)?;
        x.chunks(COLS).take(FEW).enumerate().for_each(|(token, x)| blocks.quantize_blocks(token, x));
        let mut hidden = Probes::new(&pool, HIDDEN, HEAD_COLS).map_err(memory)?;
        for token in 0..HIDDEN {
            hidden.set(token, &x[token * HEAD_COLS..][..HEAD_COLS]);
        }
        let chunk = Kernel::kv_chunk_len(HEAD_DIM);
        Ok(Self {
            groups: PackedTernary::from_strips(ROWS, COLS, bytes.into(), scales)?,
            base3: PackedBase3::new(&strips, &pool, &threads)?,
            rows: TernaryLines::new(&strips, Axis::Rows, &pool, &threads)?,
            columns: TernaryLines::new(&strips, Axis::Columns, &pool, &threads)?,
            head: head(&x)?,
            f16s: (0..chunk).map(|_| f16::from_f32(random.float())).collect(),
            int8s: (0..Kernel::kv_codes_len(HEAD_DIM)).map(|_| random.next() as u8).collect(),
            steps: (0..Kernel::KV_STEPS).map(|_| 0.01 * random.float()).collect(),
            stored: (0..4 * 210).map(|_| random.next() as u8 & 0xbf).collect(),
            strips,
            codes,
            blocks,
            x,
            hidden,
        })
    }

    fn products(&self, kernel: &Kernel, tokens: usize) -> Vec<u32> {
        output(tokens, |out| kernel.matmul(&self.strips, &self.codes, Activations::Int8PerToken, 0, out))
    }

    fn groups(&self, kernel: &Kernel) -> Vec<u32> {
        let int8 = |x, form, tokens| output(tokens, |out| kernel.matmul(&self.groups, x, form, 0, out));
        let float = output(2, |out| kernel.matmul_float(&self.groups, &self.x[..2 * COLS], 0, out));
        [
            int8(&self.codes, Activations::Int8PerToken, 1),
            int8(&self.codes, Activations::Int8PerToken, FEW),
            int8(&self.blocks, Activations::Int8PerBlock, FEW),
            float,
        ]
        .concat()
    }

    fn base3(&self, kernel: &Kernel) -> Vec<u32> {
        let mut scratch = vec![0; self.strips.bytes().len()];
        let one = output(1, |out| kernel.matmul_base3(&self.base3, &self.codes, out));
        let tiled = output(FEW, |out| kernel.matmul_base3_tiled(&self.base3, &self.codes, &mut scratch, out));
        [one, tiled].concat()
    }

    fn lines(&self, kernel: &Kernel) -> Vec<u32> {
        let mut gate = self.x[..ROWS].to_vec();
        kernel.gate_live(&self.rows, &self.codes, &mut ColumnsMut::whole(&mut gate, ROWS));
        let mut scratch = vec![0; self.strips.bytes().len()];
        let mut all = bits(&gate);
        for lines in [&self.rows, &self.columns] {
            all.extend(output(1, |out| kernel.matmul_live(lines, &self.codes, out)));
            all.extend(output(FEW, |out| kernel.matmul_lines(lines, &self.codes, &mut scratch, out)));
        }
        all
    }

    fn screen(&self, kernel: &Kernel) -> Vec<u32> {
        let len = self.head.strips() * HIDDEN;
        let (mut bounds, mut peaks) = (vec![[0.0; 32]; len], vec![[0.0; 2]; len]);
        kernel.screen(&self.head, &self.hidden, HIDDEN, 0, &mut bounds, &mut peaks);
        [bits(bounds.as_flattened()), bits(peaks.as_flattened())].concat()
    }

    fn dense(&self, kernel: &Kernel) -> Vec<u32> {
        let (cols, tokens) = (COLS / 2, 3);
        let (w, x) = (&self.x[..ROWS * cols], &self.x[7..][..tokens * cols]);
        let f16s: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
        let bf16s: Vec<bf16> = w.iter().map(|&x| bf16::from_f32(x)).collect();
        [Values::F32(w), Values::F16(&f16s), Values::Bf16(&bf16s)]
            .map(|w| output(tokens, |out| kernel.dense_matmul(w, cols, x, 0, out)))
            .concat()
    }

    /// One block of every type, four rows of it: what instruction sets differ in is how weights are made.
    fn blocks_of_integers(&self, kernel: &Kernel) -> Vec<u32> {
        let mut all = Vec::new();
        for ty in BlockType::ALL {
            let (cols, size) = ty.size();
            let bytes = &self.stored[..4 * size];
            let mut out = [0.0; 4];
            let w = Blocks { ty, cols, bytes };
            kernel.block_vector(w, &self.x[..cols], 0, &mut ColumnsMut::whole(&mut out, 4));
            let mut wide = [0.0; 256];
            kernel.widen_blocks(ty, &bytes[..size], &mut wide[..cols]);
            all.extend(bits(&out));
            all.extend(bits(&wide));
        }
        all
    }

    fn attention(&self, kernel: &Kernel) -> Vec<u32> {
        let (k, v) = self.x[..2 * HEAD_DIM].split_at(HEAD_DIM);
        let (mut f16s, mut int8s, mut steps) = (self.f16s.clone(), self.int8s.clone(), self.steps.clone());
        kernel.store(k, v, 3, KvChunkMut::F16(&mut f16s));
        kernel.store(k, v, 3, KvChunkMut::Int8 { codes: &mut int8s, steps: &mut steps });
        let width = HEADS * HEAD_DIM;
        let one = Queries {
            values: &self.x,
            tokens: 1,
            token_stride: width,
            group: HEADS,
            head_dim: HEAD_DIM,
            position: 77,
            scale: 0.2,
        };
        let block = Queries { tokens: FEW, position: 41, ..one };
        debug_assert!(one.position < ATTENTION_CHUNK);
        let mut all = Vec::new();
        for cache in [KvChunk::F16(&f16s), KvChunk::Int8 { codes: &int8s, steps: &steps }] {
            let mut partial = vec![0.0; Kernel::attention_partial_len(HEADS, HEAD_DIM)];
            kernel.attend_chunk(&one, 0, cache, &mut partial);
            let (mut out, mut states) = (vec![0.0; FEW * width], vec![0.0; FEW * 2 * HEADS]);
            kernel.attend_block(&block, |_| cache, &mut states, &mut ColumnsMut::whole(&mut out, width));
            all.extend(bits(&partial));
            all.extend(bits(&out));
        }
        all
    }

    fn recurrent(&self, kernel: &Kernel) -> Vec<u32> {
        // Values for registers side by side, for one alone, and some beside.
        let (keys, values, taps) = (6, 85, 3);
        let mut state = self.x[..keys * values].to_vec();
        let [q, k, v] = [0, keys, 2 * keys].map(|from| &self.x[COLS + from..]);
        let step = DeltaStep { q: &q[..keys], k: &k[..keys], v: &v[..values], decay: 0.9, beta: 0.4 };
        let mut out = vec![0.0; values];
        kernel.delta_rule(&mut state, step, &mut out);
        let rows: [&[f32]; 6] = std::array::from_fn(|i| &self.x[i * values..][..values]);
        let mut mixed = vec![0.0; values];
        kernel.convolve_silu(&rows[..taps], &rows[taps..], &mut mixed);
        kernel.l2_norm(&mut mixed, 1e-6, 0.25);
        kernel.sigmoid_mul(&mut mixed, &out);
        let mut turned = self.x[..256].to_vec();
        kernel.multiply(&mut turned, &self.x[256..512]);
        kernel.hadamard(&mut turned, 64);
        [bits(&state), bits(&out), bits(&mixed), bits(&turned)].concat()
    }

    fn floats(&self, kernel: &Kernel) -> Vec<u32> {
        let (x, weight) = (&self.x[..COLS], &self.x[COLS..2 * COLS]);
        let mut out = vec![0.0; COLS];
        kernel.rmsnorm(x, weight, 1e-5, &mut out);
        let mut all = bits(&out);
        kernel.silu_mul(&mut out, x);
        kernel.relu2_mul(&mut out, weight);
        kernel.softmax(&mut out);
        all.extend(bits(&out));
        let mut codes = vec![0; COLS.next_multiple_of(64)];
        let (step, sum) = kernel.quantize_into(x, &mut codes);
        let mut halves = vec![f16::ZERO; COLS];
        kernel.round_to_f16(x, &mut halves);
        all.extend([step.to_bits(), sum as u32]);
        all.extend(codes.iter().map(|&code| code as u32));
        all.extend(halves.iter().map(|half| u32::from(half.to_bits())));
        all
    }
}

/// Codes of both strips: the first half of their blocks has the largest code alone.
fn strips(random: &mut Random) -> Vec<u8> {
    let blocks = COLS.div_ceil(PackedTernary::BLOCK_COLS);
    let mut code = || (random.next() >> 8) as u8 % 3;
    let mut byte = || code() | code() << 2 | code() << 4 | code() << 6;
    let of = |i: usize, random: u8| if i / 64 % blocks < blocks / 2 { 0xaa } else { random };
    (0..2 * blocks * 64).map(|i| of(i, byte())).collect()
}

/// The smallest codes first, or the largest ones, then random ones.
fn extreme_codes(random: &mut Random, rows: &mut QuantizedRows, token: usize) {
    let extreme = [-128, 127][token % 2];
    let (codes, steps, sums) = rows.row_mut(token);
    for (i, code) in codes[..COLS].iter_mut().enumerate() {
        *code = if i < COLS / 2 { extreme } else { random.next() as i8 };
    }
    steps.fill(0.01 * (token + 1) as f32);
    sums[0] = codes.iter().map(|&code| i32::from(code)).sum();
}

/// A head whose rows are what is at hand.
fn head(x: &[f32]) -> Result<ScreenTable, QuantError> {
    let shape = QuantError::Shape { rows: ROWS, cols: HEAD_COLS };
    let mut bytes = vec![0; ScreenTable::byte_len(ROWS, HEAD_COLS).ok_or(shape)?];
    let strips = bytes.chunks_mut(ScreenTable::strip_len(HEAD_COLS));
    for (rows, strip) in x[..ROWS * HEAD_COLS].chunks(ScreenTable::STRIP * HEAD_COLS).zip(strips) {
        ScreenTable::encode_strip(rows, HEAD_COLS, strip)?;
    }
    ScreenTable::from_bytes(ROWS, HEAD_COLS, bytes.into())
}

/// What `work` puts into a `[tokens, ROWS]` matrix.
fn output(tokens: usize, work: impl FnOnce(&mut ColumnsMut<'_, f32>)) -> Vec<u32> {
    let mut out = vec![0.0; tokens * ROWS];
    work(&mut ColumnsMut::whole(&mut out, ROWS));
    bits(&out)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
