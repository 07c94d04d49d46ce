//! From masters to files that are served, with proof: what was written is read back and compared, and the engine's logits
//! are set beside those of training.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bitnet_convert::{ConvertOptions, QuantizationJson, Target, convert, to_config_json};
use bitnet_format::{SafetensorsWriter, TensorSpec, TensorType};
use bitnet_inference::{ActivationChoice, InferenceEngine, LoadOptions};
use bitnet_model::{Config, Projection};
use bitnet_quant::{Granularity, QuantConfig, weights};
use bitnet_source::family::huggingface;
use serde_json::{Value, json};

use crate::{FakeQuantization, Kind, Minibatch, Parameter, TrainError, Trainer};

/// A tokenizer's files: `tokenizer.json`, and the tokens around a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerFiles {
    /// The text of `tokenizer.json`.
    pub json: String,
    /// The spelling of the token before a text, where there is one.
    pub bos: Option<String>,
    /// The spelling of the token behind a text, where there is one.
    pub eos: Option<String>,
    /// The chat template, where there is one.
    pub chat_template: Option<String>,
}

/// How near the served model is to the trained one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Positions compared, of the validation text.
    pub positions: usize,
    /// The largest difference of a logit.
    pub largest: f64,
    /// The root of the mean square of the differences.
    pub rms: f64,
    /// The standard deviation of the logits.
    pub deviation: f64,
    /// Positions whose most probable token is the same.
    pub same_top: usize,
}

impl Agreement {
    /// The most that `rms` may be, over `deviation`. Integer sums and norms are equal to the bit; attention and head add
    /// floats in another order, and where that moves an activation over the edge between two int8 codes, the rest of the model
    /// sees it.
    pub const BOUND: f64 = 0.02;

    /// Whether the difference is small enough for the two to be the same model.
    pub fn holds(&self) -> bool {
        self.rms <= Self::BOUND * self.deviation
    }
}

/// The files that an export wrote, and their proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The format, by the name that `bitnet convert` has for it.
    pub format: String,
    /// The path of the file or directory.
    pub path: PathBuf,
    /// Its agreement with training, where the engine runs the format.
    pub agreement: Option<Agreement>,
}

/// Writes the masters of `trainer` to `directory/master`, and from there every format of `formats`.
///
/// # Errors
/// When the disk refuses, a format cannot hold the model, what was written is not what was read, or the engine's logits are not
/// those of training ([`TrainError::Disagreement`]).
pub fn export(
    trainer: &Trainer,
    tokenizer: &TokenizerFiles,
    formats: &[String],
    directory: &Path,
) -> Result<Vec<Exported>, TrainError> {
    let master = directory.join("master");
    write_master(trainer, tokenizer, &master)?;
    let mut all = vec![Exported { format: "master".into(), path: master.clone(), agreement: None }];
    for format in formats {
        let target: Target = format.parse()?;
        let path = directory.join(match target {
            Target::Bitnet => "model.bitnet".to_owned(),
            _ if target.is_directory() => format.clone(),
            _ => format!("model-{}.gguf", format.trim_start_matches("gguf-")),
        });
        convert(&master, &path, target, &ConvertOptions { force: true, ..Default::default() })?;
        let agreement = agreement(trainer, &path, &trained_as(trainer.model().config()))?;
        if !agreement.holds() {
            return Err(TrainError::Disagreement {
                path,
                rms: agreement.rms,
                deviation: agreement.deviation,
            });
        }
        all.push(Exported { format: format.clone(), path, agreement: Some(agreement) });
    }
    Ok(all)
}

/// With the activations of the training: the engine rounds them for models that were trained without, too.
pub(crate) fn trained_as(config: &Config) -> LoadOptions {
    let activations = if config.trained_int8 { ActivationChoice::Auto } else { ActivationChoice::Float };
    LoadOptions { activations, ..LoadOptions::default() }
}

