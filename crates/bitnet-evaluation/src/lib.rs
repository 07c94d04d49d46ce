//! What a model is worth, and what its file holds.
//!
//! - [`perplexity()`] tells how surprised a model is by a text; [`compare()`] sets every prediction beside another model's;
//!   [`multiple_choice()`] asks questions whose answers are given.
//! - [`judge_matrices`] needs no text: shares of zeros, dead rows and columns, and, beside masters or another model, what
//!   quantization cost and what has changed. [`judge_activations`] runs a text and looks at what int8 makes of the rows that
//!   the projections read.
//! - [`inspect()`] reads a file without running it.
//!
//! # Invariants
//! - A figure is a function of the models, the text and the options alone: sums run in the order of the text, in f64, with
//!   exponentials and logarithms that every platform rounds alike.
//! - A model is asked only through what everybody has: a session of `bitnet-inference`, or a source of `bitnet-source`. Nothing
//!   here changes what the engine computes.
//!
//! Not here: running a model for its text (`bitnet-inference`), finding better trits (`bitnet-calibration`), speed
//! (`bitnet-benchmarks`), printing.

#![forbid(unsafe_code)]

mod activations;
mod compare;
mod error;
mod inspect;
mod matrices;
mod multiple_choice;
mod noise;
mod perplexity;
mod questions;
mod windows;

pub use activations::{ActivationQuality, Channel, Input, OUTLIER, judge_activations};
pub use compare::{Comparison, Distance, compare, same_vocabulary};
pub use error::{EvaluationError, MismatchError};
pub use inspect::{Inspection, MatrixReport, TritReport, inspect};
pub use matrices::{Change, Fit, MatrixQuality, judge_matrices};
pub use multiple_choice::{Answer, Share, TaskResult, multiple_choice};
pub use perplexity::{Perplexity, perplexity};
pub use questions::{Question, TaskError, TaskErrorKind, read_questions};
pub use windows::PerplexityOptions;
