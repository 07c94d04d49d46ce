//! What recurrent blocks do besides products: a short convolution, and the gated delta rule.

use super::{exp::exp, lanes::sum_of};
use crate::{
    isa::{Isa, Op},
    simd::Floats,
};

/// `x = (x * (1 / sqrt(sum(x * x) + eps))) * scale`, the sum in lane order.
pub(crate) struct L2Norm<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) eps: f32,
    pub(crate) scale: f32,
}

impl Op for L2Norm<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let r = 1.0 / (sum_of(self.x, |x| x * x) + self.eps).sqrt();
        self.x.iter_mut().for_each(|x| *x = (*x * r) * self.scale);
    }
}

/// `y = sum_i weights[i] * window[i]`, `i` rising, channel by channel; `out = y / (1 + e^-y)`.
pub(crate) struct ConvolveSilu<'a> {
    /// The inputs that the position sees, `[taps][channels]`, oldest first.
    pub(crate) window: &'a [&'a [f32]],
    /// A factor for each position and channel, `[taps][channels]`, oldest first.
    pub(crate) weights: &'a [&'a [f32]],
    pub(crate) out: &'a mut [f32],
}

impl Op for ConvolveSilu<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Self { window, weights, out } = self;
        for (i, (x, w)) in window.iter().zip(weights).enumerate() {
            let products = x.iter().zip(*w);
            match i {
                0 => out.iter_mut().zip(products).for_each(|(y, (x, w))| *y = w * x),
                _ => out.iter_mut().zip(products).for_each(|(y, (x, w))| *y += w * x),
            }
        }
        out.iter_mut().for_each(|y| *y = *y / (1.0 + exp(-*y)));
    }
}

/// One token of one head of the gated delta rule (arXiv:2412.06464).
#[derive(Clone, Copy, Debug)]
pub struct DeltaStep<'a> {
    /// The query, `[key_dim]`.
    pub q: &'a [f32],
    /// The key, `[key_dim]`.
    pub k: &'a [f32],
    /// The value, `[value_dim]`.
    pub v: &'a [f32],
    /// What the state is multiplied with first.
    pub decay: f32,
    /// How much of the difference between the value and what the state says of the key is taken in.
    pub beta: f32,
}

/// Registers of values that go through the state together: their sums need no memory.
const WIDE: usize = 4;

/// `S = decay S; u = S^T k; d = beta (v - u); S = S + k d^T; out = S^T q`, the sums over keys one after another. Every value is a
/// lane of its own, so nothing depends on the width of vectors.
pub(crate) struct DeltaRule<'a> {
    /// What the head keeps, updated in place, `[key_dim, value_dim]`.
    pub(crate) state: &'a mut [f32],
    pub(crate) step: DeltaStep<'a>,
    pub(crate) out: &'a mut [f32],
}

impl Op for DeltaRule<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { state, step, out } = self;
        let values = out.len();
        let (mut first, whole) = (0, values / 16 * 16);
        while first + 16 * WIDE <= whole {
            registers::<I, WIDE>(isa, state, &step, first, out);
            first += 16 * WIDE;
        }
        while first < whole {
            registers::<I, 1>(isa, state, &step, first, out);
            first += 16;
        }
        for value in whole..values {
            one(state, &step, value, out);
        }
    }
}

/// The values `first .. first + 16 * N`.
#[inline(always)]
fn registers<I: Isa, const N: usize>(
    isa: I,
    state: &mut [f32],
    step: &DeltaStep<'_>,
    first: usize,
    out: &mut [f32],
) {
    let values = out.len();
    let decay = isa.splat(step.decay);
    let mut seen = [isa.splat(0.0); N];
    for (row, &k) in state.chunks_exact(values).zip(step.k) {
        let (lanes, k) = (row[first..first + 16 * N].as_chunks::<16>().0, isa.splat(k));
        for (seen, s) in seen.iter_mut().zip(lanes) {
            *seen = seen.add(isa.load(s).mul(decay).mul(k));
        }
    }
    let (beta, less) = (isa.splat(step.beta), isa.splat(-1.0));
    let mut taken = [isa.splat(0.0); N];
    let v = step.v[first..first + 16 * N].as_chunks::<16>().0;
    for ((taken, seen), v) in taken.iter_mut().zip(seen).zip(v) {
        *taken = isa.load(v).add(seen.mul(less)).mul(beta);
    }
    let mut sums = [isa.splat(0.0); N];
    for ((row, &k), &q) in state.chunks_exact_mut(values).zip(step.k).zip(step.q) {
        let (k, q) = (isa.splat(k), isa.splat(q));
        let lanes = row[first..first + 16 * N].as_chunks_mut::<16>().0;
        for ((s, taken), sum) in lanes.iter_mut().zip(taken).zip(&mut sums) {
            let new = isa.load(s).mul(decay).add(taken.mul(k));
            *s = new.store();
            *sum = sum.add(new.mul(q));
        }
    }
    for (out, sum) in out[first..first + 16 * N].as_chunks_mut::<16>().0.iter_mut().zip(sums) {
        *out = sum.store();
    }
}

/// The same for one value.
#[inline(always)]
fn one(state: &mut [f32], step: &DeltaStep<'_>, value: usize, out: &mut [f32]) {
    let values = out.len();
    let mut seen = 0.0;
    for (row, k) in state.chunks_exact(values).zip(step.k) {
        seen += row[value] * step.decay * k;
    }
    let taken = (step.v[value] - seen) * step.beta;
    let mut sum = 0.0;
    for ((row, k), q) in state.chunks_exact_mut(values).zip(step.k).zip(step.q) {
        let new = row[value] * step.decay + taken * k;
        row[value] = new;
        sum += new * q;
    }
    out[value] = sum;
}
