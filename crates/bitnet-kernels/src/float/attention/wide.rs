//! Vectors of 16-bit integers, and their products with codes.

use bitnet_quant::activations::MIN_AMAX;

use crate::{
    block::{Block, Lanes},
    float::lanes::max_of,
};

/// The largest 16-bit magnitude: both of its bytes are an i8 then.
pub(crate) const TOP: f32 = 32_512.0;

/// Elements of the longest head: sums of so many products fit in an i32.
pub(crate) const LONGEST: usize = 512;

/// Words of four elements of the longest vector of one side.
const WORDS: usize = LONGEST / 4;

/// A vector of 16-bit integers in words of four, in the forms that instruction sets multiply with.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    /// The integers, which all sets but AVX-512 multiply with.
    pub(crate) full: [[i16; 4]; WORDS],
    /// The integers as `256 * high + low`, for AVX-512.
    pub(crate) high: [[i8; 4]; WORDS],
    pub(crate) low: [[i8; 4]; WORDS],
    /// Sums of `high` and of `low`, with which the 128 in every code is taken off.
    pub(crate) sums: [i32; 2],
}

impl Wide {
    pub(super) const ZERO: Self =
        Self { full: [[0; 4]; WORDS], high: [[0; 4]; WORDS], low: [[0; 4]; WORDS], sums: [0; 2] };

    /// Rounds `x` so that its largest magnitude becomes [`TOP`] and puts it into `full`; returns the step. What is not a number becomes 0.
    #[inline(always)]
    pub(crate) fn set(&mut self, x: &[f32]) -> f32 {
        let amax = max_of(x, MIN_AMAX, f32::abs);
        let factor = TOP * (1.0 / amax);
        let full = &mut self.full.as_flattened_mut()[..x.len()];
        for (full, &x) in full.iter_mut().zip(x) {
            let y = x * factor;
            let y = if y.is_nan() { 0.0 } else { y };
            // As in `quantize`: the sum with 1.5 * 2^23 holds the integer in its low bits.
            *full = (y + 12_582_912.0).to_bits() as i16;
        }
        amax / TOP
    }
}

/// The definition of [`Isa::wide_dots`](crate::isa::Isa::wide_dots), one run of blocks.
#[inline(always)]
pub(crate) fn wide_dots<const N: usize>(blocks: &[Block], x: &[Wide; N]) -> [Lanes<i32>; N] {
    let mut out = [[0i32; 16]; N];
    for (out, x) in out.iter_mut().zip(x) {
        for (block, word) in blocks.iter().zip(&x.full) {
            for (out, codes) in out.iter_mut().zip(block.as_chunks::<4>().0) {
                for k in 0..4 {
                    *out += (i32::from(codes[k]) - 128) * i32::from(word[k]);
                }
            }
        }
    }
    out
}
