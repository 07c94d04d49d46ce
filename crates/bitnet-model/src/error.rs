//! Why a model cannot be loaded or run.

use std::fmt::Display;

/// What is wrong with a model, naming the tensor or the configuration value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The source of the model's parts, in its own words.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// A configuration value that no model can have, or that is missing.
    #[error("{what} of the model: expected {expected}, got {got}")]
    Config {
        /// Which value.
        what: String,
        /// What it may be.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// A tensor that the model needs is not there.
    #[error("tensor '{name}' is missing")]
    MissingTensor {
        /// Its name in the file.
        name: String,
    },
    /// A tensor has the wrong shape.
    #[error("tensor '{name}': expected shape {expected:?}, got {got:?}")]
    Shape {
        /// Its name in the file.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// Trits or scales of a tensor are not valid.
    #[error("tensor '{name}': {source}")]
    Quant {
        /// Its name in the file.
        name: String,
        /// What is wrong.
        source: bitnet_quant::QuantError,
    },
    /// Memory.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
}

impl ModelError {
    /// A configuration value that cannot be.
    pub fn config(what: impl Display, expected: impl Display, got: impl Display) -> Self {
        Self::Config { what: what.to_string(), expected: expected.to_string(), got: got.to_string() }
    }

    /// Trits or scales of `name`.
    pub fn quant(name: &str) -> impl FnOnce(bitnet_quant::QuantError) -> Self {
        |source| Self::Quant { name: name.to_owned(), source }
    }
}
