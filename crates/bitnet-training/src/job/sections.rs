//! The sections of a job, one definition for all kinds of jobs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Split, corpus::Division};

/// Section `[start]`: the model that a run begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// A model to go on from; empty for fresh weights.
    pub model: PathBuf,
}

/// Section `[examples]`: chats and completions to learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleFiles {
    /// JSONL files, an example on each line.
    pub files: Vec<PathBuf>,
    /// The share of each file that is kept for validation.
    pub validation: f64,
    /// Times that every example is seen; 0 leaves it to the steps.
    pub epochs: f64,
    /// Whether the loss of a step is the mean or the sum over its tokens.
    pub loss: Loss,
}

/// How the losses of a step's tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// The mean over the tokens that are learned.
    Mean,
    /// The sum over the tokens of the step.
    Sum,
}

/// Section `[lora]`: side paths that are trained alone.
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

/// Section `[distillation]`: a teacher whose logits are learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// The path of the teacher's model; empty for none.
    pub teacher: PathBuf,
    /// What logits of both models are divided by before they are compared.
    pub temperature: f32,
    /// The teacher's share in the loss.
    pub weight: f32,
}

/// Section `[relations]`: how the teacher's attention relates positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationsSection {
    /// What their distance from the teacher's is multiplied with; 0 leaves them out.
    pub weight: f32,
    /// Relation heads that both models' rows are cut into.
    pub heads: usize,
    /// The student's block; negative numbers count from the end.
    pub layer: i64,
    /// The teacher's block; negative numbers count from the end.
    pub teacher_layer: i64,
}

/// Section `[data]`: texts to learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Text files in UTF-8, in this order.
    pub files: Vec<PathBuf>,
    /// The line between the documents of a file; empty where a file is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub separator: String,
    /// The share of each file that is kept for validation.
    pub validation: f64,
    /// How the part for validation is chosen.
    #[serde(default, skip_serializing_if = "Split::is_end")]
    pub split: Split,
    /// A tokenizer.json; empty to train one.
    pub tokenizer: PathBuf,
    /// Entries of a tokenizer that is trained.
    pub vocabulary: usize,
}

impl Data {
    /// How the files are divided between training and validation.
    pub fn division(&self) -> Division<'_> {
        Division { separator: &self.separator, split: self.split, validation: self.validation }
    }
}

/// Section `[model]`: the sizes of a fresh model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Width of the residual stream, in elements.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// The number of blocks.
    pub layers: usize,
    /// Query heads of a block.
    pub heads: usize,
    /// Key and value heads of a block.
    pub kv_heads: usize,
    /// The most positions that the model is made for.
    pub context: usize,
    /// The nonlinearity of the feed-forward gate.
    pub activation: Activation,
    /// Norms before the output and down projections.
    pub sub_norms: bool,
    /// Whether the head is the embedding.
    pub tied_head: bool,
    /// The base of the rotary frequencies.
    pub rope_theta: f32,
    /// The epsilon that norms add to the mean of squares.
    pub norm_eps: f32,
    /// The deviation of fresh weights.
    pub deviation: f32,
}

/// The nonlinearity of the feed-forward gate, by its name in jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Squared ReLU, `max(x, 0)^2`.
    Relu2,
    /// SiLU, `x sigmoid(x)`.
    Silu,
}

/// Section `[quantization]`: what is rounded while a model is trained.
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

/// Section `[training]`: the number and the size of the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Steps of the whole run.
    pub steps: u64,
    /// Sequences of one forward pass.
    pub batch: usize,
    /// Forward passes whose gradients are added up for one step.
    pub accumulate: usize,
    /// Whether blocks run again in the backward pass instead of keeping their activations.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Tokens of one sequence.
    pub positions: usize,
    /// Of weights and of the order of the text.
    pub seed: u64,
    /// Nats above the lowest loss at which a run is stopped.
    pub divergence: f64,
}

/// Section `[optimizer]`: the learning rate over the run, and AdamW's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The highest learning rate, at the end of the warm-up.
    pub learning_rate: f64,
    /// Steps in which the learning rate rises from 0 to its highest.
    pub warmup: u64,
    /// The course of the learning rate behind the warm-up.
    pub schedule: ScheduleShape,
    /// The last rate of a cosine over the peak.
    pub floor: f64,
    /// The share of the steps in the first of two stages.
    pub split: f64,
    /// The rate at the end of the first stage over the peak.
    pub first_end: f64,
    /// The rate at the beginning of the second over the peak.
    pub second_start: f64,
    /// AdamW's weight decay, which is multiplied with the learning rate.
    pub weight_decay: f64,
    /// AdamW's decay of the mean of gradients.
    pub beta1: f32,
    /// AdamW's decay of the mean of squared gradients.
    pub beta2: f32,
    /// What AdamW adds to the root of the second mean.
    pub eps: f32,
    /// The most length of the gradients.
    pub clip: f32,
}

/// The shape of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleShape {
    /// The same learning rate from the warm-up to the end.
    Constant,
    /// Half a cosine from the highest rate down to the floor.
    Cosine,
    /// Two straight lines, one behind the other.
    TwoStage,
}

/// Section `[run]`: where a run is kept, and how often it is looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The directory of checkpoints and metrics.
    pub directory: PathBuf,
    /// Threads that the run uses; 0 for all.
    pub threads: usize,
    /// Steps from one line of progress to the next.
    pub report_every: u64,
    /// Steps from one validation to the next.
    pub evaluate_every: u64,
    /// Windows that a validation reads.
    pub evaluate_windows: usize,
    /// Steps from one checkpoint to the next.
    pub save_every: u64,
    /// The number of checkpoints that are kept.
    pub keep: usize,
    /// Validations without a lower loss behind which the run ends; 0 never.
    #[serde(default)]
    pub patience: u64,
    /// Whether TensorBoard's event file is written.
    #[serde(default)]
    pub tensorboard: bool,
}

/// Section `[export]`: the form of the finished model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Formats, as `bitnet convert` names them.
    pub formats: Vec<String>,
}
