//! What mixes the positions of a block: attention, or a recurrence.

use crate::ModelError;

/// What mixes the positions of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Softmax attention over all earlier positions: it keeps their keys and values.
    Attention,
    /// Gated DeltaNet (arXiv:2412.06464): it keeps a matrix per head, whatever the length.
    DeltaNet(DeltaNet),
}

/// Sizes of a block of Gated DeltaNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaNet {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values, each with a state of its own; value head `h` reads key head `h / (value_heads / key_heads)`.
    pub value_heads: usize,
    /// Dimensions of a query or key head.
    pub key_dim: usize,
    /// Dimensions of a value head.
    pub value_dim: usize,
    /// Positions that the convolution sees, the present one among them.
    pub taps: usize,
}

/// More than any model's heads have dimensions.
const MAX_HEAD: usize = 1 << 10;

impl DeltaNet {
    /// The most positions that a convolution may see; models of today see 4.
    pub const MAX_TAPS: usize = 16;

    /// Width of all key heads together, which is that of the queries.
    pub fn key_width(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of all value heads together.
    pub fn value_width(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Channels of the convolution: queries, keys and values side by side.
    pub fn channels(&self) -> usize {
        2 * self.key_width() + self.value_width()
    }

    /// Numbers that the heads of a block keep of a sequence: `[value_heads, key_dim, value_dim]`.
    pub fn state_len(&self) -> usize {
        self.value_heads * self.key_dim * self.value_dim
    }

    /// Numbers that the convolution of a block keeps of a sequence: what its next position sees of the earlier ones.
    pub fn window_len(&self) -> usize {
        (self.taps - 1) * self.channels()
    }

    /// Refuses what no model can be. `most` is the widest that anything may be.
    pub(crate) fn check(&self, most: usize) -> Result<(), ModelError> {
        let Self { key_heads, value_heads, key_dim, value_dim, taps } = *self;
        let sizes = [
            ("number of recurrent key heads", key_heads, most),
            ("number of recurrent value heads", value_heads, most),
            ("recurrent key head dimension", key_dim, MAX_HEAD),
            ("recurrent value head dimension", value_dim, MAX_HEAD),
            ("taps of the convolution", taps, Self::MAX_TAPS),
        ];
        for (what, value, most) in sizes {
            if value == 0 || value > most {
                return Err(ModelError::config(what, format!("1 to {most}"), value));
            }
        }
        if !value_heads.is_multiple_of(key_heads) {
            let want = format!("a multiple of the {key_heads} key heads");
            return Err(ModelError::config("number of recurrent value heads", want, value_heads));
        }
        if self.channels() > most {
            return Err(ModelError::config(
                "width of the recurrent heads",
                format!("at most {most}"),
                self.channels(),
            ));
        }
        Ok(())
    }
}

/// Weights that are stored in another basis: `W' = W diag(s) H`, where `H` is a normalized Walsh-Hadamard transform in blocks of
/// the input, so that `W x = W' H (s x)`. The signs `s` depend on the input's width alone.
#[derive(Clone, Debug, PartialEq)]
pub struct HadamardFold {
    /// Inputs that are transformed together, a power of two.
    pub block: usize,
    /// Signs of +1 and -1 by input width; all are +1 for a width that is not listed.
    pub signs: Vec<(usize, Vec<f32>)>,
}

impl HadamardFold {
    /// The signs for inputs of `width`, where there are any.
    pub fn signs(&self, width: usize) -> Option<&[f32]> {
        self.signs.iter().find(|(w, _)| *w == width).map(|(_, signs)| signs.as_slice())
    }
}
