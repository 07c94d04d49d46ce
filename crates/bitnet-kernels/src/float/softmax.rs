//! Softmax.

use super::{
    exp::exp,
    lanes::{max_of, sum_of},
};
use crate::isa::{Isa, Op};

/// `x = e^(x - max) / sum`, the sum in lane order.
pub(crate) struct Softmax<'a>(pub(crate) &'a mut [f32]);

impl Op for Softmax<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let x = self.0;
        let max = max_of(x, f32::NEG_INFINITY, |x| x);
        x.iter_mut().for_each(|x| *x = exp(*x - max));
        let sum = sum_of(x, |x| x);
        x.iter_mut().for_each(|x| *x /= sum);
    }
}

/// `ln(sum(e^x))`: the largest value plus the logarithm of the sum of the others' exponentials (sum in lane order).
pub(crate) struct LogSumExp<'a>(pub(crate) &'a [f32]);

impl Op for LogSumExp<'_> {
    type Output = f32;
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> f32 {
        let max = max_of(self.0, f32::NEG_INFINITY, |x| x);
        let sum = sum_of(self.0, |x| exp(x - max));
        // One logarithm per call, in double precision: not worth a kernel of its own.
        (f64::from(max) + f64::from(sum).ln()) as f32
    }
}
