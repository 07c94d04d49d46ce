//! The sections of a job, one definition for all kinds of jobs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Split, corpus::Division};

/// `[start]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// A model to go on from; empty for fresh weights.
    pub model: PathBuf,
}

/// `[examples]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleFiles {
    /// JSONL files.
    pub files: Vec<PathBuf>,
    /// The share of each file that is kept for validation.
    pub validation: f64,
    /// Times that every example is seen; 0 leaves it to the steps.
    pub epochs: f64,
    /// What a step adds up.
    pub loss: Loss,
}

/// What the loss of a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// The mean over the tokens that are learned.
    Mean,
    /// Their sum.
    Sum,
}

/// `[lora]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of the first matrix; 0 trains the model itself.
    pub rank: usize,
    /// What side paths are multiplied with is this over the rank.
    pub alpha: f32,
    /// The projections that have one, as `transformers` names them.
    pub projections: Vec<String>,
    /// Whether the side paths are also folded into the weights.
    pub fold: bool,
    /// Nats by which folded weights may be worse.
    pub fold_bound: f64,
}

/// `[distillation]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// A model; empty for none.
    pub teacher: PathBuf,
    /// What logits are divided by.
    pub temperature: f32,
    /// The teacher's share in the loss.
    pub weight: f32,
}

/// `[relations]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationsSection {
    /// What their distance from the teacher's is multiplied with; 0 leaves them out.
    pub weight: f32,
    /// Relation heads.
    pub heads: usize,
    /// The student's block.
    pub layer: i64,
    /// The teacher's block.
    pub teacher_layer: i64,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Text files.
    pub files: Vec<PathBuf>,
    /// The line between the documents of a file; empty where a file is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub separator: String,
    /// The share of each file that is kept for validation.
    pub validation: f64,
    /// Which part that is.
    #[serde(default, skip_serializing_if = "Split::is_end")]
    pub split: Split,
    /// A tokenizer.json; empty to train one.
    pub tokenizer: PathBuf,
    /// Entries of a tokenizer that is trained.
    pub vocabulary: usize,
}

impl Data {
    /// How the files are divided.
    pub fn division(&self) -> Division<'_> {
        Division { separator: &self.separator, split: self.split, validation: self.validation }
    }
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// The most positions.
    pub context: usize,
    /// The gate's nonlinearity.
    pub activation: Activation,
    /// Norms before the output and down projections.
    pub sub_norms: bool,
    /// Whether the head is the embedding.
    pub tied_head: bool,
    /// The base of the rotary frequencies.
    pub rope_theta: f32,
    /// The epsilon of the norms.
    pub norm_eps: f32,
    /// The deviation of fresh weights.
    pub deviation: f32,
}

/// The gate's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `max(x, 0)^2`
    Relu2,
    /// `x sigmoid(x)`
    Silu,
}

/// `[quantization]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    /// `model`, `tensor`, `row`, `group-N`, or `none`.
    pub weights: String,
    /// Whether activations are int8; left out with `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<bool>,
    /// Steps in which rounding sets in.
    pub lambda_steps: u64,
}

/// `[training]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Steps.
    pub steps: u64,
    /// Sequences of a pass.
    pub batch: usize,
    /// Passes of a step.
    pub accumulate: usize,
    /// Whether blocks run again in the backward pass instead of keeping their activations.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Tokens of a sequence.
    pub positions: usize,
    /// Of weights and of the order of the text.
    pub seed: u64,
    /// Nats above the lowest loss at which a run is stopped.
    pub divergence: f64,
}

/// `[optimizer]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps of the warm-up.
    pub warmup: u64,
    /// The shape behind it.
    pub schedule: ScheduleShape,
    /// The last rate of a cosine over the peak.
    pub floor: f64,
    /// The share of the steps in the first of two stages.
    pub split: f64,
    /// The rate at the end of the first stage over the peak.
    pub first_end: f64,
    /// The rate at the beginning of the second over the peak.
    pub second_start: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// AdamW's.
    pub beta1: f32,
    /// AdamW's.
    pub beta2: f32,
    /// AdamW's.
    pub eps: f32,
    /// The most length of the gradients.
    pub clip: f32,
}

/// The shape of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleShape {
    /// The same all the time.
    Constant,
    /// Half a cosine.
    Cosine,
    /// Two straight lines.
    TwoStage,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The directory.
    pub directory: PathBuf,
    /// Threads; 0 for all.
    pub threads: usize,
    /// Steps between lines.
    pub report_every: u64,
    /// Steps between validations.
    pub evaluate_every: u64,
    /// Windows of a validation.
    pub evaluate_windows: usize,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// Validations without a lower loss behind which the run ends; 0 never.
    #[serde(default)]
    pub patience: u64,
    /// Whether TensorBoard's event file is written.
    #[serde(default)]
    pub tensorboard: bool,
}

/// `[export]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Formats, as `bitnet convert` names them.
    pub formats: Vec<String>,
}
