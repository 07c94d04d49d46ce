//! What was measured to be fastest on a machine.

use bitnet_cpu::Cpu;

use crate::PREFILL;

/// How a model is run: choices that change speed and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Threads, the caller's included; all that the machine grants when `None`.
    pub threads: Option<usize>,
    /// Output rows of a matrix that a thread takes at a time.
    pub rows_per_chunk: usize,
    /// Tokens of a prompt that go through the model at once.
    pub prefill: usize,
    /// Whether projections that are packed when the model is loaded are packed in base 3.
    pub base3: bool,
    /// Whether mapped matrices are copied into huge pages when the model is loaded.
    pub huge_pages: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            threads: None,
            rows_per_chunk: Cpu::ROWS_PER_CHUNK,
            prefill: PREFILL,
            base3: false,
            huge_pages: false,
        }
    }
}

/// The CPUs that this process may use.
pub(crate) fn granted_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
