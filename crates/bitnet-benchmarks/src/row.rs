//! One line of a benchmark.

use serde::{Deserialize, Serialize};

use crate::{Summary, TimeShare, plan::Test};

/// What was measured, how fast it was, and how fast it could have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Prompt ("pp") or generation ("tg").
    pub test: Test,
    /// Threads that the case ran on.
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
    #[serde(flatten)]
    pub summary: Summary,
    /// How often the case was measured.
    pub repetitions: usize,
    /// Tokens per second of each repetition, in order.
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
    /// What the machine could do at most, measured beside the row.
    pub limits: Limits,
    /// False when something says that the figures cannot be trusted; `notes` says what.
    pub reliable: bool,
    /// What a reader of the row should know, a sentence each.
    pub notes: Vec<String>,
    /// Checksum of all logits: the same on every machine.
    pub checksum: String,
    /// Bytes of a token, by what they are.
    pub bytes: Bytes,
    /// The process's memory while the case ran.
    pub memory: RowMemory,
    /// Energy, where the machine reports it.
    pub joules_per_token: Option<f64>,
    /// Where the time of a step goes, operation by operation.
    pub breakdown: Vec<TimeShare>,
    /// Seconds of a step of the thread pool in which there is nothing to do.
    pub empty_step_s: f64,
    /// Speed beside busy threads, when that was asked for.
    pub load: Option<Loaded>,
    /// The model, the kernel and the machine that ran.
    #[serde(flatten)]
    pub setting: Setting,
}

/// What the machine could do at most with this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes that can be read from memory per second.
    pub bytes_per_s: f64,
    /// int8 operations per second, measured without touching memory.
    pub ops_per_s: f64,
    /// Tokens per second that reading allows.
    pub tokens_per_s_by_bytes: f64,
    /// Tokens per second that multiplying allows.
    pub tokens_per_s_by_ops: f64,
}

/// Speed beside threads that never rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// How many busy threads ran beside.
    pub busy: usize,
    /// Tokens per second beside them.
    pub tokens_per_s: f64,
    /// Tokens per second that a fair scheduler would leave: the speed alone, by the part of the time that each thread gets.
    pub fair_share: f64,
    /// The one as a part of the other.
    pub of_fair_share: f64,
}

/// Bytes of a token by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes of ternary projections.
    pub ternary: f64,
    /// Bytes of projections that stayed dense.
    pub dense: f64,
    /// Bytes of the head, or of the part of it that is read.
    pub head: f64,
    /// Bytes of keys and values.
    pub kv: f64,
}

impl Bytes {
    /// The sum of all parts.
    pub fn total(&self) -> f64 {
        self.ternary + self.dense + self.head + self.kv
    }
}

/// Memory of the process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowMemory {
    /// Bytes of weights that the engine holds itself.
    pub weights: u64,
    /// The model's files, which are mapped.
    pub file: u64,
    /// Keys and values that were reserved; pages are taken as a sequence grows.
    pub kv: u64,
    /// Keys and values of the positions held.
    pub kv_used: u64,
    /// Bytes of the buffers of the forward pass.
    pub state: u64,
    /// The most that the process ever had in main memory, without the benchmark's own buffer.
    pub peak: Option<u64>,
    /// What the peak has above weights and keys and values, as a part of the weights.
    pub above: Option<f64>,
}

/// What ran, and on which machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The model's name, or its file's.
    pub model: String,
    /// Whether the model's trits are random.
    pub synthetic: bool,
    /// The kernel's full name.
    pub kernel: String,
    /// The processor's name, as the system tells it.
    pub cpu: String,
    /// How the system grants huge pages: always, madvise, never, unknown.
    pub huge_pages: String,
    /// Bytes of the process that lay in huge pages.
    pub huge_page_bytes: Option<u64>,
    /// The version of this program.
    pub version: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row as it may come out of a run.
    pub(crate) fn row() -> Row {
        let summary = Summary { median: 20.0, min: 19.0, max: 21.0, spread: 0.01 };
        Row {
            test: Test::Generation,
            threads: 2,
            depth: 0,
            batch: 1,
            tokens: 64,
            tokens_per_s: 20.0,
            summary,
            repetitions: 3,
            samples: vec![19.0, 20.0, 21.0],
            bytes_per_token: 1e9,
            ops_per_token: 5e9,
            rate: 2e10,
            limit: 2.5e10,
            limit_unit: "bytes/s".to_owned(),
            of_limit: 0.8,
            limits: Limits::default(),
            reliable: true,
            notes: Vec::new(),
            checksum: "0".to_owned(),
            bytes: Bytes::default(),
            memory: RowMemory::default(),
            joules_per_token: None,
            breakdown: Vec::new(),
            empty_step_s: 1e-6,
            load: None,
            setting: Setting::default(),
        }
    }
}
