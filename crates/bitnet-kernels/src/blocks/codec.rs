//! How blocks of one type become weights.

use crate::isa::Isa;

/// How the weights of a block are made: `BYTES` bytes are `GROUPS` times 16 weights.
pub(crate) trait Codec<const BYTES: usize, const GROUPS: usize>: Copy {
    /// Hands every group of the block to `sink`, in order: lanes add in that order.
    fn decode<I: Isa>(self, isa: I, block: &[u8; BYTES], sink: &mut impl Sink<I>);
}

/// What becomes of weights. (No closure: those are inlined when the compiler likes.)
pub(crate) trait Sink<I: Isa> {
    /// Takes group `group` of the block.
    fn take(&mut self, isa: I, group: usize, weights: I::Floats);
}
