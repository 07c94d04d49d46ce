//! The one error type of this crate.

/// What can go wrong between text and token ids.
///
/// Nothing here is a panic in disguise: files and templates from outside are checked before use, and each refusal says
/// which part of the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The bytes are not the JSON a tokenizer.json must be.
    #[error("tokenizer.json cannot be read: {0}")]
    Json(String),
    /// A part of a tokenizer contradicts itself or the rest of the file.
    #[error("{part}: {reason}")]
    Invalid {
        /// Where in the file: `model.merges`, `tokenizer.ggml.tokens`, ...
        part: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// A part of a tokenizer is well formed but of a kind this crate does not do.
    #[error("{part} `{found}` is not supported (supported: {supported})")]
    Unsupported {
        /// The section or key of the file.
        part: &'static str,
        /// The kind that the file asks for.
        found: String,
        /// The kinds that would be read, separated by commas.
        supported: &'static str,
    },
    /// `tokenizer.ggml.pre` names a splitter that is not in the table.
    #[error("tokenizer.ggml.pre `{found}` names an unknown splitter; known are: {known}")]
    UnknownSplitter {
        /// The name as it stands in the file.
        found: String,
        /// All names of [`crate::splitter_names`], separated by commas.
        known: String,
    },
    /// The tokenizer accepted the file but fails on this text.
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
    /// A conversation that no template may see, for example a role with control characters.
    #[error("message {index}: {reason}")]
    Message {
        /// Position in the conversation, from 0.
        index: usize,
        /// What is wrong with the part.
        reason: String,
    },
    /// The chat template is not valid Jinja or fails while it runs.
    #[error("chat template: {0}")]
    Template(String),
    /// The template itself called `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template wanted more steps or more text than any honest one needs.
    #[error("chat template exceeds its limit of {0}")]
    Limit(String),
}

impl TextError {
    pub(crate) fn invalid(part: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { part, reason: reason.into() }
    }
}
