//! The shapes of a model's parts, and what a file must have for them.

use bitnet_format::TensorType;
use bitnet_model::{DeltaNet, Part, Projection};

use super::Source;
use crate::error::SourceError;

impl Source {
    /// The shape of `part` in the file: another than the model's where two matrices are one there.
    pub(super) fn stored_shape(&self, part: Part) -> Vec<usize> {
        let mut shape = self.expected(part);
        if let Part::Weight(_, of) | Part::Bias(_, of) = part
            && matches!(of, Projection::Query | Projection::AttentionGate)
            && self.config.gated_attention
        {
            shape[0] *= 2;
        }
        shape
    }

    /// The shape of `part` in the model.
    pub(super) fn expected(&self, part: Part) -> Vec<usize> {
        let c = &self.config;
        let delta = c.recurrent.as_ref().map(|recurrent| recurrent.sizes);
        let recurrent = |of: fn(&DeltaNet) -> usize| delta.as_ref().map_or(0, of);
        match part {
            Part::Embedding | Part::Head => vec![c.vocab, c.hidden],
            Part::FinalNorm => vec![c.hidden],
            Part::Norm(_, norm) => vec![norm.len(c)],
            Part::Weight(_, p) => p.shape(c).to_vec(),
            Part::Bias(_, p) => vec![p.shape(c)[0]],
            Part::InputNorm(_, p) => vec![p.shape(c)[1]],
            Part::Convolution(_) => vec![recurrent(DeltaNet::channels), recurrent(|sizes| sizes.taps)],
            Part::DecayRate(_) | Part::DecayBias(_) => vec![recurrent(|sizes| sizes.value_heads)],
        }
    }

    pub(super) fn check_shapes(&self) -> Result<(), SourceError> {
        for part in self.matrices().chain(self.vectors()) {
            let (name, expected) = (self.name(part), self.stored_shape(part));
            let got = match (self.entry(&name)?, self.checkpoint.info(&name)) {
                (Some(entry), _) => vec![entry.rows, entry.cols],
                // Packed along rows: four to a byte.
                (_, Some(info)) if info.ty() == TensorType::U8 => {
                    let [rows, cols] = info.shape() else {
                        let got = format!("U8 of shape {:?}", info.shape());
                        return Err(SourceError::config(format!("tensor '{name}'"), "floats", got));
                    };
                    vec![
                        if expected.first().map(|r| r.div_ceil(4)) == Some(*rows) {
                            expected[0]
                        } else {
                            *rows
                        },
                        *cols,
                    ]
                }
                // PyTorch has a dimension of 1 in the middle.
                (_, Some(info)) if matches!(part, Part::Convolution(_)) => match *info.shape() {
                    [channels, 1, taps] => vec![channels, taps],
                    _ => info.shape().to_vec(),
                },
                (_, Some(info)) => info.shape().to_vec(),
                (None, None) => return Err(self.missing(part)),
            };
            if got != expected {
                return Err(SourceError::shape(name, &expected, &got));
            }
            if let Some(entry) = self.entry(&name)? {
                entry.check(&self.checkpoint, &name)?;
            }
        }
        if self.config.input_norm_eps.is_some() {
            let mut parts = self.projections().into_iter().map(|(l, p)| Part::InputNorm(l, p));
            let absent = parts.find(|&part| !self.has(part));
            if let Some(part) = absent {
                return Err(self.missing(part));
            }
        }
        Ok(())
    }
}
