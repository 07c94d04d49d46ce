//! What was done.

use bitnet_model::Part;

use crate::{Grid, Plan};

/// What became of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// The matrix that this is about.
    pub part: Part,
    /// Its name in the file that was read.
    pub name: String,
    /// `[out, in]`, that is rows and columns.
    pub shape: [usize; 2],
    /// The numbers that the matrix may hold now.
    pub grid: Grid,
    /// Bytes that the matrix takes in the file.
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
    /// The matrix that was quantized alone.
    pub part: Part,
    /// Its name in the file that was read.
    pub name: String,
    /// The loss on held-out text with only this matrix quantized, less that of the float model, in nats.
    pub change: f64,
}

/// What a quantization did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeReport {
    /// Every matrix that was quantized, in the order of the model.
    pub matrices: Vec<QuantizedMatrix>,
    /// One for each of them, where it was asked for.
    pub sensitivities: Vec<Sensitivity>,
    /// The plan, where a budget was given.
    pub plan: Option<Plan>,
    /// Loss of the float model on held-out text, nats a token, where there is such text.
    pub loss_before: Option<f64>,
    /// Loss of the written model on the same text.
    pub loss_after: Option<f64>,
    /// Tokens of the calibration text that were looked at.
    pub calibration_tokens: usize,
    /// Tokens of the held-out text.
    pub held_out_tokens: usize,
    /// Bytes of the file that was written.
    pub bytes_written: u64,
    /// Threads that did the work.
    pub threads: usize,
    /// What a person should know; one sentence each.
    pub notes: Vec<String>,
}
