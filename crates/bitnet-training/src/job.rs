//! A training job as a TOML file, every value of which is explained where it stands.

use std::path::{Path, PathBuf};

use bitnet_model::{Config, GateActivation, Projection, Rope, RopeScaling};
use bitnet_quant::Granularity;
use bitnet_source::family;
use serde::{Deserialize, Serialize};

mod check;
mod meet;
mod nearest;
mod sections;

pub use sections::{
    Activation, Data, Distillation, ExampleFiles, Export, Lora, Loss, ModelSection, Optimizer,
    RelationsSection, Rounding, Run, ScheduleShape, Start, Training,
};

use crate::{
    AdamWOptions, FakeQuantization, RunOptions, Schedule, SidePathOptions, Stages, TrainError,
    TrainerOptions,
    error::wrong,
    options::{DistillOptions, RelationOptions},
};

/// The file that `bitnet train --init` writes: every key, its default, and what it means.
pub const TEMPLATE: &str = include_str!("job.toml");

/// The file that `bitnet finetune --init` writes.
pub const FINETUNE_TEMPLATE: &str = include_str!("finetune.toml");

/// A job: of training, if it has `[data]`, of fine-tuning, if it has `[examples]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingJob {
    /// The model that the run begins with, if not a fresh one.
    #[serde(default)]
    pub start: Start,
    /// The texts that are learned, where there are texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// The examples that are learned, where there are examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<ExampleFiles>,
    /// The sizes of a fresh model, where the run begins with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSection>,
    /// Side paths beside frozen projections, where they alone are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// Which weights and activations are rounded, and how.
    pub quantization: Rounding,
    /// The number and the size of the steps.
    pub training: Training,
    /// The learning rate over the run, and AdamW's constants.
    pub optimizer: Optimizer,
    /// The teacher whose logits are learned, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
    /// The teacher's attention relations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relations: Option<RelationsSection>,
    /// Where the run lives and how often it does what.
    pub run: Run,
    /// The form in which the model is written at the end.
    pub export: Export,
}

impl TrainingJob {
    /// Reads a job: the text of a file, and `section.key=value` settings that override it.
    ///
    /// # Errors
    /// [`TrainError::Job`] for what is no TOML, unknown or missing keys, values of another kind, settings that name no key,
    /// and values that contradict each other.
    pub fn read(text: &str, settings: &[String]) -> Result<Self, TrainError> {
        let job = |error: toml::de::Error| TrainError::Job(nearest::explained(&error.to_string()));
        // Read as it stands first: errors then show the line of the file.
        toml::from_str::<Self>(text).map_err(job)?;
        let mut table: toml::Table = toml::from_str(text).map_err(job)?;
        settings.iter().try_for_each(|setting| set(&mut table, setting))?;
        let read: Self = table.try_into().map_err(job)?;
        read.check()?;
        Ok(read)
    }

    /// Which weights share a scale; `None` when that is as the model has it.
    fn granularity(&self) -> Result<Option<Option<Granularity>>, TrainError> {
        let text = self.quantization.weights.as_str();
        match (text, text.strip_prefix("group-").and_then(|n| n.parse().ok())) {
            ("model", _) => Ok(None),
            ("none", _) => Ok(Some(None)),
            ("tensor", _) => Ok(Some(Some(Granularity::Tensor))),
            ("row", _) => Ok(Some(Some(Granularity::Row))),
            (_, Some(size)) => Ok(Some(Some(Granularity::Group(size)))),
            _ => wrong(format!(
                "quantization.weights is \"{text}\"; it can be tensor, row, group-N, none or model"
            )),
        }
    }

    /// What a projection rounds; `found` is what the model that the job begins with rounds.
    ///
    /// # Errors
    /// As [`TrainingJob::read`].
    pub fn quantization(&self, found: Option<FakeQuantization>) -> Result<FakeQuantization, TrainError> {
        match (self.granularity()?, found) {
            (Some(weights), _) => Ok(FakeQuantization {
                weights,
                activations: self.quantization.activations == Some(true),
                lambda: 1.0,
            }),
            (None, Some(found)) => Ok(found),
            (None, None) => wrong("quantization.weights is \"model\", and start.model names none"),
        }
    }

