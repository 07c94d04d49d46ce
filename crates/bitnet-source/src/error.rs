//! Why a file cannot be taken for a model.

use std::fmt::Display;

use bitnet_format::FormatError;
use bitnet_model::ModelError;
use bitnet_quant::QuantError;

/// What is wrong with a file, naming the tensor or the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file itself.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A configuration or a part that no model can have.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model that this engine does not know.
    #[error("this is {what}, which this engine does not run: {cure}")]
    Unsupported {
        /// What it is.
        what: String,
        /// What to do instead.
        cure: String,
    },
    /// A model that runs, and that something else than running it knows nothing of.
    #[error("this model has {what}: it runs as it is, and {task} does not know such models yet")]
    OnlyRuns {
        /// What its blocks have beside plain attention, in words.
        what: &'static str,
        /// What refuses it: conversion, quantization or training.
        task: &'static str,
    },
    /// What training leaves behind beside a model.
    #[error("this is an adapter for {base}: give that model, and --adapter {directory}")]
    Adapter {
        /// The model that it belongs to.
        base: String,
        /// Where it lies.
        directory: String,
    },
    /// A tensor whose weights the model's class does not compute with.
    #[error(
        "tensor '{name}'{others} is no part of this model, and leaving it out would change what it computes: {reason}"
    )]
    Unread {
        /// Its name in the file.
        name: String,
        /// How many more of its kind there are, in words; empty for none.
        others: String,
        /// What it is, and what to do.
        reason: String,
    },
    /// Numbers that are infinite or no numbers.
    #[error(
        "tensor '{name}' holds numbers that are not finite: the file is damaged, or training went astray"
    )]
    NotFinite {
        /// Its name in the file.
        name: String,
    },
}

impl SourceError {
    /// A value that cannot be.
    pub(crate) fn config(what: impl Display, expected: impl Display, got: impl Display) -> Self {
        ModelError::config(what, expected, got).into()
    }

    /// A tensor that is not there.
    pub(crate) fn missing(name: impl Into<String>) -> Self {
        ModelError::MissingTensor { name: name.into() }.into()
    }

    /// A tensor of another shape than the configuration asks for.
    pub(crate) fn shape(name: impl Into<String>, expected: &[usize], got: &[usize]) -> Self {
        ModelError::Shape { name: name.into(), expected: expected.to_vec(), got: got.to_vec() }.into()
    }

    /// Trits or scales of `name`.
    pub(crate) fn quant(name: &str) -> impl FnOnce(QuantError) -> Self {
        |source| ModelError::quant(name)(source).into()
    }
}

impl From<SourceError> for ModelError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Model(error) => error,
            other => Self::Source(Box::new(other)),
        }
    }
}
