//! What a model asks of a device.
//!
//! A [`Device`] sits at the level of transformer operations: not a tensor library, not a whole forward pass. A step is a
//! [`Pass`]: the host begins it with one upload ([`Batch`]), calls its operations, and submits it. A device may compute
//! each operation at once, as the CPU does, or record them and run them when the pass is submitted; nothing is read back
//! in between. The CPU is the specification; any other device proves itself by equal results (`bitnet-conformance`).
//!
//! Activations are `rows`: `[tokens, width]` in f32, where `tokens` are the positions of one step. All buffers are made
//! before; no operation allocates.
//!
//! **Failure.** Operations return nothing: a device that fails in one keeps the first error, lets the following operations
//! be, and returns the error from [`Pass::submit`] or from [`Pending::wait`]. The sequences are then as they were.

#![forbid(unsafe_code)]

mod batch;
mod counted;
mod device;
mod error;
mod observe;
mod page;
mod sequences;
mod stage;
mod states;
mod support;
mod watched;
mod without;

pub use batch::{Batch, Output, Place, Recurrence, Span};
pub use device::{
    Device, Finished, Gated, Job, KvShape, Needs, Pass, Pending, Recur, RecurrentShape, Screening,
    SequenceShape, Skipping, Transform,
};
pub use error::{DeviceError, SequenceError};
pub use observe::{Looking, Observe};
pub use page::{PAGE, PageId, PageUse, SequenceId, StateId};
pub use sequences::{PageStore, SequenceSizes, Sequences};
pub use stage::Stage;
pub use support::{Choose, Need, ScreenCounts, Support};
pub use watched::{Operation, Watch, Watched, WatchedPass, WatchedScreen, WatchedSkip};
pub use without::{NoScreen, NoSkip};