/// Writes a Hugging Face directory of floats. Models with int8 activations and one scale per matrix are written as their masters, to
/// be quantized when they are loaded (`autobitlinear`, online), others as what takes part in the product: trits times scales, or
/// plain floats. Scales of rows and groups beside int8 activations are said to be `offline` floats, which this engine takes for
/// the trits that they are; `transformers` has no such form, and refuses them instead of rounding masters by another rule.
fn write_master(trainer: &Trainer, tokenizer: &TokenizerFiles, directory: &Path) -> Result<(), TrainError> {
    let config = trainer.model().config();
    let quantization = FakeQuantization { lambda: 1.0, ..trainer.model().quantization() };
    let io = |error| TrainError::Io { path: directory.into(), error };
    fs::create_dir_all(directory).map_err(io)?;
    let list = trainer.parameters().list();
    let shape = |p: &Parameter| match p.kind {
        Kind::Norm => vec![p.values.dims()[1]],
        _ => p.values.dims().to_vec(),
    };
    let specs: Vec<TensorSpec> =
        list.iter().map(|p| TensorSpec::new(p.name(), TensorType::F32, shape(p))).collect();
    // transformers refuses files that do not name their framework.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = SafetensorsWriter::create(&directory.join("model.safetensors"), &metadata, &specs)?;
    for p in list {
        let values = served(p, quantization)?;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(&p.name(), &bytes)?;
    }
    writer.finish()?;
    // A class with sub-norms takes floats for masters unless it is told that they are none.
    let dense: Vec<String> = match quantization.weights {
        None if config.sub_norms => (0..config.layers)
            .flat_map(|layer| Projection::PLAIN.map(|p| huggingface::module(layer, p)))
            .collect(),
        _ => Vec::new(),
    };
    let online = (quantization.activations || !dense.is_empty()).then_some(QuantizationJson {
        linear_class: "autobitlinear",
        mode: if exact(quantization).is_some() { "offline" } else { "online" },
        dense,
        head: false,
    });
    let text = |value: &Value| format!("{value:#}\n");
    let files = [
        (
            "config.json",
            text(&to_config_json(config, &config.rope.scaling, [false; 3], "float32", online.as_ref())),
        ),
        ("generation_config.json", text(&json!({ "bos_token_id": config.bos, "eos_token_id": config.eos }))),
        ("tokenizer.json", tokenizer.json.clone()),
        ("tokenizer_config.json", text(&tokenizer_config(tokenizer, config))),
    ];
    let template = tokenizer.chat_template.clone().map(|text| ("chat_template.jinja", text));
    for (name, text) in files.into_iter().chain(template) {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| TrainError::Io { path, error })?;
    }
    Ok(())
}

fn tokenizer_config(tokenizer: &TokenizerFiles, config: &Config) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.bos,
        "eos_token": tokenizer.eos,
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": false,
    })
}

/// Which weights share a scale, where trits times scales are written.
fn exact(quantization: FakeQuantization) -> Option<Granularity> {
    quantization.weights.filter(|&g| g != Granularity::Tensor || !quantization.activations)
}

/// The values of a parameter as they are written.
fn served(p: &Parameter, quantization: FakeQuantization) -> Result<Vec<f32>, TrainError> {
    let not_finite = || TrainError::NotFinite { name: p.name() };
    let data = p.values.clone().into_data();
    let values = data.as_slice::<f32>().map_err(|_| not_finite())?;
    let Some(granularity) = exact(quantization).filter(|_| p.kind == Kind::Ternary) else {
        return Ok(values.to_vec());
    };
    let [rows, cols] = p.values.dims();
    let trits =
        weights::absmean(rows, cols, values, QuantConfig { granularity }).map_err(|_| not_finite())?;
    let mut out = vec![0.0; values.len()];
    out.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| trits.row_to_f32(row, out));
    Ok(out)
}

/// Sets the engine's logits of the file at `path` beside those of training, over the first windows of the validation text.
///
/// # Errors
/// When the engine does not run the file.
pub fn agreement(trainer: &Trainer, path: &Path, options: &LoadOptions) -> Result<Agreement, TrainError> {
    const WINDOWS: usize = 4;
    let model = {
        let mut model = trainer.model().clone();
        model.set_quantization(FakeQuantization { lambda: 1.0, ..model.quantization() });
        model
    };
    let engine = InferenceEngine::load(path, options)?;
    let mut session = engine.session()?;
    let (mut trained, mut served) = (Vec::new(), Vec::new());
    for ids in trainer.lessons().samples(WINDOWS, trainer.options().positions) {
        let batch = Minibatch { sequences: 1, ids: ids.into(), targets: vec![None; ids.len()].into() };
        let logits = model.logits(trainer.parameters(), &trainer.constants(), &batch);
        let data = logits.inner().into_data();
        let not_finite = |_| TrainError::NotFinite { name: "the logits".into() };
        trained.extend_from_slice(data.as_slice::<f32>().map_err(not_finite)?);
        session.reset();
        session.logits(ids, |row| served.extend_from_slice(row))?;
    }
    Ok(compare(&trained, &served, model.config().vocab))
}

fn compare(trained: &[f32], served: &[f32], vocab: usize) -> Agreement {
    let n = trained.len() as f64;
    let mean = trained.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let (mut squares, mut variance, mut largest) = (0.0, 0.0, 0f64);
    for (&a, &b) in trained.iter().zip(served) {
        let d = f64::from(a) - f64::from(b);
        squares += d * d;
        variance += (f64::from(a) - mean).powi(2);
        largest = largest.max(d.abs());
    }
    let top = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
    let rows = trained.chunks_exact(vocab).zip(served.chunks_exact(vocab));
    Agreement {
        positions: trained.len() / vocab,
        largest,
        rms: (squares / n).sqrt(),
        deviation: (variance / n).sqrt(),
        same_top: rows.filter(|(a, b)| top(a) == top(b)).count(),
    }
}
