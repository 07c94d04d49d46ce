//! The float operations around the products, in microseconds and GB/s of what they read.

use bitnet_core::{HybridMemoryPool, Purpose, tensor::Values, threads::ColumnsMut};
use bitnet_kernels::{ATTENTION_CHUNK, Kernel, KvChunk, Queries};
use bitnet_quant::{Activations, PackedTernary, QuantizedRows, Scales};
use half::{bf16, f16};

use super::{cpu, recurrent};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Best seconds of many runs of `work`.
fn best(mut work: impl FnMut()) -> f64 {
    (0..400).map(|_| cpu(&mut work)).fold(f64::MAX, f64::min)
}

fn report(what: &str, bytes: usize, seconds: f64) {
    println!("{what}: {:.2} us, {:.1} GB/s", seconds * 1e6, bytes as f64 / seconds * 1e-9);
}

pub(super) fn run(kernel: &'static Kernel, attention_alone: bool) -> Outcome {
    let pool = HybridMemoryPool::new();
    if attention_alone {
        return attention(kernel, &pool);
    }
    vectors(kernel);
    recurrent::run(kernel);
    dense(kernel, &pool)?;
    attention(kernel, &pool)?;
    blocks(kernel, &pool)
}

fn vectors(kernel: &Kernel) {
    for n in [2560, 6912] {
        let x: Vec<f32> = (0..n).map(|i| (i % 97) as f32 - 48.0).collect();
        let weight = vec![1.0; n];
        let (mut codes, mut out, mut gate) = (vec![0; n.next_multiple_of(64)], vec![0.0; n], x.clone());
        report(&format!("rmsnorm {n}"), 4 * n, best(|| kernel.rmsnorm(&x, &weight, 1e-5, &mut out)));
        let quantize = best(|| {
            kernel.quantize_into(&x, &mut codes);
        });
        report(&format!("quantize {n}"), 4 * n, quantize);
        report(&format!("relu2 {n}"), 8 * n, best(|| kernel.relu2_mul(&mut gate, &x)));
        gate.copy_from_slice(&x);
        report(&format!("silu {n}"), 8 * n, best(|| kernel.silu_mul(&mut gate, &x)));
        report(&format!("add {n}"), 8 * n, best(|| kernel.add(&mut out, &x)));
        report(&format!("softmax {n}"), 4 * n, best(|| kernel.softmax(&mut out)));
    }
}

/// Rows of a head, in the second-level cache.
fn dense(kernel: &Kernel, pool: &HybridMemoryPool) -> Outcome {
    const ROWS: usize = 64;
    const COLS: usize = 2560;
    let x = vec![0.5; 4 * COLS];
    let mut f32s = pool.allocate::<f32>(Purpose::Weights, ROWS * COLS)?;
    f32s.iter_mut().enumerate().for_each(|(i, w)| *w = (i % 31) as f32 * 0.25 - 3.0);
    let f16s: Vec<f16> = f32s.iter().map(|&w| f16::from_f32(w)).collect();
    let bf16s: Vec<bf16> = f32s.iter().map(|&w| bf16::from_f32(w)).collect();
    for (name, w, size) in
        [("f32", Values::F32(&f32s), 4), ("f16", Values::F16(&f16s), 2), ("bf16", Values::Bf16(&bf16s), 2)]
    {
        for tokens in [1, 4] {
            let mut out = vec![0.0; tokens * ROWS];
            let seconds = best(|| {
                let mut out = ColumnsMut::whole(&mut out, ROWS);
                kernel.dense_matmul(w, COLS, &x[..tokens * COLS], 0, &mut out);
            });
            report(&format!("dense {name} {ROWS} rows, {tokens} tokens"), size * ROWS * COLS, seconds);
        }
    }
    Ok(())
}

