//! The processor: its kernel, its threads, its memory, and how it keeps things.

use std::sync::Arc;

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_kernels::Kernel;
use bitnet_quant::PackedTernary;

use crate::{HeadChoice, KvType, stock::Stock};

/// Elements that are worth waking a second thread for, in operations on floats.
pub(crate) const ELEMENTS_PER_CHUNK: usize = 8192;

/// Main memory and the processor's vector units.
#[derive(Clone)]
pub struct Cpu {
    pub(crate) kernel: &'static Kernel,
    pub(crate) threads: Arc<ThreadPool>,
    pub(crate) pool: HybridMemoryPool,
    pub(crate) kv: KvType,
    pub(crate) rows_per_chunk: usize,
    pub(crate) copies_mapped: bool,
    pub(crate) head: HeadChoice,
    pub(crate) stock: Arc<Stock<u8>>,
    /// Where products of second planes wait.
    pub(crate) sums: Arc<Stock<f32>>,
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
    pub(crate) fn each_row(&self, rows: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        let per_chunk = (ELEMENTS_PER_CHUNK / width).max(1);
        self.threads.for_each_chunk_mut(rows, per_chunk * width, |chunk, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                work(chunk * per_chunk + i, row);
            }
        });
    }
}
