//! The CPU backend: the specification of every operation, on the kernel that suits this machine.

use std::{ops::Range, sync::Arc};

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};
use bitnet_kernels::Kernel;
use bitnet_quant::{Activations, Axis, PackedTernary, QuantizedRows, ScreenTable};

use crate::{
    Backend, GateActivation, HeadChoice, Job, KvShape, MatrixForm, ModelError, Need, Part, ScreenCounts,
    Span, Support, Weight,
};

mod attention;
mod cache;
mod feed_forward;
mod matrix;
mod screen;

pub use attention::AttentionScratch;
pub use cache::{KvCache, KvType};
pub use matrix::Matrix;
pub use screen::{Screen, ScreenRoom};

/// Elements that are worth waking a second thread for, in operations on floats.
const ELEMENTS_PER_CHUNK: usize = 8192;

/// Main memory and the processor's vector units.
#[derive(Clone)]
pub struct Cpu {
    kernel: &'static Kernel,
    threads: Arc<ThreadPool>,
    pool: HybridMemoryPool,
    kv: KvType,
    rows_per_chunk: usize,
    copies_mapped: bool,
    head: HeadChoice,
    stock: Arc<matrix::Stock<u8>>,
    /// Where products of second planes wait.
    sums: Arc<matrix::Stock<f32>>,
}

/// f32 rows.
pub struct Rows {
    data: Buffer<f32>,
    width: usize,
}

impl Rows {
    fn of(&self, tokens: usize) -> &[f32] {
        &self.data[..tokens * self.width]
    }

    fn of_mut(&mut self, tokens: usize) -> &mut [f32] {
        &mut self.data[..tokens * self.width]
    }

    fn row(&self, token: usize) -> &[f32] {
        &self.data[token * self.width..(token + 1) * self.width]
    }
}

impl Cpu {
    /// Output rows that a thread takes at a time when nobody has measured: 8 strips, some 80 KB of weights at 2,560 columns. Small enough to
    /// share out evenly, large enough to stream.
    pub const ROWS_PER_CHUNK: usize = 8 * PackedTernary::STRIP;

    /// A backend of that kernel, those threads and that memory.
    pub fn new(kernel: &'static Kernel, threads: Arc<ThreadPool>, pool: HybridMemoryPool) -> Self {
        Self {
            kernel,
            threads,
            pool,
            kv: KvType::default(),
            rows_per_chunk: Self::ROWS_PER_CHUNK,
            copies_mapped: false,
            head: HeadChoice::Auto,
            stock: Arc::default(),
            sums: Arc::default(),
        }
    }

    /// The same, with keys and values of new sequences kept as `kv`.
    #[must_use]
    pub fn with_kv(self, kv: KvType) -> Self {
        Self { kv, ..self }
    }

    /// How keys and values of new sequences are kept.
    pub fn kv_type(&self) -> KvType {
        self.kv
    }

    /// The same, whose threads take that many output rows at a time (rounded up to whole strips).
    pub fn rows_per_chunk(self, rows: usize) -> Self {
        Self { rows_per_chunk: rows.max(1).next_multiple_of(PackedTernary::STRIP), ..self }
    }

    /// The same, which copies matrices of trits out of mapped files into the pool's pages when it is given them: that takes
    /// memory and a moment, and a stream from huge pages is faster.
    pub fn copying_mapped(self, copies_mapped: bool) -> Self {
        Self { copies_mapped, ..self }
    }

    /// The same with other threads.
    pub fn with_threads(&self, threads: Arc<ThreadPool>) -> Self {
        Self { threads, ..self.clone() }
    }

    /// The same with another choice of head.
    pub fn with_head(self, head: HeadChoice) -> Self {
        Self { head, ..self }
    }

    /// The kernel in use.
    pub fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// The threads in use.
    pub fn threads(&self) -> &ThreadPool {
        &self.threads
    }

    /// The memory in use.
    pub fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    /// Calls `work(token, row)` for rows of `width`, several at a time where they are short.
    fn each_row(&self, rows: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        let per_chunk = (ELEMENTS_PER_CHUNK / width).max(1);
        self.threads.for_each_chunk_mut(rows, per_chunk * width, |chunk, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                work(chunk * per_chunk + i, row);
            }
        });
    }
}

impl Backend for Cpu {
    type Matrix = Matrix;
    type Vector = Buffer<f32>;
    type Rows = Rows;
    type Codes = QuantizedRows;
    type Kv = KvCache;
    type Scratch = AttentionScratch;
    type Screen = Screen;
    type ScreenRoom = ScreenRoom;

    fn matrix(&self, _: Part, name: &str, weight: Weight, form: MatrixForm) -> Result<Matrix, ModelError> {
        self.place(name, weight, form)
    }

