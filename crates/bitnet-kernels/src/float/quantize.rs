//! Activation quantization, bit-equal to `bitnet_quant::activations::quantize`.

use bitnet_quant::activations::{BLOCK, MIN_AMAX};

use crate::isa::{Isa, Op};

/// Quantizes one token's vector to int8 with a single step.
pub(crate) struct QuantizeToken<'a> {
    pub(crate) x: &'a [f32],
    /// At least `x.len()` rounded up to 16; what lies behind becomes 0.
    pub(crate) codes: &'a mut [i8],
}

impl Op for QuantizeToken<'_> {
    /// The step of the vector, and the sum of its codes.
    type Output = (f32, i32);

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> (f32, i32) {
        quantize(self.x, self.codes)
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
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let blocks = self.codes.chunks_exact_mut(BLOCK).zip(self.steps).zip(self.sums);
        for (b, ((codes, step), sum)) in blocks.enumerate() {
            let x = self.x.get(b * BLOCK..).unwrap_or(&[]);
            let x = &x[..x.len().min(BLOCK)];
            (*step, *sum) = quantize(x, codes);
        }
    }
}

/// The step and the sum of the codes of `x`. Codes behind them become 0.
#[inline(always)]
pub(crate) fn quantize(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
    let mut largest = 0;
    for &x in x {
        largest = largest.max(magnitude(x));
    }
    let amax = f32::from_bits(largest).max(MIN_AMAX);
    let scale = 127.0 * (1.0 / amax);
    let (codes, rest) = codes.split_at_mut(x.len());
    let mut sum = 0;
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = round(x * scale);
        sum += i32::from(*code);
    }
    rest.fill(0);
    (amax / 127.0, sum)
}

/// `|x|` as an integer that is larger where `|x|` is, that of infinity for NaN. Integers, since the
/// compiler keeps the largest of them in registers, but an array of the largest floats in memory: a third of the speed (2026-11-21).
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.abs().to_bits().min(f32::INFINITY.to_bits())
}

/// Rounds to the nearest integer, ties to even; NaN becomes 0. `|y|` is at most a rounding error above 127, so
/// the sum with 1.5 * 2^23 holds the integer in its low byte: no saturating conversion is needed.
#[inline(always)]
fn round(y: f32) -> i8 {
    let y = if y.is_nan() { 0.0 } else { y };
    (y + 12_582_912.0).to_bits() as i8
}
