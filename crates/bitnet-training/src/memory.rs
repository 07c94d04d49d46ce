//! The memory that a step takes, by what it is for.

use serde::Serialize;

use crate::{Kind, Trainer};

/// Bytes of an f32.
const FLOAT: usize = size_of::<f32>();

/// Bytes that a run holds at its largest, when a step turns from forward to backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Bytes of the f32 masters.
    pub masters: usize,
    /// Bytes of the gradients of what is trained.
    pub gradients: usize,
    /// Bytes of the optimizer's two means.
    pub optimizer: usize,
    /// What a forward pass keeps for its backward: inputs of operations, and the weights as they were rounded.
    pub activations: usize,
}

impl TrainingMemory {
    /// The sum of all parts.
    pub fn total(&self) -> usize {
        self.masters + self.gradients + self.optimizer + self.activations
    }
}

impl Trainer {
    /// What a step takes. Text, tokenizer and program come on top.
    pub fn memory(&self) -> TrainingMemory {
        let (config, options) = (self.model().config(), self.options());
        let parameters = self.parameters().count();
        let trained = self.parameters().list().iter().filter(|p| !p.frozen);
        let trained: usize = trained.map(|p| p.values.dims().iter().product::<usize>()).sum();
        let tokens = options.batch * options.positions;
        let (hidden, ffn) = (config.hidden, config.ffn);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        // Per token: inputs of both norms and of the projections behind them; queries, keys and values as they were turned; the
        // attended values, which sub-norm and projection keep; gates and ups; their product, twice.
        let sub = if config.sub_norms { 2 } else { 1 };
        let row = 4 * hidden + (q + 2 * kv) + sub * q + 2 * ffn + sub * ffn;
        let scores = options.batch * config.heads * options.positions * options.positions;
        let rounded: usize = self
            .parameters()
            .list()
            .iter()
            .filter(|p| p.kind == Kind::Ternary)
            .map(|p| p.values.dims().iter().product::<usize>())
            .sum();
        let block = tokens * row + scores + rounded / config.layers.max(1);
        let blocks = match self.model().recomputes() {
            // One block's at a time, and every block's input.
            true => block + config.layers * tokens * hidden,
            false => config.layers * block,
        };
        // The last norm's input and result, and the logits.
        let ends = tokens * (2 * hidden + config.vocab);
        TrainingMemory {
            masters: parameters * FLOAT,
            // Sums of several passes are beside the gradients of the last.
            gradients: options.accumulate.min(2) * trained * FLOAT,
            optimizer: 2 * trained * FLOAT,
            activations: (blocks + ends) * FLOAT,
        }
    }
}
