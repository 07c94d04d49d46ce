//! Side paths of projections (LoRA, arXiv:2106.09685) in the form of PEFT: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! A projection with a side path gives `y + (B factor) (A x)`, where `x` is its input before it is quantized, in f32 and in
//! the kernels' order of sums: the same bits for any kernel, number of threads and batch.

use std::{collections::BTreeMap, path::Path};

use bitnet_core::DenseMatrix;
use bitnet_format::{Checkpoint, Metadata};
use bitnet_model::{Config, ModelError, Part, PartSource, Projection, Table, Weight};
use bitnet_quant::ScreenTable;
use serde_json::Value;

use crate::{error::SourceError, family::huggingface, json::Fields};

/// What every tensor of PEFT's files is called in front of the module's own name.
const PREFIX: &str = "base_model.model.";
/// The file of weights beside `adapter_config.json`, and what older versions of PEFT wrote instead.
const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";
/// Larger ranks are taken for damage.
const MAX_RANK: usize = 1 << 14;

/// The side paths of a model.
pub struct Adapter {
    rank: usize,
    sides: BTreeMap<(usize, Projection), [DenseMatrix; 2]>,
}

impl Adapter {
    /// Opens the adapter in a directory, for models of `config`.
    ///
    /// # Errors
    /// As [`Adapter::new`], and for files that cannot be read or are PyTorch pickles.
    pub fn open(path: &Path, config: &Config) -> Result<Self, SourceError> {
        if path.is_dir() && !path.join(WEIGHTS).exists() && path.join(PICKLE).exists() {
            return Err(SourceError::Unsupported {
                what: format!(
                    "an adapter whose weights are a PyTorch pickle ({PICKLE}), which can run code when it is read"
                ),
                cure: format!("save it again with `safe_serialization=True`, as {WEIGHTS}"),
            });
        }
        Self::new(&Checkpoint::open_adapter(path)?, config)
    }

    /// Reads an adapter for models of `config`.
    ///
    /// # Errors
    /// When it is not plain LoRA of one rank on projections that the model has, or a matrix has another shape.
    pub fn new(checkpoint: &Checkpoint, config: &Config) -> Result<Self, SourceError> {
        let Metadata::HuggingFace(metadata) = checkpoint.metadata() else {
            return Err(SourceError::config("adapter_config.json", "a JSON object", "nothing"));
        };
        let (rank, factor) = settings(&metadata.config)?;
        let mut sides = BTreeMap::new();
        let mut used = 0;
        for layer in 0..config.layers {
            for &projection in Projection::of(config, layer) {
                let name =
                    |tail: &str| format!("{PREFIX}{}.{tail}.weight", huggingface::module(layer, projection));
                let [down, up] = ["lora_A", "lora_B"].map(name);
                if !checkpoint.contains(&down) && !checkpoint.contains(&up) {
                    continue;
                }
                let [outputs, inputs] = projection.shape(config);
                let down = matrix(checkpoint, &down, [rank, inputs], 1.0)?;
                let up = matrix(checkpoint, &up, [outputs, rank], factor)?;
                sides.insert((layer, projection), [down, up]);
                used += 2;
            }
        }
        if used != checkpoint.tensors().len() || used == 0 {
            let known = |name: &str| {
                sides.keys().any(|&(l, p)| name.contains(&format!("{}.lora_", huggingface::module(l, p))))
            };
            let other =
                checkpoint.tensors().find(|t| !known(t.name())).map_or("no tensor at all", |t| t.name());
            return Err(SourceError::config("adapter", "side paths of this model's projections", other));
        }
        Ok(Self { rank, sides })
    }

    /// Outputs of the first matrix of every side path.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Projections with a side path.
    pub fn len(&self) -> usize {
        self.sides.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }
}

