//! The CPU: the specification of every operation, on the kernel that suits this machine.

use std::sync::Arc;

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};
use bitnet_kernels::Kernel;
use bitnet_quant::{PackedTernary, QuantizedRows};

use crate::{
    Batch, Device, DeviceError, HeadChoice, KvShape, MatrixForm, ModelError, Observe, PageId, Part, Weight,
};

mod attention;
mod feed_forward;
mod matrix;
mod pages;
mod pass;
mod screen;

pub use attention::AttentionScratch;
pub use feed_forward::CpuSkip;
pub use matrix::Matrix;
pub use pages::{KvPages, KvType};
pub use pass::CpuPass;
pub use screen::Screen;

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

    /// A device of that kernel, those threads and that memory.
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

impl Device for Cpu {
    type Matrix = Matrix;
    type Vector = Buffer<f32>;
    type Rows = Rows;
    type Codes = QuantizedRows;
    type Pages = KvPages;
    type Scratch = AttentionScratch;
    type Pass<'a> = CpuPass<'a>;
    type Screen = Screen;
    type Skip = CpuSkip;

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

    fn bytes_read(&self, matrix: &Matrix) -> usize {
        match matrix {
            Matrix::Ternary(w) => w.bytes().len(),
            Matrix::Base3(w) => w.bytes().len(),
            Matrix::Lines(w) => w.bytes().len(),
            Matrix::Planes(planes) => planes.iter().map(|w| w.bytes().len()).sum(),
            Matrix::Table(t) => t.byte_len(),
        }
    }

    fn rows(&self, capacity: usize, width: usize) -> Result<Rows, ModelError> {
        let data = self.pool.allocate(Purpose::State, capacity.saturating_mul(width))?;
        Ok(Rows { data, width })
    }

    fn codes(&self, capacity: usize, width: usize) -> Result<QuantizedRows, ModelError> {
        Ok(QuantizedRows::new(&self.pool, capacity, width)?)
    }

    fn pages(&self, shape: KvShape) -> Result<KvPages, ModelError> {
        KvPages::new(shape, self.kv)
    }

    fn page_bytes(&self, pages: &KvPages) -> usize {
        pages.page_bytes()
    }

    fn add_page(&self, pages: &mut KvPages) -> Result<(), DeviceError> {
        pages.add(&self.pool)
    }

    fn copy_page(&self, pages: &mut KvPages, from: PageId, to: PageId) -> Result<(), DeviceError> {
        pages.copy(from, to);
        Ok(())
    }

    fn scratch(
        &self,
        shape: KvShape,
        heads: usize,
        context: usize,
        tokens: usize,
    ) -> Result<AttentionScratch, ModelError> {
        AttentionScratch::new(&self.pool, shape, heads, context, tokens)
    }

    fn begin<'a>(
        &'a self,
        batch: Batch<'a>,
        pages: &'a mut KvPages,
        observer: Option<&'a mut (dyn Observe + 'a)>,
    ) -> Result<CpuPass<'a>, DeviceError> {
        Ok(CpuPass { cpu: self, batch, pages, observer })
    }

    fn read<'a>(&self, rows: &'a Rows, count: usize) -> &'a [f32] {
        rows.of(count)
    }
}
