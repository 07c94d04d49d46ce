//! Why a benchmark stops.

/// What went wrong, or who ended it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// The model.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The model's files.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] bitnet_kernels::KernelError),
    /// Memory.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// No published shape has that name.
    #[error("no shape is named '{name}'; there are {known}")]
    Shape {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A logit that is no number.
    #[error("{test} with {threads} threads, depth {depth} and batch {batch} gave logits that are not finite")]
    NotFinite {
        /// What was measured.
        test: String,
        /// Threads.
        threads: usize,
        /// Positions held before.
        depth: usize,
        /// Sequences.
        batch: usize,
    },
    /// Two runs of the same work with different results.
    #[error(
        "{test} at depth {depth} and batch {batch} gave {got:016x} with {threads} threads, and {expected:016x} before: \
         results must not depend on threads or repetitions"
    )]
    Checksum {
        /// What was measured.
        test: String,
        /// Threads of the run that differs.
        threads: usize,
        /// Positions held before.
        depth: usize,
        /// Sequences.
        batch: usize,
        /// Checksum of the first run.
        expected: u64,
        /// Checksum of this one.
        got: u64,
    },
    /// More threads than the system grants.
    #[error("{asked} threads were asked for and the system grants {granted}")]
    Threads {
        /// Threads asked for.
        asked: usize,
        /// Threads there are.
        granted: usize,
    },
    /// A matrix that does not fit the format.
    #[error("tensor '{tensor}': {source}")]
    Encode {
        /// Its name.
        tensor: String,
        /// Why not.
        source: bitnet_format::encode::EncodeError,
    },
    /// The plan has nothing to measure.
    #[error("there is nothing to measure: the plan has no {what}")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// The watcher said stop.
    #[error("stopped")]
    Stopped,
}
