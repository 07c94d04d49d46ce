//! A training job as a TOML file, every value of which is explained where it stands.

use std::path::{Path, PathBuf};

use bitnet_model::{Config, GateActivation, Rope, RopeScaling, family};
use bitnet_quant::Granularity;
use serde::{Deserialize, Serialize};

mod check;

use crate::{AdamWOptions, Quantization, RunOptions, Schedule, Stages, TrainError, TrainerOptions};

/// The file that `bitnet train --init` writes: every key, its default, and what it means.
pub const TEMPLATE: &str = include_str!("job.toml");

/// A training job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The text.
    pub data: Data,
    /// The model's sizes.
    pub model: Model,
    /// What is rounded.
    pub quantization: Rounding,
    /// The steps.
    pub training: Training,
    /// Learning rate and optimizer.
    pub optimizer: Optimizer,
    /// Where the run lives and how often it does what.
    pub run: Run,
    /// What is written at the end.
    pub export: Export,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Text files.
    pub files: Vec<PathBuf>,
    /// The share of each file that is kept for validation.
    pub validation: f64,
    /// A tokenizer.json; empty to train one.
    pub tokenizer: PathBuf,
    /// Entries of a tokenizer that is trained.
    pub vocabulary: usize,
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
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
    /// `tensor`, `row`, `group-N`, or `none`.
    pub weights: String,
    /// Whether activations are int8.
    pub activations: bool,
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
    pub schedule: Shape,
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
pub enum Shape {
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
}

/// `[export]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Formats, as `bitnet convert` names them.
    pub formats: Vec<String>,
}

impl Job {
    /// Reads a job: the text of a file, and `section.key=value` settings that override it.
    ///
    /// # Errors
    /// [`TrainError::Job`] for what is no TOML, unknown or missing keys, values of another kind, settings that name no key,
    /// and values that contradict each other.
    pub fn read(text: &str, settings: &[String]) -> Result<Self, TrainError> {
        let job = |error: toml::de::Error| TrainError::Job(error.to_string().trim_end().to_owned());
        // Read as it stands first: errors then show the line of the file.
        toml::from_str::<Self>(text).map_err(job)?;
        let mut table: toml::Table = toml::from_str(text).map_err(job)?;
        settings.iter().try_for_each(|setting| set(&mut table, setting))?;
        let read: Self = table.try_into().map_err(job)?;
        read.check()?;
        Ok(read)
    }

    /// Which weights share a scale.
    fn granularity(&self) -> Result<Option<Granularity>, TrainError> {
        let text = self.quantization.weights.as_str();
        match (text, text.strip_prefix("group-").and_then(|n| n.parse().ok())) {
            ("none", _) => Ok(None),
            ("tensor", _) => Ok(Some(Granularity::Tensor)),
            ("row", _) => Ok(Some(Granularity::Row)),
            (_, Some(size)) => Ok(Some(Granularity::Group(size))),
            _ => wrong(format!("quantization.weights is \"{text}\"; it can be tensor, row, group-N or none")),
        }
    }

    /// What a projection rounds.
    ///
    /// # Errors
    /// As [`Job::read`].
    pub fn quantization(&self) -> Result<Quantization, TrainError> {
        let activations = self.quantization.activations;
        Ok(Quantization { weights: self.granularity()?, activations, lambda: 1.0 })
    }

    /// The model's configuration with a tokenizer of `vocab` entries.
    pub fn config(&self, vocab: usize, bos: Option<u32>, eos: Option<u32>) -> Config {
        let m = &self.model;
        Config {
            family: if m.sub_norms { family::BITNET_B158 } else { family::LLAMA },
            hidden: m.hidden,
            ffn: m.ffn,
            layers: m.layers,
            heads: m.heads,
            kv_heads: m.kv_heads,
            head_dim: m.hidden / m.heads,
            vocab,
            context: m.context,
            norm_eps: m.norm_eps,
            rope: Rope { theta: m.rope_theta, scaling: RopeScaling::None },
            activation: match m.activation {
                Activation::Relu2 => GateActivation::SquaredRelu,
                Activation::Silu => GateActivation::Silu,
            },
            sub_norms: m.sub_norms,
            qk_norms: false,
            input_norm_eps: None,
            tied_head: m.tied_head,
            trained_int8: self.quantization.activations,
            bos,
            eos: eos.into_iter().collect(),
        }
    }

    /// The numbers of the steps.
    pub fn trainer_options(&self) -> TrainerOptions {
        let (t, o) = (&self.training, &self.optimizer);
        let stages = match o.schedule {
            Shape::Constant => Stages::Constant,
            Shape::Cosine => Stages::Cosine { floor: o.floor },
            Shape::TwoStage => {
                Stages::TwoStage { split: o.split, first_end: o.first_end, second_start: o.second_start }
            }
        };
        TrainerOptions {
            schedule: Schedule {
                steps: t.steps,
                warmup: o.warmup,
                peak: o.learning_rate,
                weight_decay: o.weight_decay,
                stages,
            },
            optimizer: AdamWOptions { beta1: o.beta1, beta2: o.beta2, eps: o.eps, clip: o.clip },
            batch: t.batch,
            accumulate: t.accumulate,
            positions: t.positions,
            seed: t.seed,
            lambda_steps: self.quantization.lambda_steps,
            divergence: t.divergence,
        }
    }

