//! The decoder of BitNet and its relatives, on any device.
//!
//! - [`Model`]: the decoder; its file reads like the papers. [`BitLinear`]: a projection.
//! - [`Model::load`]: from the parts of a source to matrices on a device.
//! - [`Runner`]: a model at work on its open sequences, step by step.
//!
//! Invariants: no `unsafe`, no file, no clock, no sampling, no text. A step that is no larger than the ones before allocates nothing, and a row's result does
//! not depend on what shares the step, on threads, or on the kernel.

#![forbid(unsafe_code)]

mod attention;
mod decoder;
mod delta_net;
mod error;
mod feed_forward;
mod head;
mod linear;
mod load;
mod runner;
mod state;
mod traffic;

pub use decoder::{Block, Model, Weights};
pub use error::DecoderError;
pub use linear::{Activated, BitLinear};
pub use load::Progress;
pub use runner::{Runner, RunnerOptions};
pub use traffic::Traffic;
