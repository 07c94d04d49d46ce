//! Why a device could not do its work.

use bitnet_model::ModelError;

/// Why a device could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Memory.
    #[error(transparent)]
    Memory(#[from] bitnet_core::Error),
    /// A matrix or sizes of a model that this device cannot hold or compute with.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device itself.
    #[error("the device failed at {operation}: {reason}")]
    Failed {
        /// What it was doing.
        operation: &'static str,
        /// What it says.
        reason: String,
    },
}