    fn vector(&self, values: &[f32]) -> Result<Buffer<f32>, ModelError> {
        let mut buffer = self.pool.allocate(Purpose::Weights, values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    fn is_ternary(&self, matrix: &Matrix) -> bool {
        !matches!(matrix, Matrix::Table(_))
    }

    fn skips_rows(&self, matrix: &Matrix) -> bool {
        matches!(matrix, Matrix::Lines(w) if w.axis() == Axis::Rows)
    }

    fn bytes_read(&self, matrix: &Matrix) -> usize {
        match matrix {
            Matrix::Ternary(w) => w.bytes().len(),
            Matrix::Base3(w) => w.bytes().len(),
            Matrix::Lines(w) => w.bytes().len(),
            Matrix::Planes(planes) => planes.iter().map(|w| w.bytes().len()).sum(),
            Matrix::Table(t) => t.byte_len(),
        }
    }

    fn kv_bytes(&self, kv: &KvCache) -> usize {
        kv.bytes_per_position()
    }

    fn rows(&self, capacity: usize, width: usize) -> Result<Rows, ModelError> {
        let data = self.pool.allocate(Purpose::State, capacity.saturating_mul(width))?;
        Ok(Rows { data, width })
    }

    fn codes(&self, capacity: usize, width: usize) -> Result<QuantizedRows, ModelError> {
        Ok(QuantizedRows::new(&self.pool, capacity, width)?)
    }

    fn kv(&self, shape: KvShape) -> Result<KvCache, ModelError> {
        KvCache::new(&self.pool, shape, self.kv)
    }

    fn copy_kv(&self, from: &KvCache, positions: usize, to: &mut KvCache) -> Result<(), ModelError> {
        to.copy_from(from, positions)
    }

    fn scratch(&self, shape: KvShape, heads: usize, tokens: usize) -> Result<AttentionScratch, ModelError> {
        AttentionScratch::new(&self.pool, shape, heads, tokens)
    }

    fn read<'a>(&self, rows: &'a Rows, tokens: usize) -> &'a [f32] {
        rows.of(tokens)
    }

    fn embed(&self, table: &Matrix, ids: &[u32], out: &mut Rows) {
        let width = out.width;
        self.each_row(out.of_mut(ids.len()), width, |token, row| {
            let id = ids[token] as usize;
            match table {
                Matrix::Ternary(w) => w.row_to_f32(id, row),
                Matrix::Base3(w) => w.row_to_f32(id, row),
                Matrix::Lines(w) => w.row_to_f32(id, row),
                Matrix::Planes(planes) => {
                    planes[0].row_to_f32(id, row);
                    // Single weights, far from any hot loop.
                    let mut second = vec![0.0; row.len()];
                    planes[1].row_to_f32(id, &mut second);
                    self.kernel.add(row, &second);
                }
                Matrix::Table(t) => t.row_to_f32(id, row),
            }
        });
    }

    fn output_rows(&self, x: &Rows, spans: &[Span<'_, KvCache>], out: &mut Rows) {
        let width = x.width;
        let (mut end, mut first) = (0, 0);
        for span in spans {
            end += span.tokens;
            let count = span.outputs();
            let rows = &x.data[(end - count) * width..end * width];
            out.data[first * width..(first + count) * width].copy_from_slice(rows);
            first += count;
        }
    }

    fn rms_norm(&self, x: &Rows, tokens: usize, weight: &Buffer<f32>, eps: f32, out: &mut Rows) {
        let width = x.width;
        self.each_row(out.of_mut(tokens), width, |token, row| {
            self.kernel.rmsnorm(x.row(token), weight, eps, row);
        });
    }

    fn rms_norm_heads(&self, x: &mut Rows, tokens: usize, weight: &Buffer<f32>, eps: f32) {
        self.each_row(x.of_mut(tokens), weight.len(), |_, head| {
            self.kernel.rmsnorm_in_place(head, weight, eps);
        });
    }

    fn quantize(&self, x: &Rows, tokens: usize, form: Activations, out: &mut QuantizedRows) {
        let per_chunk = (ELEMENTS_PER_CHUNK / x.width).max(1);
        out.for_each_token_mut(&self.threads, tokens, per_chunk, |token, codes, steps, sums| match form {
            Activations::Int8PerBlock => {
                self.kernel.quantize_blocks_into(x.row(token), codes, steps, sums);
            }
            _ => (steps[0], sums[0]) = self.kernel.quantize_into(x.row(token), codes),
        });
    }

    fn project(
        &self,
        x: &Rows,
        codes: &QuantizedRows,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Self>],
    ) {
        assert!(jobs.len() <= 3, "a step has at most three projections");
        if let [Job { weight: Matrix::Lines(w), bias, out }] = jobs
            && w.axis() == Axis::Columns
        {
            assert!(form == Activations::Int8PerToken, "lines take activations of one step per token");
            self.multiply_columns(w, codes, out, tokens);
            if let Some(bias) = bias {
                let width = out.width;
                self.each_row(out.of_mut(tokens), width, |_, row| self.kernel.add(row, bias));
            }
            return;
        }
        let (mut weights, mut biases) = ([None; 3], [None; 3]);
        for (job, (weight, bias)) in jobs.iter().zip(weights.iter_mut().zip(&mut biases)) {
            (*weight, *bias) = (Some(job.weight), job.bias);
        }
        let mut outs = jobs.iter_mut().map(|job| (job.out.width, &mut job.out.data));
        let mut next = || match outs.next() {
            Some((width, data)) => (&mut data[..tokens * width], width),
            None => (&mut [][..], 1),
        };
        let mut matrices = [next(), next(), next()];
        self.threads.for_each_columns_of(&mut matrices, self.rows_per_chunk, |job, mut out| {
            let Some(weight) = weights[job] else { return };
            self.multiply(weight, x, codes, form, &mut out);
            if let Some(bias) = biases[job] {
                let Range { start, end } = out.start()..out.start() + out.width();
                for token in 0..tokens {
                    self.kernel.add(out.row(token), &bias[start..end]);
                }
            }
        });
    }

