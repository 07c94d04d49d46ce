//! Activation quantization, bit-equal to `bitnet_quant::activations::quantize`.

use bitnet_quant::activations::{BLOCK, MIN_AMAX};

use super::{dense::pad, lanes::max_of};
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
        quantize_by(self.x, self.x, self.codes, |x, _| x)
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
            (*step, *sum) = quantize_by(x, x, codes, |x, _| x);
        }
    }
}

/// Quantizes `value(x[i], w[i])`, computed twice: once for the largest magnitude, once for the codes. `w` is as long as
/// `x`, and `value(0, 0)` is 0. Returns the step and the sum of the codes.
#[inline(always)]
pub(crate) fn quantize_by(
    x: &[f32],
    w: &[f32],
    codes: &mut [i8],
    value: impl Fn(f32, f32) -> f32,
) -> (f32, i32) {
    let ((x, x_tail), (w, w_tail)) = (x.as_chunks::<16>(), w.as_chunks::<16>());
    let tails = (!x_tail.is_empty()).then(|| (pad(x_tail), pad(w_tail)));
    let mut largest = [MIN_AMAX; 16];
    for (x, w) in x.iter().zip(w) {
        grow(&mut largest, x, w, &value);
    }
    if let Some((x, w)) = &tails {
        grow(&mut largest, x, w, &value);
    }
    let amax = max_of(&largest, MIN_AMAX, |x| x);
    let scale = 127.0 * (1.0 / amax);
    let mut sums = [0i32; 16];
    let (head, tail) = codes.split_at_mut(16 * x.len());
    for ((x, w), codes) in x.iter().zip(w).zip(head.as_chunks_mut().0) {
        encode(codes, &mut sums, x, w, scale, &value);
    }
    tail.fill(0);
    if let (Some((x, w)), Some(codes)) = (&tails, tail.first_chunk_mut()) {
        encode(codes, &mut sums, x, w, scale, &value);
    }
    (amax / 127.0, sums.iter().sum())
}

#[inline(always)]
fn grow(largest: &mut Lanes<f32>, x: &Lanes<f32>, w: &Lanes<f32>, value: &impl Fn(f32, f32) -> f32) {
    for j in 0..16 {
        let magnitude = value(x[j], w[j]).abs();
        // False for NaN, which the definition ignores too.
        largest[j] = if magnitude > largest[j] { magnitude } else { largest[j] };
    }
}

#[inline(always)]
fn encode(
    codes: &mut [i8; 16],
    sums: &mut Lanes<i32>,
    x: &Lanes<f32>,
    w: &Lanes<f32>,
    scale: f32,
    value: &impl Fn(f32, f32) -> f32,
) {
    for j in 0..16 {
        codes[j] = round(value(x[j], w[j]) * scale);
        sums[j] += i32::from(codes[j]);
    }
}

/// Rounds to the nearest integer, ties to even; NaN becomes 0. `|y|` is at most a rounding error above 127, so
/// the sum with 1.5 * 2^23 holds the integer in its low byte: no saturating conversion is needed.
#[inline(always)]
fn round(y: f32) -> i8 {
    let y = if y.is_nan() { 0.0 } else { y };
    (y + 12_582_912.0).to_bits() as i8
}
