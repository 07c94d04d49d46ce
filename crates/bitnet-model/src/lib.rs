//! The BitNet decoder: configuration, parts, weights, and the device that runs them.
//!
//! - [`Config`]: sizes, constants, and the few switches in which families differ.
//! - [`Part`]: what a decoder is made of, by names of our own; [`PartSource`]: where it comes from.
//! - [`Model`]: the decoder, written so that its file reads like the paper.
//! - [`Runner`]: a model at work on its open sequences, step by step.
//! - [`Device`]: what a device must do for it, and [`Cpu`], which is the specification.
//!
//! Invariants: no `unsafe`, no file, no clock, no sampling, no text. A step allocates nothing, and a row's result does
//! not depend on what shares the batch, on threads, or on the kernel.
//!
//! Not here: what files call the parts and how they store them (`bitnet-source`).

#![forbid(unsafe_code)]

mod config;
mod cpu;
mod decoder;
mod device;
mod error;
mod head;
mod layout;
mod linear;
mod load;
mod parts;
mod rope;
mod runner;
mod stage;
mod state;
mod support;
mod table;
mod traffic;
mod watched;
mod weight;

pub use config::{ActivationChoice, Config, GateActivation};
pub use cpu::{Cpu, KvType};
pub use decoder::{Block, Model, Weights};
pub use device::{
    Device, DeviceError, Finished, Job, KvShape, Pass, Pending,
    batch::{Batch, Output, Place, Span},
    observe::{Looking, Observe},
    screening::{Needs, NoScreen, Screening},
    sequences::{PAGE, PageId, PageStore, PageUse, SequenceError, SequenceId, Sequences},
    skipping::{Gated, NoSkip, Skipping},
};
pub use error::ModelError;
pub use layout::{Facts, Layout, LayoutPlan, MatrixForm, Sparsity, WORTH_SKIPPING, Wishes};
pub use linear::{Activated, BitLinear};
pub use load::Progress;
pub use parts::{Norm, Part, PartSource, Projection};
pub use rope::{Rope, RopeScaling, Yarn};
pub use runner::{Runner, RunnerOptions};
pub use stage::Stage;
pub use support::{Choose, HeadChoice, Need, ScreenCounts, Support};
pub use table::Table;
pub use traffic::Traffic;
pub use watched::{Operation, Watch, Watched};
pub use weight::Weight;