    fn screen(&self, head: &Matrix, stored: Option<ScreenTable>) -> Result<Option<Screen>, ModelError> {
        Screen::new(self, head, stored)
    }

    fn screen_bytes(&self, screen: &Screen) -> usize {
        screen.bytes_read()
    }

    fn screen_room(&self, screen: &Screen, capacity: usize) -> Result<ScreenRoom, ModelError> {
        screen.room(self, capacity)
    }

    fn find(
        &self,
        screen: &Screen,
        head: &Matrix,
        x: &Rows,
        needs: &[Need<'_>],
        room: &mut ScreenRoom,
    ) -> bool {
        screen.find(self, head, x, needs, room)
    }

    fn support<'a>(&self, room: &'a ScreenRoom, position: usize) -> Option<Support<'a>> {
        room.support(position)
    }

    fn screen_counts(&self, room: &ScreenRoom) -> ScreenCounts {
        room.counts()
    }

    fn angles(&self, frequencies: &Buffer<f32>, factor: f32, spans: &[Span<'_, KvCache>], out: &mut Rows) {
        let mut rows = out.data.chunks_exact_mut(out.width);
        for span in spans {
            let first = span.sequence.len();
            for (position, row) in (first..first + span.tokens).zip(&mut rows) {
                let (cos, sin) = row.split_at_mut(frequencies.len());
                for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies.iter()) {
                    // The angle is rounded to f32 as in the models' own code; its functions are libm's in f64,
                    // rounded once, so that every platform has the same bits, and rounded again when they are scaled.
                    let angle = f64::from(position as f32 * frequency);
                    (*cos, *sin) = (libm::cos(angle) as f32 * factor, libm::sin(angle) as f32 * factor);
                }
            }
        }
    }

    fn rope(&self, x: &mut Rows, tokens: usize, angles: &Rows) {
        let (width, head_dim) = (x.width, angles.width);
        self.each_row(x.of_mut(tokens), width, |token, row| {
            let (cos, sin) = angles.row(token).split_at(head_dim / 2);
            row.chunks_exact_mut(head_dim).for_each(|head| self.kernel.rope(head, cos, sin));
        });
    }

    fn append(&self, layer: usize, k: &Rows, v: &Rows, spans: &mut [Span<'_, KvCache>]) {
        let mut first = 0;
        for span in spans {
            let start = span.sequence.len();
            let of = |rows: &'_ Rows| first * rows.width..(first + span.tokens) * rows.width;
            let rows = (&k.data[of(k)], &v.data[of(v)]);
            span.sequence.kv.append((self.kernel, &self.threads), layer, start, rows);
            first += span.tokens;
        }
    }

    fn attend(
        &self,
        layer: usize,
        q: &Rows,
        spans: &[Span<'_, KvCache>],
        scratch: &mut AttentionScratch,
        out: &mut Rows,
    ) {
        attention::attend(self, layer, q, spans, scratch, out);
    }

    fn gate(&self, activation: GateActivation, gate: &mut Rows, up: &Rows, tokens: usize) {
        self.threads.for_each_chunk_mut(gate.of_mut(tokens), ELEMENTS_PER_CHUNK, |chunk, gate| {
            let up = &up.data[chunk * ELEMENTS_PER_CHUNK..][..gate.len()];
            match activation {
                GateActivation::Silu => self.kernel.silu_mul(gate, up),
                GateActivation::SquaredRelu => self.kernel.relu2_mul(gate, up),
            }
        });
    }

    fn gate_live(&self, up: &Matrix, x: &QuantizedRows, gate: &mut Rows, spare: &mut Rows, tokens: usize) {
        match up {
            Matrix::Lines(w) if w.axis() == Axis::Rows => self.gate_rows(w, x, gate, spare, tokens),
            _ => unreachable!("`skips_rows` is asked first"),
        }
    }

    fn add(&self, x: &mut Rows, y: &Rows, tokens: usize) {
        self.threads.for_each_chunk_mut(x.of_mut(tokens), ELEMENTS_PER_CHUNK, |chunk, x| {
            self.kernel.add(x, &y.data[chunk * ELEMENTS_PER_CHUNK..][..x.len()]);
        });
    }
}
