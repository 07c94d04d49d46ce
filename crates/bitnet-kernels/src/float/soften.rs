//! Exponentials of scores below their largest.

use super::{
    exp::exp,
    lanes::{max_of, sum_of},
};

/// The definition of [`Isa::soften`](crate::isa::Isa::soften).
#[inline(always)]
pub(crate) fn soften(scores: &mut [f32]) -> [f32; 2] {
    let max = max_of(scores, f32::NEG_INFINITY, |x| x);
    scores.iter_mut().for_each(|s| *s = exp(*s - max));
    [max, sum_of(scores, |p| p)]
}
