//! What a forward pass must read at least, which bounds its speed.

use crate::{Backend, Model};

/// Bytes that one token reads, by what they are. Vectors (norms, biases) are left out: they are a thousandth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Ternary projections.
    pub ternary: usize,
    /// Projections that stayed dense.
    pub dense: usize,
    /// The head, which may be the embedding.
    pub head: usize,
    /// The head's screen, read in its place where not every logit is needed (and then a few of the head's rows); 0 without one.
    pub screen: usize,
}

impl<B: Backend> Model<B> {
    /// Bytes of matrices that a token with logits reads once.
    pub fn traffic(&self) -> Traffic {
        let (b, w) = (&self.backend, &self.weights);
        let mut traffic =
            Traffic { head: b.bytes_read(w.head.as_ref().unwrap_or(&w.embedding)), ..Traffic::default() };
        traffic.screen = w.screen.as_ref().map_or(0, |screen| b.screen_bytes(screen));
        for block in &w.blocks {
            let all =
                [&block.query, &block.key, &block.value, &block.output, &block.gate, &block.up, &block.down];
            for side in all.into_iter().filter_map(|layer| layer.side.as_ref()) {
                traffic.dense += b.bytes_read(&side.down) + b.bytes_read(&side.up);
            }
            for weight in all.map(|layer| &layer.weight) {
                let ternary = b.is_ternary(weight);
                *if ternary { &mut traffic.ternary } else { &mut traffic.dense } += b.bytes_read(weight);
            }
        }
        traffic
    }
}
