//! The integer products of a screen, which every instruction set brings.

use crate::block::{Block, Lanes};

/// A hidden vector's codes in the two forms that instruction sets multiply with, and their sum.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    /// Four high parts, then four low parts of each four columns.
    pub(crate) planes: &'a [[i8; 8]],
    /// The 16-bit codes themselves, four columns at a time.
    pub(crate) wide: &'a [[i16; 4]],
    /// Takes the 128 that is in every byte of the copy away again.
    pub(crate) sum: i32,
}

impl Query<'_> {
    /// `-128 * sum`, wrapping as all sums here do.
    #[inline(always)]
    pub(crate) fn correction(&self) -> i32 {
        self.sum.wrapping_mul(-128)
    }
}

/// Exact products of byte strips with 16-bit vectors.
pub(crate) trait ByteDots: Copy {
    /// Vectors in the widest tile: 1, 2, 4 or 8.
    const QUERIES: usize;

    /// For each vector and row the sum of `(byte - 128) * code`, modulo 2^32. All slices have one length. Called with
    /// `T <= QUERIES`.
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T];
}
