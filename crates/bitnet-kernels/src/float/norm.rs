//! Root-mean-square normalisation.

use crate::{
    isa::{Isa, Op},
    simd::Floats,
};

/// `r = 1 / sqrt(sum(x * x) / n + eps)`, summed as [`sum_of_squares`] says; `out = (x * r) * weight`.
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Op for RmsNorm<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let r = reciprocal(isa, self.x, self.eps);
        for ((out, &x), &w) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = (x * r) * w;
        }
    }
}

/// [`RmsNorm`] with the result in place of `x`.
pub(crate) struct RmsNormInPlace<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

impl Op for RmsNormInPlace<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let r = reciprocal(isa, self.x, self.eps);
        for (x, &w) in self.x.iter_mut().zip(self.weight) {
            *x = (*x * r) * w;
        }
    }
}

#[inline(always)]
fn reciprocal<I: Isa>(isa: I, x: &[f32], eps: f32) -> f32 {
    let mean = sum_of_squares(isa, x) / x.len() as f32;
    1.0 / (mean + eps).sqrt()
}

/// Steps of 32 elements that are summed before they are added to the level above.
const STEPS: usize = 16;
/// Levels: enough for `32 * 16^3` elements and more.
const LEVELS: usize = 4;

/// The sum of squares, in the order of PyTorch's `mean` on a CPU (`aten/src/ATen/native/cpu/SumKernel.cpp`).
///
/// Norms alone follow another order than [`super::lanes`]: their result is quantized next, and with bf16 weights `x * a` is
/// often exactly halfway between two integers, so that the last bit of the mean decides. With the order in which
/// models were trained and are checked, such ties fall on the same side.
///
/// 32 lanes; every [`STEPS`] steps they go into a second level, every [`STEPS`]^2 steps that into a third, and so on. The levels
/// are added lane by lane; whole groups of 8 that remain go to lanes 0 to 7; lanes `8 + j`, `16 + j`, `24 + j` are added to
/// `j` in turn; then the elements that remain and lanes 0 to 7 are summed one after another.
#[allow(clippy::needless_range_loop, reason = "one index runs through two levels")]
#[inline(always)]
fn sum_of_squares<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let (steps, rest) = x.as_chunks::<32>();
    let mut levels = [[0.0f32; 32]; LEVELS];
    for (i, group) in steps.chunks(STEPS).enumerate() {
        levels[0] = squares(isa, group);
        if group.len() < STEPS {
            break;
        }
        let mut done = i + 1;
        for level in 1..LEVELS {
            for j in 0..32 {
                levels[level][j] += levels[level - 1][j];
                levels[level - 1][j] = 0.0;
            }
            if !done.is_multiple_of(STEPS) {
                break;
            }
            done /= STEPS;
        }
    }
    let mut lanes = levels[0];
    for level in &levels[1..] {
        for j in 0..32 {
            lanes[j] += level[j];
        }
    }
    let (eights, tail) = rest.as_chunks::<8>();
    for eight in eights {
        for j in 0..8 {
            lanes[j] += eight[j] * eight[j];
        }
    }
    let mut total = 0.0;
    for &x in tail {
        total += x * x;
    }
    for j in 0..8 {
        total += ((lanes[j] + lanes[8 + j]) + lanes[16 + j]) + lanes[24 + j];
    }
    total
}

/// The first level's sums of squares, in registers.
#[inline(always)]
fn squares<I: Isa>(isa: I, steps: &[[f32; 32]]) -> [f32; 32] {
    let mut sums = [isa.splat(0.0); 2];
    for step in steps {
        for (sum, half) in sums.iter_mut().zip(step.as_chunks::<16>().0) {
            let x = isa.load(half);
            *sum = sum.add(x.mul(x));
        }
    }
    let mut out = [0.0; 32];
    for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
        *out = sum.store();
    }
    out
}
