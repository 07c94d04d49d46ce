//! What a ternary model is worth, matrix by matrix and channel by channel.
//!
//! - [`judge_matrices`] needs no text: shares of zeros, dead rows and columns, and, beside masters or another model, what
//!   quantization cost and what has changed.
//! - [`judge_activations`] runs a text and looks at what int8 makes of the rows that the projections read.

mod activations;
mod matrices;

pub use activations::{ActivationQuality, Channel, Input, OUTLIER, judge_activations};
pub use matrices::{Change, Fit, MatrixQuality, judge_matrices};

/// `10 log10(signal / noise)`: infinite where there is no noise.
fn decibels(signal: f64, noise: f64) -> f64 {
    10.0 * libm::log10(signal / noise)
}
