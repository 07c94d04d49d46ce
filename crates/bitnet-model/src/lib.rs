//! The BitNet decoder: configuration, model families, weights, and the backend that runs them.
//!
//! - [`Config`]: sizes, constants, and the few switches in which families differ.
//! - [`family`]: one table of names per family and file convention.
//! - [`Source`]: a model's parts, read from a checkpoint through its family's table.
//! - [`Model`]: the decoder, written so that [`decoder`](Model::forward) reads like the paper.
//! - [`Backend`]: what a device must do for it, and [`Cpu`], which is the specification.
//!
//! Invariants: no `unsafe`, no clock, no sampling, no text. A forward pass allocates nothing, and a row's result does
//! not depend on what shares the batch, on threads, or on the kernel.

#![forbid(unsafe_code)]

mod adapter;
mod backend;
mod config;
mod cpu;
mod decoder;
mod error;
pub mod family;
mod json;
mod layout;
mod linear;
mod load;
mod open;
mod parts;
mod rope;
mod source;
mod stage;
mod support;
mod table;
mod traffic;
mod watched;

pub use adapter::{Adapted, Adapter};
pub use backend::{Backend, Job, KvShape, Output, Sequence, Span, Weight};
pub use config::{ActivationChoice, Config, GateActivation};
pub use cpu::{Cpu, KvType};
pub use decoder::{Block, Model, State, Weights};
pub use error::ModelError;
pub use layout::{Facts, Layout, LayoutPlan, MatrixForm, Sparsity, WORTH_SKIPPING, Wishes};
pub use linear::{Activated, BitLinear};
pub use load::Progress;
pub use open::open;
pub use parts::{Norm, Part, PartSource, Projection};
pub use rope::{Rope, RopeScaling, Yarn};
pub use source::{Learned, Source};
pub use stage::Stage;
pub use support::{HeadChoice, Need, Outcome, ScreenCounts, Support};
pub use table::Table;
pub use traffic::Traffic;
pub use watched::{Operation, Watch, Watched};
