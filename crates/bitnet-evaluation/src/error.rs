//! Why a model cannot be judged.

use crate::questions::TaskError;

/// What went wrong in judging a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// The engine that runs the model.
    #[error(transparent)]
    Engine(#[from] bitnet_inference::EngineError),
    /// A part of the model.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The file itself.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] bitnet_text::TextError),
    /// A window of perplexity that cannot be.
    #[error("{0}")]
    Window(String),
    /// Masters that are none.
    #[error("{name} is stored as {stored}: masters are floats, as training or the original model has them")]
    NoMasters {
        /// Name of the matrix.
        name: String,
        /// How it is stored.
        stored: String,
    },
    /// Trits were looked for.
    #[error("{name} holds no trits that could be compared")]
    NotTernary {
        /// Name of a matrix or a model.
        name: String,
    },
    /// Two models that cannot be compared.
    #[error(transparent)]
    Mismatch(#[from] MismatchError),
    /// A question that cannot be asked.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Why two models cannot be compared token by token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MismatchError {
    /// Different numbers of logits.
    #[error(
        "the models cannot be compared: one has a vocabulary of {model} tokens, the other of {reference}"
    )]
    Vocabulary {
        /// Of the model.
        model: usize,
        /// Of the reference.
        reference: usize,
    },
    /// An id that means two things.
    #[error(
        "the models cannot be compared, their tokenizers differ: token {id} is {model:?} for one and {reference:?} for the other"
    )]
    Token {
        /// The first such id.
        id: u32,
        /// What the model's tokenizer says.
        model: String,
        /// What the reference's says.
        reference: String,
    },
    /// A text that is cut in two ways.
    #[error(
        "the models cannot be compared, their tokenizers cut this text differently, from its token {at} on"
    )]
    Cut {
        /// The first token that differs.
        at: usize,
    },
    /// Texts begin in two ways.
    #[error(
        "the models cannot be compared, their texts begin differently: one with token {model:?}, the other with {reference:?}"
    )]
    Beginning {
        /// The model's first token.
        model: Option<u32>,
        /// The reference's.
        reference: Option<u32>,
    },
    /// Matrices of different shapes.
    #[error(
        "the models cannot be compared: {name} has rows and columns {theirs:?} in the other, and {ours:?} here"
    )]
    Matrix {
        /// Its name.
        name: String,
        /// Rows and columns in the model.
        ours: [usize; 2],
        /// Rows and columns in the other.
        theirs: [usize; 2],
    },
}
