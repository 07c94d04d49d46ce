//! Why a model cannot be quantized.

/// What stands in the way, naming the matrix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The model that is read, or one that is made on the way.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The file that is written.
    #[error(transparent)]
    Convert(#[from] bitnet_convert::ConvertError),
    /// No kernel runs here.
    #[error(transparent)]
    Kernel(#[from] bitnet_kernels::KernelError),
    /// The matrix holds trits already.
    #[error("'{name}' is ternary already: post-training quantization takes the float model")]
    Ternary {
        /// Its name in the file.
        name: String,
    },
    /// A weight is no number.
    #[error("'{name}' holds a weight that is not finite")]
    NotFinite {
        /// Its name in the file.
        name: String,
    },
    /// Blocks need whole rows of them.
    #[error("'{name}' has rows of {cols} weights, and integers come in whole blocks of {block}")]
    Blocks {
        /// Its name in the file.
        name: String,
        /// Its columns.
        cols: usize,
        /// Weights of a block.
        block: usize,
        /// Whether it is the embedding or the head, which `tables` speaks of.
        table: bool,
    },
    /// Feedback needs text.
    #[error(
        "this method looks at activations: give it calibration text of at least {least} tokens, not {got}"
    )]
    Text {
        /// Tokens that are the least.
        least: usize,
        /// Tokens there are.
        got: usize,
    },
    /// Inputs of a projection that no arithmetic can use.
    #[error(
        "the inputs of '{name}' on the calibration text give no usable statistics: more text, or a larger --damping"
    )]
    Statistics {
        /// Its name in the file.
        name: String,
    },
    /// The budget is smaller than the smallest choice.
    #[error("a budget of {budget} bytes is too small: one plane everywhere takes {least}")]
    Budget {
        /// What was asked for.
        budget: u64,
        /// The least that is possible.
        least: u64,
    },
    /// An option that cannot be.
    #[error("{what}: expected {expected}, got {got}")]
    Option {
        /// Which.
        what: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
}