    /// Where the run lives and how often it does what.
    pub fn run_options(&self) -> RunOptions {
        RunOptions {
            directory: self.run.directory.clone(),
            evaluate_every: self.run.evaluate_every,
            evaluate_windows: self.run.evaluate_windows,
            save_every: self.run.save_every,
            keep: self.run.keep,
        }
    }

    /// The job as a TOML file of its own, for the record.
    ///
    /// # Errors
    /// As [`Job::identity`].
    pub fn to_text(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|e| TrainError::Job(e.to_string()))
    }

    /// What decides the run's numbers, by name: everything but `[run]` and `[export]`, and the text itself as `text`.
    ///
    /// # Errors
    /// When a value has no form in TOML, which none of these lacks.
    pub fn identity(&self, text: u64) -> Result<Vec<(String, String)>, TrainError> {
        let table = toml::Table::try_from(self).map_err(|e| TrainError::Job(e.to_string()))?;
        let mut pairs = vec![("text".to_owned(), format!("{text:016x}"))];
        for (section, values) in table.iter().filter(|(name, _)| !["run", "export"].contains(&name.as_str()))
        {
            let keys = values.as_table().into_iter().flatten();
            // The same text by another path is the same text, and memory is no number.
            let same = ["files", "tokenizer", "gradient_checkpointing"];
            let keys = keys.filter(|(key, _)| !same.contains(&key.as_str()));
            pairs.extend(keys.map(|(key, value)| (format!("{section}.{key}"), value.to_string())));
        }
        Ok(pairs)
    }

    /// Paths of files as they are when seen from `directory`.
    pub fn relative_to(mut self, directory: &Path) -> Self {
        let from = |path: &mut PathBuf| {
            if !path.as_os_str().is_empty() {
                *path = directory.join(&*path);
            }
        };
        self.data.files.iter_mut().for_each(from);
        from(&mut self.data.tokenizer);
        from(&mut self.run.directory);
        self
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, TrainError> {
    Err(TrainError::Job(what.into()))
}

/// Applies `section.key=value`; a value that is no TOML is a string.
fn set(table: &mut toml::Table, setting: &str) -> Result<(), TrainError> {
    let parts = setting.split_once('=').and_then(|(key, value)| {
        let (section, key) = key.trim().split_once('.')?;
        Some((section, key, value.trim()))
    });
    let Some((section, key, value)) = parts else {
        return wrong(format!("the setting '{setting}' is not of the form section.key=value"));
    };
    let slot = table.get_mut(section).and_then(|s| s.get_mut(key));
    let Some(slot) = slot else { return wrong(format!("there is no key {section}.{key}")) };
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
    let parsed = parsed.ok().and_then(|mut t| t.remove("value"));
    *slot = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[&str]) -> Result<Job, TrainError> {
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        Job::read(TEMPLATE, &settings)
    }

    #[track_caller]
    fn refused(settings: &[&str], sentence: &str) {
        let error = read(settings).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn the_template_is_a_job_and_settings_override_it() {
        let job = read(&["data.files=[\"a.txt\"]"]).unwrap();
        assert_eq!(job.quantization().unwrap(), Quantization::W158A8);
        job.config(300, Some(0), Some(1)).check().unwrap();
        let other =
            read(&["data.files=[\"a.txt\"]", "training.steps = 77", "model.activation=silu"]).unwrap();
        assert_eq!((other.training.steps, other.model.activation), (77, Activation::Silu));
        let differ = |a: &Job, b: &Job| {
            let (a, b) = (a.identity(1).unwrap(), b.identity(1).unwrap());
            a.into_iter().zip(b).filter(|(a, b)| a != b).count()
        };
        assert_eq!((differ(&job, &job.clone()), differ(&job, &other)), (0, 2));
    }

    #[test]
    fn every_key_is_explained() {
        for (at, line) in TEMPLATE.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
            let explained =
                line.contains('#') || TEMPLATE.lines().nth(at - 1).is_some_and(|l| l.starts_with('#'));
            assert!(explained, "{line}");
        }
    }

    #[test]
    fn unknown_and_contradictory_keys_are_refused_by_name() {
        let files = "data.files=[\"a.txt\"]";
        let unknown = Job::read(&TEMPLATE.replace("warmup", "warmpu"), &[]).unwrap_err().to_string();
        assert!(unknown.contains("warmpu") && unknown.contains("line"), "{unknown}");
        refused(&[], "data.files");
        refused(&["steps=3"], "section.key=value");
        refused(&[files, "training.stepz=3"], "no key training.stepz");
        refused(&[files, "training.steps=many"], "training.steps");
        refused(&[files, "training.batch=0"], "training.batch is 0");
        refused(&[files, "training.positions=100000"], "model.context");
        refused(&[files, "optimizer.warmup=1000000"], "optimizer.warmup");
        refused(&[files, "optimizer.beta2=1.0"], "beta2");
        refused(&[files, "model.heads=5"], "model.heads 5");
        refused(&[files, "quantization.weights=half"], "\"half\"");
        refused(&[files, "quantization.weights=group-20"], "multiple of 32");
        refused(&[files, "quantization.weights=none"], "the float twin rounds nothing");
        refused(&[files, "quantization.weights=none", "quantization.activations=false"], "trains floats");
        refused(&[files, "quantization.weights=row"], "scales of rows or groups");
        refused(&[files, "quantization.activations=false"], "sub_norms");
        refused(&[files, "export.formats=[\"gguf-q9\"]"], "gguf-q9");
    }
}
