//! A model that training goes on from.

use std::path::{Path, PathBuf};

use bitnet_format::{HfMetadata, Metadata, OpenOptions};
use bitnet_inference::vocabulary;
use bitnet_model::{Config, Part, Projection, Weight};
use bitnet_quant::{Granularity, TernaryMatrix, weights};
use bitnet_source::{Learned, Source};
use bitnet_text::{ChatTemplate, Tokenizer};
use burn_tensor::Device;

use crate::{FakeQuantization, Parameters, TrainError, export::TokenizerFiles};

/// A model on disk, read for training.
pub struct Found {
    path: PathBuf,
    source: Source,
    projections: Vec<Learned>,
    quantization: FakeQuantization,
}

impl Found {
    /// Reads a Hugging Face directory of masters, of floats, or of packed trits, a GGUF or a `.bitnet` file.
    ///
    /// # Errors
    /// When it cannot be read, has biases, or mixes ternary and dense projections.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let source = Source::new(bitnet_source::open(path, &OpenOptions::default())?)?;
        source.must_be_plain("training")?;
        let wrong = |what: &str| TrainError::Start { path: path.into(), what: what.into() };
        let all = || {
            (0..source.config().layers)
                .flat_map(|layer| Projection::PLAIN.map(|projection| (layer, projection)))
        };
        if all().any(|(layer, projection)| source.has(Part::Bias(layer, projection))) {
            return Err(wrong("its projections have biases, which training has not"));
        }
        let projections = all().map(|(l, p)| source.learned(l, p)).collect::<Result<Vec<_>, _>>()?;
        let trits = || {
            projections.iter().filter_map(|p| match p {
                Learned::Trits(trits) => Some(trits.scales().granularity()),
                Learned::Floats(_) => None,
            })
        };
        let int8 = source.config().trained_int8;
        let granularity = match (trits().count(), int8) {
            (0, true) => Some(Granularity::Tensor),
            (0, false) => None,
            (n, _) if n == projections.len() => trits().reduce(finer),
            _ => return Err(wrong("some of its projections are ternary and some are not")),
        };
        let quantization = FakeQuantization { weights: granularity, activations: int8, lambda: 1.0 };
        Ok(Self { path: path.into(), source, projections, quantization })
    }

    /// The path that the model was opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sizes and constants of the model.
    pub fn config(&self) -> &Config {
        self.source.config()
    }

    /// What the model's own quantization rounds.
    pub fn quantization(&self) -> FakeQuantization {
        self.quantization
    }

    /// Whether it has trits and no masters.
    pub fn is_packed(&self) -> bool {
        self.projections.iter().all(|p| matches!(p, Learned::Trits(_)))
    }

    /// The model's tokenizer and its files, if it came with one.
    ///
    /// # Errors
    /// When it came with one that cannot be read.
    pub fn tokenizer(&self) -> Result<Option<(Tokenizer, TokenizerFiles)>, TrainError> {
        let checkpoint = self.source.checkpoint();
        let Some(tokenizer) = vocabulary::tokenizer(checkpoint)? else { return Ok(None) };
        let hf = |m: &HfMetadata| -> Result<_, TrainError> {
            let json = m.tokenizer_json.as_ref().map(|text| text.read()).transpose()?;
            Ok((json, m.chat_template.clone()))
        };
        let (json, chat_template) = match checkpoint.metadata() {
            Metadata::HuggingFace(m) => hf(m)?,
            Metadata::Bitnet(m) => hf(&m.hf)?,
            Metadata::Gguf(m) => (None, m.opt_str("tokenizer.chat_template")?.map(str::to_owned)),
            _ => (None, None),
        };
        let text = |id: Option<u32>| String::from_utf8(tokenizer.token_bytes(id?)?.to_vec()).ok();
        let files = TokenizerFiles {
            json: json.map_or_else(|| tokenizer.to_json(), Ok)?,
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            chat_template,
        };
        Ok(Some((tokenizer, files)))
    }

    /// The model's chat template, if it has one.
    ///
    /// # Errors
    /// When it cannot be compiled.
    pub fn chat_template(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, TrainError> {
        Ok(vocabulary::chat_template(self.source.checkpoint(), Some(tokenizer))?)
    }

    /// Masters that are rounded by `granularity` to what the model is: its own ones, or, where it has trits only, floats that round
    /// to these trits and scales.
    ///
    /// # Errors
    /// When a part cannot be read, or the scales are finer than `granularity`.
    pub fn parameters(
        &self,
        granularity: Option<Granularity>,
        device: &Device,
    ) -> Result<Parameters, TrainError> {
        Parameters::from_parts(self.config(), device, |part| match part {
            Part::Weight(layer, projection) => {
                let at = Projection::PLAIN.iter().position(|p| *p == projection).unwrap_or(0);
                match &self.projections[layer * Projection::PLAIN.len() + at] {
                    Learned::Floats(values) => Ok(values.clone()),
                    Learned::Trits(trits) => {
                        masters(trits, granularity).ok_or_else(|| TrainError::Contradiction {
                            key: "quantization.weights".into(),
                            job: name(granularity),
                            path: self.path.clone(),
                            model: format!(
                                "scales by {} in '{}'",
                                name(Some(trits.scales().granularity())),
                                self.source.name(part)
                            ),
                            cure: "take \"model\"",
                        })
                    }
                }
            }
            Part::Embedding | Part::Head => Ok(table(self.source.weight(part)?)),
            _ => match self.source.vector(part)? {
                Some(values) => Ok(values),
                None => Err(TrainError::Start {
                    path: self.path.clone(),
                    what: format!("'{}' is missing", self.source.name(part)),
                }),
            },
        })
    }
}