    /// The side paths, if there are any.
    ///
    /// # Errors
    /// [`TrainError::Job`] for a projection that no model has.
    pub fn side_path(&self) -> Result<Option<SidePathOptions>, TrainError> {
        let Some(lora) = self.lora.as_ref().filter(|lora| lora.rank > 0) else { return Ok(None) };
        let find = |name: &String| {
            let of = |p: &&Projection| family::huggingface::module(0, **p).ends_with(&format!(".{name}"));
            let found = Projection::PLAIN.iter().find(of).copied();
            found.ok_or_else(|| {
                TrainError::Job(format!(
                    "lora.projections has \"{name}\"; it can be q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj"
                ))
            })
        };
        let projections = lora.projections.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Some(SidePathOptions { rank: lora.rank, alpha: lora.alpha, projections }))
    }

    /// How the teacher is listened to, if there is one.
    pub fn distillation(&self) -> Option<(&Path, DistillOptions)> {
        let d = self.distillation.as_ref().filter(|d| !d.teacher.as_os_str().is_empty())?;
        Some((&d.teacher, DistillOptions { temperature: d.temperature, weight: d.weight }))
    }

    /// How attention relations are learned, if they are.
    pub(crate) fn relations(&self) -> Option<RelationOptions> {
        let &RelationsSection { weight, heads, layer, teacher_layer } = self.relations.as_ref()?;
        (weight != 0.0).then_some(RelationOptions { weight, heads, layer, teacher_layer })
    }

    /// The model that the job begins with, if there is one.
    pub fn start_model(&self) -> Option<&Path> {
        Some(self.start.model.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// The configuration of a fresh model with a tokenizer of `vocab` entries.
    ///
    /// # Errors
    /// When the job has no section `[model]`.
    pub fn config(&self, vocab: usize, bos: Option<u32>, eos: Option<u32>) -> Result<Config, TrainError> {
        let Some(m) = &self.model else {
            return wrong("the job has neither start.model nor a section [model]");
        };
        Ok(Config {
            family: if m.sub_norms { family::BITNET_B158 } else { family::LLAMA },
            hidden: m.hidden,
            ffn: m.ffn,
            layers: m.layers,
            heads: m.heads,
            kv_heads: m.kv_heads,
            head_dim: m.hidden / m.heads,
            rotary_dim: m.hidden / m.heads,
            gated_attention: false,
            recurrent: None,
            fold: None,
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
            trained_int8: self.quantization.activations == Some(true),
            bos,
            eos: eos.into_iter().collect(),
        })
    }

    /// The numbers of the steps, of which there may be as many as `examples` need.
    ///
    /// # Errors
    /// When the warm-up takes all of them.
    pub fn trainer_options(&self, examples: usize) -> Result<TrainerOptions, TrainError> {
        let (t, o) = (&self.training, &self.optimizer);
        let of_epochs =
            |e: &ExampleFiles| (e.epochs * examples as f64 / (t.batch * t.accumulate) as f64).ceil() as u64;
        let steps = if t.steps > 0 { t.steps } else { self.examples.as_ref().map_or(0, of_epochs) };
        if o.warmup >= steps {
            return wrong(format!("optimizer.warmup {} takes all of the {steps} steps", o.warmup));
        }
        let stages = match o.schedule {
            ScheduleShape::Constant => Stages::Constant,
            ScheduleShape::Cosine => Stages::Cosine { floor: o.floor },
            ScheduleShape::TwoStage => {
                Stages::TwoStage { split: o.split, first_end: o.first_end, second_start: o.second_start }
            }
        };
        Ok(TrainerOptions {
            schedule: Schedule {
                steps,
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
            sum: self.examples.as_ref().is_some_and(|e| e.loss == Loss::Sum),
        })
    }

    /// Where the run lives and how often it does what.
    pub fn run_options(&self) -> RunOptions {
        RunOptions {
            directory: self.run.directory.clone(),
            evaluate_every: self.run.evaluate_every,
            evaluate_windows: self.run.evaluate_windows,
            save_every: self.run.save_every,
            keep: self.run.keep,
            patience: self.run.patience,
            tensorboard: self.run.tensorboard,
        }
    }

    /// The job as a TOML file of its own, for the record.
    ///
    /// # Errors
    /// As [`TrainingJob::identity`].
    pub fn to_text(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|e| TrainError::Job(e.to_string()))
    }

    /// What decides the run's numbers, by name: everything but `[run]` and `[export]`, and the lessons themselves as `text`.
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
            let same =
                ["files", "tokenizer", "model", "teacher", "fold", "fold_bound", "gradient_checkpointing"];
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
        if let Some(data) = &mut self.data {
            data.files.iter_mut().for_each(from);
            from(&mut data.tokenizer);
        }
        self.examples.iter_mut().flat_map(|e| &mut e.files).for_each(from);
        self.distillation.iter_mut().for_each(|d| from(&mut d.teacher));
        from(&mut self.start.model);
        from(&mut self.run.directory);
        self
    }
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
    let Some(slot) = slot else { return wrong(nearest::unknown(table, section, key)) };
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
    let parsed = parsed.ok().and_then(|mut t| t.remove("value"));
    *slot = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests;
