//! Root-mean-square normalisation.

use super::{
    lanes::sum_of,
    quantize::{chunk, quantize_by},
};
use crate::isa::{Isa, Op};

/// `r = 1 / sqrt(sum(x * x) / n + eps)`; `out = (x * r) * weight`.
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Op for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let r = reciprocal(self.x, self.eps);
        for ((out, &x), &w) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = (x * r) * w;
        }
    }
}

/// [`RmsNorm`] in place.
pub(crate) struct RmsNormInPlace<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

impl Op for RmsNormInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let r = reciprocal(self.x, self.eps);
        for (x, &w) in self.x.iter_mut().zip(self.weight) {
            *x = (*x * r) * w;
        }
    }
}

/// [`RmsNorm`] followed by absmax quantization with one step, without writing the floats: they are computed
/// twice, once for the largest magnitude, once for the codes.
pub(crate) struct RmsNormQuantize<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) codes: &'a mut [i8],
}

impl Op for RmsNormQuantize<'_> {
    /// Step and sum of the codes.
    type Output = (f32, i32);

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> (f32, i32) {
        let Self { x, weight, eps, codes } = self;
        let r = reciprocal(x, eps);
        quantize_by(x.len(), codes, |i| {
            let (mut x, w) = (chunk(x, i), chunk(weight, i));
            for j in 0..16 {
                x[j] = (x[j] * r) * w[j];
            }
            x
        })
    }
}

#[inline(always)]
fn reciprocal(x: &[f32], eps: f32) -> f32 {
    let mean = sum_of(x, |x| x * x) / x.len() as f32;
    1.0 / (mean + eps).sqrt()
}
