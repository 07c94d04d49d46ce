//! Why a model cannot be put on a device, or a step cannot be made.

use bitnet_device::{DeviceError, SequenceError};
use bitnet_model::ModelError;

/// What went wrong in loading or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Sequences that a step cannot continue.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A token that the vocabulary does not have.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    Token {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
}