/// The rank, and what side paths are multiplied with.
fn settings(json: &Value) -> Result<(usize, f32), SourceError> {
    let fields = Fields::new(json, "adapter_config.json")?;
    let refuse = |what: &str, got: String| Err(SourceError::config(what, "plain LoRA", got));
    match fields.optional_str("peft_type")? {
        Some("LORA") => {}
        other => return refuse("peft_type in adapter_config.json", other.unwrap_or("nothing").into()),
    }
    for key in ["use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"] {
        if fields.optional_bool(key)? == Some(true) {
            return refuse(&format!("{key} in adapter_config.json"), "true".into());
        }
    }
    for key in ["rank_pattern", "alpha_pattern", "modules_to_save"] {
        let said = json
            .get(key)
            .filter(|v| !v.is_null() && **v != serde_json::json!({}) && **v != serde_json::json!([]));
        if let Some(said) = said {
            return refuse(&format!("{key} in adapter_config.json"), said.to_string());
        }
    }
    if let Some(bias) = fields.optional_str("bias")?.filter(|bias| *bias != "none") {
        return refuse("bias in adapter_config.json", bias.into());
    }
    let rank = fields.size("r")?;
    if rank == 0 || rank > MAX_RANK {
        return Err(SourceError::config("r in adapter_config.json", format!("1 to {MAX_RANK}"), rank));
    }
    let alpha = fields.number("lora_alpha")?;
    let over =
        if fields.optional_bool("use_rslora")? == Some(true) { (rank as f32).sqrt() } else { rank as f32 };
    Ok((rank, alpha / over))
}

/// A matrix of floats, every element times `factor`.
fn matrix(
    checkpoint: &Checkpoint,
    name: &str,
    shape: [usize; 2],
    factor: f32,
) -> Result<DenseMatrix, SourceError> {
    let missing = || SourceError::missing(name.to_owned());
    let info = checkpoint.info(name).ok_or_else(missing)?;
    if info.shape() != shape {
        return Err(SourceError::shape(name, &shape, info.shape()));
    }
    let mut values = checkpoint.tensor(name)?.to_f32()?;
    if values.iter().any(|v| !v.is_finite()) {
        return Err(SourceError::config(format!("tensor '{name}'"), "finite numbers", "others"));
    }
    values.iter_mut().for_each(|v| *v *= factor);
    Ok(DenseMatrix::from_f32(shape[0], shape[1], &values).map_err(ModelError::from)?)
}

/// A model with side paths.
pub struct Adapted<'a> {
    base: &'a dyn PartSource,
    adapter: &'a Adapter,
}

impl<'a> Adapted<'a> {
    /// `base` with the side paths of `adapter`, which was read for its configuration.
    pub fn new(base: &'a dyn PartSource, adapter: &'a Adapter) -> Self {
        Self { base, adapter }
    }
}

impl PartSource for Adapted<'_> {
    fn config(&self) -> &Config {
        self.base.config()
    }

    fn name(&self, part: Part) -> String {
        self.base.name(part)
    }

    fn byte_len(&self, part: Part) -> u64 {
        self.base.byte_len(part)
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        self.base.weight(part)
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        self.base.vector(part)
    }

    fn is_folded(&self, part: Part) -> bool {
        self.base.is_folded(part)
    }

    fn screen(&self) -> Result<Option<ScreenTable>, ModelError> {
        self.base.screen()
    }

    fn side_rank(&self) -> usize {
        self.adapter.rank
    }

    fn side_path(&self, layer: usize, projection: Projection) -> Option<[Weight; 2]> {
        let pair = self.adapter.sides.get(&(layer, projection))?;
        Some(pair.clone().map(|matrix| Weight::Table(Table::Dense(matrix))))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;
    use crate::Source;

    /// What an adapter stands beside stays in the basis that it is in.
    #[test]
    fn a_folded_model_stays_folded_beside_an_adapter() {
        let made = "../../testdata/oracle-made/gguf/qwen35-j-folded32-PQ2_0.gguf";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(made);
        let checkpoint = Checkpoint::open(path, &Default::default()).expect("the made file opens");
        let source = Source::new(checkpoint).expect("the made model is read");
        let adapter = Adapter { rank: 1, sides: BTreeMap::new() };
        let adapted = Adapted::new(&source, &adapter);
        let parts = || Part::matrices(source.config());
        assert!(parts().any(|part| PartSource::is_folded(&source, part)));
        assert!(parts().all(|part| adapted.is_folded(part) == PartSource::is_folded(&source, part)));
    }
}
