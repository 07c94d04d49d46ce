//! Why a model cannot be converted.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::Target;

/// What stands in the way of a conversion, naming the tensor or the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// Reading or writing a model file.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// The model that is read cannot be.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The tokenizer of the model that is read.
    #[error(transparent)]
    Engine(#[from] bitnet_inference::EngineError),
    /// A matrix that the target cannot hold.
    #[error("tensor '{name}' does not fit: {source}. `--to bitnet` and `--to hf-master` hold every model")]
    Encode {
        /// Its name in the file that is read.
        name: String,
        /// What about it does not fit.
        source: bitnet_format::encode::EncodeError,
    },
    /// A model that the target cannot hold.
    #[error("{target} cannot hold this model: {reason}")]
    Refused {
        /// The target that was asked for.
        target: Target,
        /// What it cannot hold, and what can.
        reason: String,
    },
    /// The word names no target.
    #[error("'{word}' is no target: one of {}", Target::ALL.map(|t| t.name()).join(", "))]
    NoSuchTarget {
        /// The word as it was given.
        word: String,
    },
    /// The output exists, and replacing it was not asked for.
    #[error("{path} exists already: give another name, or --force to replace it")]
    Exists {
        /// The path of the output.
        path: PathBuf,
    },
    /// What is there is not an earlier output.
    #[error("{path} is not replaced: {reason}")]
    NotReplaced {
        /// The path of the output.
        path: PathBuf,
        /// Why it is not taken for an earlier output.
        reason: &'static str,
    },
    /// Output and input are the same, or one would destroy the other.
    #[error("writing {output} would destroy {input}, which is being read: give another name")]
    SamePath {
        /// The path of the model that is read.
        input: PathBuf,
        /// The path that would be written.
        output: PathBuf,
    },
    /// The system would not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What was written does not read back as what was read. The output has been removed.
    #[error("the written model does not read back as the same model, and was removed: {what}")]
    Mismatch {
        /// The first difference, with the tensor's name.
        what: String,
    },
}

impl ConvertError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { path: path.into(), source }
    }

    /// The same error; where it was said of the temporary name, it is said of the output.
    pub(crate) fn renamed(self, temporary: &Path, output: &Path) -> Self {
        use bitnet_source::SourceError;
        match self {
            Self::Format(e) => Self::Format(e.renamed(temporary, output)),
            Self::Source(SourceError::Format(e)) => {
                Self::Source(SourceError::Format(e.renamed(temporary, output)))
            }
            other => other,
        }
    }

    pub(crate) fn encode(name: &str) -> impl FnOnce(bitnet_format::encode::EncodeError) -> Self {
        |source| Self::Encode { name: name.into(), source }
    }

    pub(crate) fn quant(name: &str) -> impl FnOnce(bitnet_quant::QuantError) -> Self {
        |source| bitnet_model::ModelError::quant(name)(source).into()
    }
}

impl FromStr for Target {
    type Err = ConvertError;

    fn from_str(word: &str) -> Result<Self, ConvertError> {
        let found = Self::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(word));
        found.ok_or_else(|| ConvertError::NoSuchTarget { word: word.into() })
    }
}
