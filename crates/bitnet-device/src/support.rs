//! Logits in part: which are needed, and what was found. A sampler states needs and judges what it gets; the model knows
//! nothing of sampling.

/// Which logits of one position matter to the caller. Of the others only an upper limit is told ([`Support::floor`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Need<'a> {
    /// This many of the largest logits, those of `lowered` and `raised` not counted. At least 1.
    pub best: usize,
    /// And every logit that is at most this far below the last of those; 0 or more.
    pub within: f32,
    /// Ids that the caller may lower afterwards: they do not count as best, and are told where they are large enough.
    pub lowered: &'a [u32],
    /// Ids that the caller may raise: they do not count as best, and are told whatever their logits.
    pub raised: &'a [u32],
}

/// Some logits of one position, and a limit for all others.
#[derive(Clone, Copy, Debug)]
pub struct Support<'a> {
    /// Ids in rising order.
    pub ids: &'a [u32],
    /// Their logits, bit-equal to those of the full head; all finite.
    pub logits: &'a [f32],
    /// The logit of every id that is not in `ids` is less than this.
    pub floor: f32,
}

/// How often the screen was enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScreenCounts {
    /// Positions that were screened.
    pub screened: u64,
    /// Of those, positions whose logits were then computed in full after all.
    pub full: u64,
    /// Rows multiplied with the head's own weights, full passes not counted.
    pub rescored: u64,
}

/// Takes what the head gives for each output of a step: a sampler, or whoever wants logits. Outputs are numbered in the order
/// of the step's tokens.
pub trait Choose {
    /// Which logits of `output` matter; `None` for all of them.
    fn need(&self, _output: usize) -> Option<Need<'_>> {
        None
    }

    /// Takes the logits that matter. False where they are not enough: [`Choose::all`] is then called with all of them.
    fn some(&mut self, _output: usize, _found: &Support<'_>) -> bool {
        false
    }

    /// Takes all logits, `[vocab]`.
    fn all(&mut self, output: usize, logits: &[f32]);
}

impl<F: FnMut(usize, &[f32])> Choose for F {
    fn all(&mut self, output: usize, logits: &[f32]) {
        self(output, logits);
    }
}
