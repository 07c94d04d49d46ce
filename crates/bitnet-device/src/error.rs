//! Why a device could not do its work, or a step cannot be made.

use bitnet_model::ModelError;

use crate::PAGE;

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

/// Why a step over these sequences cannot be made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// A sequence that was closed, or is another model's.
    #[error("the sequence has been closed, or belongs to another model")]
    Closed,
    /// Two spans of one step continue the same sequence.
    #[error("one step was to continue a sequence twice: put its tokens into one span")]
    Twice,
    /// More positions than a sequence may hold.
    #[error("the context is full: {needed} positions are needed, {capacity} are there")]
    ContextFull {
        /// Positions needed.
        needed: usize,
        /// Positions there are.
        capacity: usize,
    },
    /// More pages than the budget allows.
    #[error(
        "sequences have used up their memory: {needed} pages of {PAGE} positions are needed, {free} of {budget} are \
         free; close sequences, or raise the budget"
    )]
    NoPages {
        /// Pages that the step needs.
        needed: usize,
        /// Pages that nobody uses.
        free: usize,
        /// Pages there may be.
        budget: usize,
    },
    /// More recurrent states than the budget has room for beside the pages.
    #[error(
        "sequences have used up their memory: the step needs {states} recurrent states of {state_bytes} bytes beside the \
         pages, of {budget} bytes in all; close sequences, or raise the budget"
    )]
    NoStates {
        /// States that sequences would hold.
        states: usize,
        /// Bytes of each.
        state_bytes: usize,
        /// Bytes there may be.
        budget: usize,
    },
}
