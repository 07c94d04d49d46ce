//! Why a benchmark stops.

/// What went wrong, or who ended it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// The model on its device, or a step.
    #[error(transparent)]
    Decoder(#[from] bitnet_decoder::DecoderError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The model's files cannot be read or written.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// The kernel that was asked for cannot run here.
    #[error(transparent)]
    Kernel(#[from] bitnet_kernels::KernelError),
    /// There is not enough memory, or a size does not fit.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// No published shape has that name.
    #[error("no shape is named '{name}'; there are {known}")]
    Shape {
        /// The name that was asked for.
        name: String,
        /// The names of all shapes, separated by commas.
        known: String,
    },
    /// A logit is infinite or NaN, so the measurement is worth nothing.
    #[error("{test} with {threads} threads, depth {depth} and batch {batch} gave logits that are not finite")]
    NotFinite {
        /// Which test ran: `pp` or `tg`.
        test: String,
        /// Threads that the test ran on.
        threads: usize,
        /// Positions that every sequence held before.
        depth: usize,
        /// Sequences that ran together.
        batch: usize,
    },
    /// Two runs of the same work with different results.
    #[error(
        "{test} at depth {depth} and batch {batch} gave {got:016x} with {threads} threads, and {expected:016x} before: \
         results must not depend on threads or repetitions"
    )]
    Checksum {
        /// Which test ran: `pp` or `tg`.
        test: String,
        /// Threads of the run that differs.
        threads: usize,
        /// Positions that every sequence held before.
        depth: usize,
        /// Sequences that ran together.
        batch: usize,
        /// The checksum of logits that the first run gave.
        expected: u64,
        /// The checksum of logits that this run gave.
        got: u64,
    },
    /// More threads than the system grants.
    #[error("{asked} threads were asked for and the system grants {granted}")]
    Threads {
        /// The number of threads asked for.
        asked: usize,
        /// The number of threads that could be started.
        granted: usize,
    },
    /// A matrix that does not fit the format.
    #[error("tensor '{tensor}': {source}")]
    Encode {
        /// The tensor that cannot be written.
        tensor: String,
        /// Why the format cannot hold the tensor.
        source: bitnet_format::encode::EncodeError,
    },
    /// The plan has nothing to measure.
    #[error("there is nothing to measure: the plan has no {what}")]
    Empty {
        /// What the model lacks for a GGUF file.
        what: &'static str,
    },
    /// The watcher wanted the run to end.
    #[error("stopped")]
    Stopped,
}
