//! Projections: trits as files hold them, masters, and floats that stay as they are.

use bitnet_format::{TensorView, hf_packed_to_ternary, recognize_ternary};
use bitnet_model::{Projection, Weight};
use bitnet_quant::{QuantConfig, Scales, TernaryMatrix, weights::absmean};

use super::Source;
use crate::{
    error::SourceError,
    family::{
        gguf,
        huggingface::{Quantization, ScaleMeaning},
    },
    table::table,
};

impl Source {
    /// `[ceil(rows / 4), cols]` bytes with a `weight_scale` beside them.
    pub(super) fn unpack(
        &self,
        view: &TensorView<'_>,
        name: &str,
        quantization: Option<&Quantization>,
        rows: usize,
    ) -> Result<Weight, SourceError> {
        let stored = self.stored_scale(name)?.ok_or_else(|| SourceError::missing(scale_of(name)))?;
        let scale = match quantization.map(|q| q.scale) {
            Some(ScaleMeaning::Multiply) => stored,
            _ => 1.0 / stored,
        };
        Ok(Weight::Ternary(hf_packed_to_ternary(view, rows, scale)?))
    }

    /// The number beside a packed tensor, as it stands.
    pub(super) fn stored_scale(&self, name: &str) -> Result<Option<f32>, SourceError> {
        let scale = scale_of(name);
        if self.checkpoint.info(&scale).is_none() {
            return Ok(None);
        }
        let values = self.checkpoint.tensor(&scale)?.to_f32()?;
        match values[..] {
            [one] if one.is_finite() && one != 0.0 => Ok(Some(one)),
            [one] => Err(SourceError::config(scale, "a finite number other than 0", one)),
            _ => Err(SourceError::shape(scale, &[1], &[values.len()])),
        }
    }

    /// A projection stored as floats: a master, an exactly ternary matrix, or one that stays dense.
    pub(super) fn float_projection(
        &self,
        view: &TensorView<'_>,
        name: &str,
        quantization: Option<&Quantization>,
        module: &str,
    ) -> Result<Weight, SourceError> {
        let Some(quantization) = quantization else {
            // Nobody says that it was quantized: trits where it is exactly ternary, else the floats themselves.
            return Ok(match recognize_ternary(view)? {
                Some(trits) => Weight::Ternary(trits),
                None => Weight::Table(table(view)?),
            });
        };
        if quantization.keeps_dense(module) {
            return Ok(Weight::Table(table(view)?));
        }
        if !quantization.online
            && let Some(trits) = recognize_ternary(view)?
        {
            return Ok(Weight::Ternary(trits));
        }
        // Masters are quantized as training does, and as their own code does at every use.
        let (rows, cols) = (view.info().rows(), view.info().cols());
        let trits = absmean(rows, cols, &view.to_f32()?, QuantConfig::default());
        Ok(Weight::Ternary(trits.map_err(SourceError::quant(name))?))
    }

    pub(super) fn gguf_projection(
        &self,
        view: &TensorView<'_>,
        name: &str,
        layer: usize,
        projection: Projection,
    ) -> Result<Weight, SourceError> {
        let ty = view.info().ty();
        let trits = match ty {
            _ if ty.is_ternary() => Some(view.to_ternary()?),
            _ if ty.is_float() => recognize_ternary(view)?,
            _ => None,
        };
        let scale_name = gguf::scale_name(layer, projection);
        let scaled = self.checkpoint.info(&scale_name).is_some();
        let Some(trits) = trits else {
            if scaled {
                return Err(SourceError::config(
                    scale_name,
                    "to stand beside trits",
                    format!("floats in '{name}'"),
                ));
            }
            return Ok(Weight::Table(table(view)?));
        };
        if !scaled {
            return Ok(Weight::Ternary(trits));
        }
        let factors = self.checkpoint.tensor(&scale_name)?.to_f32()?;
        scale_by(trits, &factors).map(Weight::Ternary).map_err(SourceError::quant(&scale_name))
    }
}

/// `weight_scale` stands beside `weight`.
fn scale_of(name: &str) -> String {
    format!("{name}_scale")
}

/// The same trits, every scale times its row's factor (or the only one).
fn scale_by(trits: TernaryMatrix, factors: &[f32]) -> Result<TernaryMatrix, bitnet_quant::QuantError> {
    let scales = match (trits.scales().clone(), factors) {
        (Scales::Tensor(s), [f]) => Scales::Tensor(s * f),
        (Scales::Tensor(s), _) => Scales::Row(factors.iter().map(|f| s * f).collect()),
        (Scales::Row(s), [f]) => Scales::Row(s.iter().map(|s| s * f).collect()),
        (Scales::Row(s), _) => Scales::Row(s.iter().zip(factors).map(|(s, f)| s * f).collect()),
        (Scales::Group { size, scales }, _) => {
            let per_row = trits.cols().div_ceil(size);
            let factor = |row: usize| if factors.len() == 1 { Some(&factors[0]) } else { factors.get(row) };
            let scaled = scales.iter().enumerate().filter_map(|(i, s)| factor(i / per_row).map(|f| s * f));
            Scales::Group { size, scales: scaled.collect() }
        }
    };
    trits.with_scales(scales)
}
