//! Why a model cannot be quantized.

/// What stands in the way, naming the matrix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The model that is read, or one that is made on the way.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// The model on its device, or a step.
    #[error(transparent)]
    Decoder(#[from] bitnet_decoder::DecoderError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The file could not be written.
    #[error(transparent)]
    Convert(#[from] bitnet_convert::ConvertError),
    /// No kernel of this build runs on this machine.
    #[error(transparent)]
    Kernel(#[from] bitnet_kernels::KernelError),
    /// The matrix holds trits already.
    #[error("'{name}' is ternary already: post-training quantization takes the float model")]
    Ternary {
        /// The matrix's name in the file that is read.
        name: String,
    },
    /// A weight is infinite or NaN.
    #[error("'{name}' holds a weight that is not finite")]
    NotFinite {
        /// The matrix's name in the file that is read.
        name: String,
    },
    /// Blocks need whole rows of them.
    #[error("'{name}' has rows of {cols} weights, and integers come in whole blocks of {block}")]
    Blocks {
        /// The matrix's name in the file that is read.
        name: String,
        /// Columns of the matrix.
        cols: usize,
        /// Weights in one block, which columns must be a multiple of.
        block: usize,
        /// Whether it is the embedding or the head, which `tables` speaks of.
        table: bool,
    },
    /// Error feedback was asked for without enough text to take statistics of.
    #[error(
        "this method looks at activations: give it calibration text of at least {least} tokens, not {got}"
    )]
    Text {
        /// The fewest tokens that are enough.
        least: usize,
        /// The tokens that the text has.
        got: usize,
    },
    /// Inputs of a projection that no arithmetic can use.
    #[error(
        "the inputs of '{name}' on the calibration text give no usable statistics: more text, or a larger --damping"
    )]
    Statistics {
        /// The matrix's name in the file that is read.
        name: String,
    },
    /// The budget is smaller than the smallest choice.
    #[error("a budget of {budget} bytes is too small: one plane everywhere takes {least}")]
    Budget {
        /// The budget that was given, in bytes.
        budget: u64,
        /// The smallest budget that can be met, in bytes.
        least: u64,
    },
    /// An option has a value outside its range.
    #[error("{what}: expected {expected}, got {got}")]
    Option {
        /// The option's name.
        what: &'static str,
        /// The values that it may have.
        expected: String,
        /// The value that was given.
        got: String,
    },
}
