//! Activation quantization, bit-equal to `bitnet_quant::activations::quantize`.

use bitnet_quant::activations::{BLOCK, MIN_AMAX};

use super::lanes::max_of;
use crate::isa::{Isa, Lanes, Op};

/// One token with one step.
pub(crate) struct QuantizeToken<'a> {
    pub(crate) x: &'a [f32],
    /// At least `x.len()` rounded up to 16; what lies behind becomes 0.
    pub(crate) codes: &'a mut [i8],
}

impl Op for QuantizeToken<'_> {
    /// Step and sum of the codes.
    type Output = (f32, i32);

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> (f32, i32) {
        quantize_by(self.x.len(), self.codes, |i| chunk(self.x, i))
    }
}

/// One token with one step per [`BLOCK`] columns.
pub(crate) struct QuantizeBlocks<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) codes: &'a mut [i8],
    pub(crate) steps: &'a mut [f32],
    pub(crate) sums: &'a mut [i32],
}

impl Op for QuantizeBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let blocks = self.codes.chunks_exact_mut(BLOCK).zip(self.steps).zip(self.sums);
        for (b, ((codes, step), sum)) in blocks.enumerate() {
            let x = self.x.get(b * BLOCK..).unwrap_or(&[]);
            let x = &x[..x.len().min(BLOCK)];
            (*step, *sum) = quantize_by(x.len(), codes, |i| chunk(x, i));
        }
    }
}

/// Elements `16 * i ..` of `x`, zeros past its end.
#[inline(always)]
pub(crate) fn chunk(x: &[f32], i: usize) -> Lanes<f32> {
    let (whole, tail) = x.as_chunks::<16>();
    whole.get(i).copied().unwrap_or_else(|| {
        let mut lanes = [0.0; 16];
        lanes[..tail.len()].copy_from_slice(tail);
        lanes
    })
}

/// Quantizes `len` values given 16 at a time (zeros past the end); every chunk is asked for twice.
/// Returns the step and the sum of the codes.
#[inline(always)]
pub(crate) fn quantize_by(len: usize, codes: &mut [i8], values: impl Fn(usize) -> Lanes<f32>) -> (f32, i32) {
    let chunks = len.div_ceil(16);
    let mut largest = [MIN_AMAX; 16];
    for i in 0..chunks {
        let x = values(i);
        for j in 0..16 {
            let magnitude = x[j].abs();
            // False for NaN, which the definition ignores too.
            largest[j] = if magnitude > largest[j] { magnitude } else { largest[j] };
        }
    }
    let amax = max_of(&largest, MIN_AMAX, |x| x);
    let scale = 127.0 * (1.0 / amax);
    let (head, tail) = codes.split_at_mut(16 * chunks);
    let mut sums = [0i32; 16];
    for (i, codes) in head.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let x = values(i);
        for j in 0..16 {
            codes[j] = round(x[j] * scale);
            sums[j] += i32::from(codes[j]);
        }
    }
    tail.fill(0);
    (amax / 127.0, sums.iter().sum())
}

/// Rounds to the nearest integer, ties to even; NaN becomes 0. `|y|` is at most a rounding error above 127, so
/// the sum with 1.5 * 2^23 holds the integer in its low byte: no saturating conversion is needed.
#[inline(always)]
fn round(y: f32) -> i8 {
    let y = if y.is_nan() { 0.0 } else { y };
    (y + 12_582_912.0).to_bits() as i8
}
