//! How rows, columns and numbers of a file become those of the model.
//!
//! llama.cpp's converter interleaves the halves of `llama`'s query and key heads. Qwen3.5 has queries and their gates in one
//! matrix, head by head. Its norms hold what is added to 1, in every form but GGUF, where rates of decay are ready as well and
//! value heads are tiled: the first of every key head, then the second of each, and so on.

use bitnet_kernels::exp;
use bitnet_model::{DeltaNet, Norm, Part, Projection, Weight};

use super::{Convention, Source};
use crate::{
    error::SourceError,
    family::{QWEN35, gguf, hadamard::Contract},
};

/// An order of runs of `unit` rows or columns.
pub(super) struct Order {
    unit: usize,
    runs: Vec<usize>,
}

impl Order {
    /// The same, row by row.
    fn rows(&self) -> Vec<usize> {
        let Self { unit, runs } = self;
        runs.iter().flat_map(|run| run * unit..(run + 1) * unit).collect()
    }
}

impl Source {
    /// `weight`, which stands in the file, as the model has it.
    pub(super) fn arranged(&self, part: Part, weight: Weight) -> Result<Weight, SourceError> {
        let Part::Weight(_, projection) = part else { return Ok(weight) };
        let weight = match self.row_order(projection) {
            Some(order) => weight.select_rows(&order)?,
            None => weight,
        };
        Ok(match self.column_order(projection) {
            Some(Order { unit, runs }) => weight.reorder_columns(unit, &runs)?,
            None => weight,
        })
    }

    /// The numbers of a vector, which stand in the file, as the model has them.
    pub(super) fn arranged_vector(&self, part: Part, mut values: Vec<f32>) -> Result<Vec<f32>, SourceError> {
        let ready = matches!(self.convention, Convention::Gguf { .. });
        match part {
            Part::FinalNorm | Part::Norm(_, Norm::Attention | Norm::Ffn | Norm::Query | Norm::Key)
                if self.config.family == QWEN35 && !ready =>
            {
                values.iter_mut().for_each(|v| *v += 1.0);
            }
            Part::Convolution(_) => values = self.taps_first(&values),
            Part::DecayRate(_) | Part::DecayBias(_) => {
                if matches!(part, Part::DecayRate(_)) && !ready {
                    values.iter_mut().for_each(|v| *v = -exp(*v));
                }
                if let Some(Order { runs, .. }) = self.tiled_heads(|_| 1) {
                    values = runs.iter().map(|&head| values[head]).collect();
                }
            }
            _ => {}
        }
        let name = || self.name(part);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(SourceError::NotFinite { name: name() });
        }
        match part {
            Part::DecayRate(_) if values.iter().any(|&rate| rate > 0.0) => {
                Err(SourceError::config(name(), "rates of decay of 0 or less", "one that grows"))
            }
            _ => Ok(values),
        }
    }

    /// `[channels, taps]` as `[taps, channels]`.
    fn taps_first(&self, values: &[f32]) -> Vec<f32> {
        let Some(sizes) = self.delta_net() else { return values.to_vec() };
        let order = self.row_order(Projection::DeltaInput);
        let channel = |i: usize| order.as_ref().map_or(i, |order| order[i]);
        let of_tap = |tap: usize| (0..sizes.channels()).map(move |i| (tap, i));
        (0..sizes.taps).flat_map(of_tap).map(|(tap, i)| values[channel(i) * sizes.taps + tap]).collect()
    }

    fn delta_net(&self) -> Option<DeltaNet> {
        self.config.recurrent.as_ref().map(|recurrent| recurrent.sizes)
    }

    /// Whether the rows or columns of `part` stand in the file in another order than in the model.
    pub fn reorders(&self, part: Part) -> bool {
        matches!(part, Part::Weight(_, p) if self.row_order(p).is_some() || self.column_order(p).is_some())
    }

    /// The rows of the file's tensor that a projection consists of, in its order.
    pub(super) fn row_order(&self, projection: Projection) -> Option<Vec<usize>> {
        let c = &self.config;
        let interleaved = matches!(self.convention, Convention::Gguf { interleaved: true });
        match projection {
            Projection::Query if interleaved => Some(gguf::half_split_order(c.heads, c.head_dim)),
            Projection::Key if interleaved => Some(gguf::half_split_order(c.kv_heads, c.head_dim)),
            Projection::Query | Projection::AttentionGate if c.gated_attention => {
                let second = usize::from(projection == Projection::AttentionGate);
                let runs = (0..c.heads).map(|head| 2 * head + second).collect();
                Some(Order { unit: c.head_dim, runs }.rows())
            }
            Projection::DeltaInput => {
                let values = self.tiled_heads(|sizes| sizes.value_dim)?;
                let keys = 2 * self.delta_net()?.key_width();
                Some((0..keys).chain(values.rows().into_iter().map(|row| keys + row)).collect())
            }
            Projection::DeltaGate => self.tiled_heads(|sizes| sizes.value_dim).map(|order| order.rows()),
            Projection::DeltaBeta | Projection::DeltaDecay => {
                self.tiled_heads(|_| 1).map(|order| order.rows())
            }
            _ => None,
        }
    }

    /// The runs of columns of the file's tensor, in the order of the model's.
    fn column_order(&self, projection: Projection) -> Option<Order> {
        match projection {
            // Under a contract the columns may stand in the model's order, whatever that of the heads that make them.
            Projection::DeltaOutput if !self.contract.as_ref().is_some_and(Contract::gdn_v_grouped) => {
                self.tiled_heads(|sizes| sizes.value_dim)
            }
            _ => None,
        }
    }

    /// Whether the file has the value heads in another order than the model.
    pub(super) fn reorders_heads(&self) -> bool {
        self.tiled_heads(|_| 1).is_some_and(|order| !order.runs.is_sorted())
    }

    /// Where each value head stands in a file that tiles them, as runs of as many numbers as `unit` says.
    fn tiled_heads(&self, unit: impl Fn(&DeltaNet) -> usize) -> Option<Order> {
        let sizes = self.delta_net().filter(|_| matches!(self.convention, Convention::Gguf { .. }))?;
        let of_each = sizes.value_heads / sizes.key_heads;
        let place = |head: usize| head % of_each * sizes.key_heads + head / of_each;
        Some(Order { unit: unit(&sizes), runs: (0..sizes.value_heads).map(place).collect() })
    }
}
