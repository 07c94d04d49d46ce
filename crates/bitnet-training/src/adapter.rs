//! What fine-tuning leaves behind: side paths as an adapter, proved in the engine, and folded into the weights where that is
//! found to be no worse.

use std::{collections::BTreeMap, fs, path::Path};

use bitnet_format::{SafetensorsWriter, TensorSpec, TensorType};
use bitnet_inference::LoadOptions;
use bitnet_source::family::huggingface;
use serde_json::json;

use crate::{
    Kind, Parameter, Parameters, SidePathOptions, TrainError, Trainer, TrainingJob,
    export::{Exported, TokenizerFiles, agreement, export, trained_as},
};

/// What folding side paths into the weights did to the loss on what is kept for validation, in nats per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fold {
    /// With the side paths beside the weights.
    pub beside: f64,
    /// With weights that were rounded again.
    pub folded: f64,
    /// What folding may cost.
    pub bound: f64,
}

impl Fold {
    /// Whether the folded model was written.
    pub fn holds(&self) -> bool {
        self.folded <= self.beside + self.bound
    }
}

/// Writes what `job` has trained into `directory`: the model, or the side paths as `adapter` and, where they are to be folded
/// and [`Fold::holds`], the folded model.
///
/// # Errors
/// Those of [`export()`]; [`TrainError::Disagreement`] when the engine with the adapter does not compute what was trained.
pub fn finish(
    job: &TrainingJob,
    trainer: &Trainer,
    tokenizer: &TokenizerFiles,
    directory: &Path,
) -> Result<(Vec<Exported>, Option<Fold>), TrainError> {
    let (Some(side), Some(base)) = (job.side_path()?, job.start_model()) else {
        return Ok((export(trainer, tokenizer, &job.export.formats, directory)?, None));
    };
    let path = directory.join("adapter");
    write(trainer.parameters(), &side, base, &path)?;
    let options = LoadOptions { adapter: Some(path.clone()), ..trained_as(trainer.model().config()) };
    let agreement = agreement(trainer, base, &options)?;
    if !agreement.holds() {
        return Err(TrainError::Disagreement { path, rms: agreement.rms, deviation: agreement.deviation });
    }
    let mut exported = vec![Exported { format: "adapter".into(), path, agreement: Some(agreement) }];
    let Some(lora) = job.lora.as_ref().filter(|lora| lora.fold) else { return Ok((exported, None)) };
    let folded = trainer.clone().with_parameters(fold(trainer.parameters(), side.factor()));
    let windows = job.run.evaluate_windows;
    let fold =
        Fold { beside: trainer.evaluate(windows), folded: folded.evaluate(windows), bound: lora.fold_bound };
    if fold.holds() {
        exported.extend(export(&folded, tokenizer, &job.export.formats, directory)?);
    }
    Ok((exported, Some(fold)))
}

/// Writes side paths in the form of PEFT.
fn write(
    parameters: &Parameters,
    side: &SidePathOptions,
    base: &Path,
    directory: &Path,
) -> Result<(), TrainError> {
    let io = |error| TrainError::Io { path: directory.into(), error };
    fs::create_dir_all(directory).map_err(io)?;
    let list = || parameters.list().iter().filter(|p| matches!(p.kind, Kind::SideDown | Kind::SideUp));
    let specs: Vec<TensorSpec> =
        list().map(|p| TensorSpec::new(p.name(), TensorType::F32, p.values.dims())).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer =
        SafetensorsWriter::create(&directory.join("adapter_model.safetensors"), &metadata, &specs)?;
    for p in list() {
        writer.write(&p.name(), p.values.clone().into_data().as_bytes())?;
    }
    writer.finish()?;
    let modules = side.projections.iter().map(|p| {
        let module = huggingface::module(0, *p);
        module.rsplit('.').next().unwrap_or_default().to_owned()
    });
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.display().to_string(),
        "r": side.rank,
        "lora_alpha": side.alpha,
        "lora_dropout": 0.0,
        "target_modules": modules.collect::<Vec<_>>(),
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": false,
        "use_dora": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
    });
    fs::write(directory.join("adapter_config.json"), format!("{config:#}\n")).map_err(io)
}

/// The model's parameters with every side path added to its projection's masters, `w + factor b a`.
fn fold(parameters: &Parameters, factor: f32) -> Parameters {
    let mut folded = parameters.without_side_paths();
    for Parameter { part, values, frozen, .. } in folded.list_mut() {
        *frozen = false;
        if let Some([a, b]) = parameters.side_path(*part) {
            let of = |at: usize| parameters.list()[at].values.clone();
            *values = values.clone() + of(b).matmul(of(a)) * factor;
        }
    }
    folded
}