/// Key heads of 2B-4T: four query heads of 128, a full chunk each. A decoding token's chunk once from cache and once from
/// memory; then 16 tokens of a prompt together.
fn attention(kernel: &Kernel, pool: &HybridMemoryPool) -> Outcome {
    const DIM: usize = 128;
    const GROUP: usize = 4;
    const TOKENS: usize = 16;
    /// More than any cache holds.
    const CHUNKS: usize = 1024;
    let len = Kernel::kv_chunk_len(DIM);
    let mut f32s = pool.allocate::<f32>(Purpose::KvCache, CHUNKS * len)?;
    let mut f16s = pool.allocate::<f16>(Purpose::KvCache, CHUNKS * len)?;
    f32s.iter_mut().enumerate().for_each(|(i, w)| *w = (i % 29) as f32 * 0.05 - 0.7);
    f16s.iter_mut().zip(f32s.iter()).for_each(|(half, &w)| *half = f16::from_f32(w));
    let codes_len = Kernel::kv_codes_len(DIM);
    let mut codes = pool.allocate::<u8>(Purpose::KvCache, CHUNKS * codes_len)?;
    codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i % 251) as u8);
    let steps = vec![0.01; Kernel::KV_STEPS];
    let chunk = |kind: usize, i: usize| match kind {
        2 => KvChunk::Int8 { codes: &codes[i * codes_len..(i + 1) * codes_len], steps: &steps },
        0 => KvChunk::F32(&f32s[i * len..(i + 1) * len]),
        _ => KvChunk::F16(&f16s[i * len..(i + 1) * len]),
    };
    let values = vec![0.3; TOKENS * GROUP * DIM];
    let width = GROUP * DIM;
    let one = Queries {
        values: &values,
        tokens: 1,
        token_stride: width,
        group: GROUP,
        head_dim: DIM,
        position: ATTENTION_CHUNK - 1,
        scale: 0.1,
    };
    let block = Queries { tokens: TOKENS, ..one };
    let mut partial = vec![0.0; Kernel::attention_partial_len(GROUP, DIM)];
    let (mut out, mut states) = (vec![0.0; TOKENS * width], vec![0.0; TOKENS * 2 * GROUP]);
    for (kind, (name, bytes)) in
        [("f32", 4 * len), ("f16", 2 * len), ("int8", codes_len)].into_iter().enumerate()
    {
        let seconds = best(|| kernel.attend_chunk(&one, 0, chunk(kind, 0), &mut partial));
        report(&format!("attention chunk {name}, in cache"), bytes, seconds);
        let mut next = 0;
        let runs = 32;
        let seconds = best(|| {
            for _ in 0..runs {
                kernel.attend_chunk(&one, 0, chunk(kind, next % CHUNKS), &mut partial);
                next += 1;
            }
        });
        report(&format!("attention chunk {name}, in memory"), bytes, seconds / f64::from(runs));
        // The last of them sees all of the chunk.
        let queries = Queries { position: ATTENTION_CHUNK - TOKENS, ..block };
        let seconds = best(|| {
            let out = &mut ColumnsMut::whole(&mut out, width);
            kernel.attend_block(&queries, |i| chunk(kind, i), &mut states, out);
        });
        let products = (TOKENS * GROUP * 2 * DIM * (ATTENTION_CHUNK - TOKENS / 2)) as f64;
        println!(
            "attention chunk {name}, {TOKENS} tokens: {:.1} us, {:.1} GFLOPS",
            seconds * 1e6,
            2e-9 * products / seconds
        );
    }
    Ok(())
}

/// Group-scaled weights with a step per block of activations, and float activations.
fn blocks(kernel: &Kernel, pool: &HybridMemoryPool) -> Outcome {
    let (rows, cols) = (256, 2560);
    let len = PackedTernary::byte_len(rows, cols).ok_or("too large")?;
    let scales = Scales::Group { size: 128, scales: vec![0.01; rows * cols / 128] };
    let w = PackedTernary::from_strips(rows, cols, vec![0x62; len].into(), scales)?;
    for tokens in [1, 16] {
        let x: Vec<f32> = (0..tokens * cols).map(|i| (i % 255) as f32 - 127.0).collect();
        let mut codes = QuantizedRows::new(pool, tokens, cols)?;
        x.chunks(cols).enumerate().for_each(|(t, x)| codes.quantize_blocks(t, x));
        let mut out = vec![0.0; tokens * rows];
        let seconds = best(|| {
            let mut out = ColumnsMut::whole(&mut out, rows);
            kernel.matmul(&w, &codes, Activations::Int8PerBlock, 0, &mut out);
        });
        report(&format!("groups of 128, {tokens} tokens"), len, seconds);
        let seconds = best(|| kernel.matmul_float(&w, &x, 0, &mut ColumnsMut::whole(&mut out, rows)));
        report(&format!("float activations, {tokens} tokens"), len, seconds);
    }
    Ok(())
}
