//! One line of a benchmark.

use serde::{Deserialize, Serialize};

use crate::{Summary, run::Test};

/// What was measured, how fast it was, and how fast it could have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Prompt ("pp") or generation ("tg").
    pub test: Test,
    /// Threads.
    pub threads: usize,
    /// Positions that every sequence held before.
    pub depth: usize,
    /// Sequences that are run together.
    pub batch: usize,
    /// Tokens of one repetition, over all sequences.
    pub tokens: usize,
    /// Tokens per second over all sequences: the median over the repetitions.
    pub tokens_per_s: f64,
    /// Median, extremes and spread of the same.
    pub summary: Summary,
    /// The repetitions, in order.
    pub samples: Vec<f64>,
    /// Bytes that a token reads: matrices, divided by the tokens that share them, and keys and values.
    pub bytes_per_token: f64,
    /// Operations (a product and its sum are two) of a token in ternary projections and, when it is generated, the head.
    pub ops_per_token: f64,
    /// `tokens_per_s` in the unit of the limit.
    pub rate: f64,
    /// The tighter of the two limits, measured around each repetition; the median.
    pub limit: f64,
    /// "bytes/s" where memory is the tighter limit, "operations/s" where the multiplier is.
    pub limit_unit: String,
    /// `tokens_per_s` as a part of what the limit would allow, from 0 to 1: the median over the repetitions of the part reached
    /// in each.
    pub of_limit: f64,
    /// Both limits.
    pub limits: Limits,
    /// False when something says that the figures cannot be trusted; `notes` says what.
    pub reliable: bool,
    /// Remarks.
    pub notes: Vec<String>,
    /// Checksum of all logits: the same on every machine.
    pub checksum: String,
    /// Bytes of a token, by what they are.
    pub bytes: Bytes,
    /// Memory.
    pub memory: Memory,
    /// What ran.
    #[serde(flatten)]
    pub setting: Setting,
}

/// What the machine could do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes read per second.
    pub bytes_per_s: f64,
    /// int8 operations per second.
    pub ops_per_s: f64,
    /// Tokens per second that reading allows.
    pub tokens_per_s_by_bytes: f64,
    /// Tokens per second that multiplying allows.
    pub tokens_per_s_by_ops: f64,
}

/// Bytes of a token by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// Ternary projections.
    pub ternary: f64,
    /// Projections that stayed dense.
    pub dense: f64,
    /// The head.
    pub head: f64,
    /// Keys and values.
    pub kv: f64,
}

impl Bytes {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.ternary + self.dense + self.head + self.kv
    }
}

/// Memory of the process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Weights that the engine holds.
    pub weights: u64,
    /// The model's files, which are mapped.
    pub file: u64,
    /// Keys and values that were reserved; pages are taken as a sequence grows.
    pub kv: u64,
    /// Keys and values of the positions held.
    pub kv_used: u64,
    /// Buffers of the forward pass.
    pub state: u64,
    /// The most that the process ever had in main memory, without the benchmark's own buffer.
    pub peak: Option<u64>,
    /// What the peak has above weights and keys and values, as a part of the weights.
    pub above: Option<f64>,
}

/// What ran, and on what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The model.
    pub model: String,
    /// Whether its trits are random.
    pub synthetic: bool,
    /// The kernel.
    pub kernel: String,
    /// The processor.
    pub cpu: String,
    /// How the system grants huge pages: always, madvise, never, unknown.
    pub huge_pages: String,
    /// Bytes of the process that lay in huge pages.
    pub huge_page_bytes: Option<u64>,
    /// The program's version.
    pub version: String,
}
