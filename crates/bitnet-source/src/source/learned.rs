//! Projections as training takes them up.

use bitnet_format::recognize_ternary;
use bitnet_model::{Part, Projection, Weight};
use bitnet_quant::TernaryMatrix;

use super::{Convention, Source};
use crate::{error::SourceError, family::huggingface::module};

/// A projection as training takes it up.
pub enum Learned {
    /// Floats, `[outputs, inputs]`: the masters of a ternary matrix, or a matrix that is not ternary yet.
    Floats(Vec<f32>),
    /// Exact trits: a packed matrix, or floats that are exactly ternary.
    Trits(TernaryMatrix),
}

impl Source {
    /// The weight of a projection: floats where the file has floats that are quantized as they are loaded, or are not ternary;
    /// trits where it has trits in any form.
    ///
    /// # Errors
    /// When the tensor cannot be read, or is of a form that is neither.
    pub fn learned(&self, layer: usize, projection: Projection) -> Result<Learned, SourceError> {
        let part = Part::Weight(layer, projection);
        let name = self.name(part);
        let unsupported = |what: &str| SourceError::Unsupported {
            what: format!("a model whose '{name}' {what}"),
            cure: "training goes on from floats, masters and single planes of trits".into(),
        };
        if let Convention::HuggingFace(Some(q)) = &self.convention
            && self.checkpoint.info(&name).is_some_and(|info| info.ty().is_float())
        {
            if q.keeps_dense(&module(layer, projection)) {
                return Err(unsupported("is not quantized beside others that are"));
            }
            let view = self.checkpoint.tensor(&name)?;
            if q.online || recognize_ternary(&view)?.is_none() {
                return Ok(Learned::Floats(view.to_f32()?));
            }
        }
        match self.weight(part)? {
            Weight::Table(table) => {
                let mut values = vec![0.0; table.rows() * table.cols()];
                let rows = values.chunks_exact_mut(table.cols()).enumerate();
                rows.for_each(|(row, out)| table.row_to_f32(row, out));
                Ok(Learned::Floats(values))
            }
            weight => match weight.trits().map_err(SourceError::quant(&name))? {
                Some(trits) => Ok(Learned::Trits(trits)),
                None => Err(unsupported("is the sum of two planes")),
            },
        }
    }
}
