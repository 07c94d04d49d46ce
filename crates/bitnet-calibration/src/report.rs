//! What was done.

use bitnet_model::Part;

use crate::{Grid, Plan};

/// One matrix afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// Which.
    pub part: Part,
    /// Its name in the file that was read.
    pub name: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// What it holds now.
    pub grid: Grid,
    /// Bytes in the file.
    pub bytes: u64,
    /// Norm of the error over norm of the weights.
    pub relative_error: f64,
    /// Share of weights that are exactly 0.
    pub zeros: f64,
}

impl QuantizedMatrix {
    /// Signal over error, in decibels.
    pub fn sqnr(&self) -> f64 {
        -20.0 * self.relative_error.log10()
    }

    /// Bits in the file for each weight.
    pub fn bits(&self) -> f64 {
        self.bytes as f64 * 8.0 / (self.shape[0] * self.shape[1]).max(1) as f64
    }
}

/// What one matrix alone does to the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Which.
    pub part: Part,
    /// Its name in the file that was read.
    pub name: String,
    /// The loss on held-out text with only this matrix quantized, less that of the float model, in nats.
    pub change: f64,
}

/// A quantization.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeReport {
    /// Matrices that were quantized.
    pub matrices: Vec<QuantizedMatrix>,
    /// One for each of them, where it was asked for.
    pub sensitivities: Vec<Sensitivity>,
    /// Where a budget was given.
    pub plan: Option<Plan>,
    /// Loss of the float model on held-out text, nats a token, where there is such text.
    pub loss_before: Option<f64>,
    /// Loss of the written model on the same text.
    pub loss_after: Option<f64>,
    /// Tokens that were looked at.
    pub calibration_tokens: usize,
    /// Tokens of held-out text.
    pub held_out_tokens: usize,
    /// Bytes of the file.
    pub bytes_written: u64,
    /// Threads that did it.
    pub threads: usize,
    /// What a person should know; one sentence each.
    pub notes: Vec<String>,
}
