//! Post-training quantization: a float model of the Llama or Qwen3 class becomes a `.bitnet` file of ternary planes and small
//! integers.
//!
//! - [`grid`]: which numbers a group of weights may become, and the best choice of them.
//! - [`fit`](fn@fit): one matrix, with or without error feedback.
//! - [`Hessian`]: `X^T X` of the inputs that calibration text gives a projection, and the feedback that follows from it
//!   (GPTQ, arXiv:2210.17323).
//! - [`quantize`]: a whole model, block by block through the engine's own decoder.
//! - [`Plan`]: which matrix gets how many bits, under a budget of bytes.
//!
//! Invariants: no `unsafe`; nothing is printed; results do not depend on the number of threads; one matrix of floats and one
//! matrix of input statistics are in memory at a time, beside the hidden states of the calibration text, so a model may be larger
//! than memory.
//!
//! It does not train: what needs gradients is `bitnet-training`'s.

#![forbid(unsafe_code)]

mod block;
mod error;
mod evaluate;
mod fit;
pub mod grid;
mod hessian;
mod measure;
mod method;
mod overlay;
mod plan;
mod quantize;
mod report;

pub use error::QuantizeError;
pub use evaluate::{Windows, loss};
pub use fit::{Fitted, Stored, fit};
pub use hessian::{Feedback, Hessian};
pub use method::{Grid, Method, Scheme};
pub use plan::{Choice, Plan, PlanOption};
pub use quantize::{QuantizeOptions, QuantizeProgress, QuantizeStep, quantize};
pub use report::{QuantizeReport, QuantizedMatrix, Sensitivity};