/// The granularity as jobs spell it.
pub(crate) fn name(granularity: Option<Granularity>) -> String {
    match granularity {
        None => "none".into(),
        Some(Granularity::Tensor) => "tensor".into(),
        Some(Granularity::Row) => "row".into(),
        Some(Granularity::Group(size)) => format!("group-{size}"),
    }
}

/// Of two granularities the one with more scales.
fn finer(a: Granularity, b: Granularity) -> Granularity {
    match (a, b) {
        (Granularity::Tensor, other) | (other, Granularity::Tensor) => other,
        (Granularity::Row, other) | (other, Granularity::Row) => other,
        (Granularity::Group(a), Granularity::Group(b)) => Granularity::Group(a.min(b)),
    }
}

fn table(weight: Weight) -> Vec<f32> {
    let [rows, cols] = weight.shape();
    let mut values = vec![0.0; rows * cols];
    values.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| weight.row_to_f32(row, out));
    values
}

/// Floats whose absmean quantization by `granularity` has exactly these trits and scales; `None` when scales differ within
/// one of its parts, or are so small that absmean has none of them.
fn masters(trits: &TernaryMatrix, granularity: Option<Granularity>) -> Option<Vec<f32>> {
    let (rows, cols) = (trits.rows(), trits.cols());
    let mut values = vec![0.0; rows * cols];
    let mut row_trits = vec![0i8; cols];
    for (row, out) in values.chunks_exact_mut(cols).enumerate() {
        trits.row_trits(row, &mut row_trits);
        for (col, (out, &trit)) in out.iter_mut().zip(&row_trits).enumerate() {
            *out = f32::from(trit) * trits.scale(row, col);
        }
    }
    let (part, width) = match granularity? {
        Granularity::Tensor => (rows * cols, cols),
        Granularity::Row => (cols, cols),
        Granularity::Group(size) => (size, cols),
    };
    let even = match granularity? {
        Granularity::Group(_) => {
            values.chunks_mut(cols).flat_map(|row| row.chunks_mut(part)).all(|p| even_out(p, width))
        }
        _ => values.chunks_mut(part).all(|p| even_out(p, width)),
    };
    even.then_some(values)
}

/// Scales equal magnitudes so that their mean, zeros included, is what each was. False when they are not equal.
fn even_out(part: &mut [f32], cols: usize) -> bool {
    let Some(scale) = part.iter().find(|v| **v != 0.0).map(|v| v.abs()) else { return true };
    if part.iter().any(|v| *v != 0.0 && v.abs() != scale) || scale < weights::MIN_MEAN {
        return false;
    }
    let count = part.iter().filter(|v| **v != 0.0).count();
    let larger = (f64::from(scale) * part.len() as f64 / count as f64) as f32;
    part.iter_mut().filter(|v| **v != 0.0).for_each(|v| *v = v.signum() * larger);
    // What rounding has taken from the mean is given to one of them, or a few of millions: the scale is then exact.
    let missing = f64::from(scale) * part.len() as f64 - f64::from(larger) * count as f64;
    let few = (part.len() >> 20).clamp(1, count);
    let share = (f64::from(larger) + missing / few as f64) as f32;
    if weights::mean_abs(part, cols) != scale {
        part.iter_mut().filter(|v| **v != 0.0).take(few).for_each(|v| *v = v.signum() * share);
    }
    true
}

#[cfg(test)]
mod tests {
    use bitnet_quant::QuantConfig;

    use super::*;

    #[test]
    fn masters_of_trits_round_to_these_trits_and_scales() {
        let (rows, cols) = (48, 96);
        for seed in 0..40u32 {
            let noise = |i: usize| {
                ((i as u32).wrapping_mul(2_654_435_761 ^ seed.wrapping_mul(40_503)) >> 9) as f32 / 8.4e6 - 0.5
            };
            let floats: Vec<f32> = (0..rows * cols).map(|i| noise(i) * (1.0 + seed as f32 / 7.0)).collect();
            for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(32)] {
                let config = QuantConfig { granularity };
                let trits = weights::absmean(rows, cols, &floats, config).unwrap();
                let masters = masters(&trits, Some(granularity)).unwrap();
                let sizes = || masters.iter().map(|m| m.abs()).filter(|m| *m > 0.0);
                let (low, high) = (sizes().fold(f32::MAX, f32::min), sizes().fold(0.0, f32::max));
                // Scales of rows and groups differ by themselves.
                let even = if granularity == Granularity::Tensor { 1.001 } else { 3.0 };
                assert!(high < low * even, "{granularity:?}: {low} to {high}");
                assert_eq!(weights::absmean(rows, cols, &masters, config).unwrap(), trits, "{granularity:?}");
            }
        }
    }

    #[test]
    fn finer_scales_are_not_made_coarser() {
        let floats: Vec<f32> = (0..64 * 64).map(|i| (i % 7) as f32 - 3.0 + (i / 64) as f32).collect();
        let row = weights::absmean(64, 64, &floats, QuantConfig { granularity: Granularity::Row }).unwrap();
        assert!(masters(&row, Some(Granularity::Tensor)).is_none() && masters(&row, None).is_none());
    }
}
