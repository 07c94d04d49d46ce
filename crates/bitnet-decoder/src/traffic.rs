//! What a forward pass must read at least, which bounds its speed.

use crate::{BitLinear, Model};
use bitnet_device::{Device, Screening};

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

impl<D: Device> Model<D> {
    /// Bytes of matrices that a token with logits reads once.
    pub fn traffic(&self) -> Traffic {
        let (device, w) = (&self.device, &self.weights);
        let mut traffic = Traffic { head: device.bytes_read(self.head()), ..Traffic::default() };
        traffic.screen = w.screen.as_ref().map_or(0, D::Screen::bytes_read);
        for block in &w.blocks {
            for BitLinear { weight, side, .. } in block.projections() {
                if let Some(side) = side {
                    traffic.dense += device.bytes_read(&side.down) + device.bytes_read(&side.up);
                }
                let ternary = device.is_ternary(weight);
                *if ternary { &mut traffic.ternary } else { &mut traffic.dense } += device.bytes_read(weight);
            }
        }
        traffic
    }
}
