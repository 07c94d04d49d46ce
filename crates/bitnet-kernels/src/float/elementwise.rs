//! Rotary embedding, gates and residual sums.

use super::exp::exp;
use crate::{
    isa::{Isa, Op},
    simd::Floats,
};

/// Rotates the pairs `(x[i], x[i + half])` of one head by the angles whose cosines and sines are given.
pub(crate) struct Rope<'a> {
    /// The vector of one head, `[2 * half]`: element `i` is rotated with element `half + i`.
    pub(crate) x: &'a mut [f32],
    /// Cosines of the position's angles, `[half]`.
    pub(crate) cos: &'a [f32],
    /// Sines of the position's angles, `[half]`.
    pub(crate) sin: &'a [f32],
}

impl Op for Rope<'_> {
    type Output = ();
    const FLOATS: bool = true;

    /// `(a, b) -> (a * cos - b * sin, b * cos + a * sin)`
    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let (first, second) = self.x.split_at_mut(self.cos.len());
        for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(self.cos).zip(self.sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// `gate = gate / (1 + e^-gate) * up`
pub(crate) struct SiluMul<'a> {
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a [f32],
}

impl Op for SiluMul<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        for (g, &u) in self.gate.iter_mut().zip(self.up) {
            *g = *g / (1.0 + exp(-*g)) * u;
        }
    }
}

/// Squared ReLU as a gate: `gate = max(gate, 0)^2 * up`.
pub(crate) struct Relu2Mul<'a> {
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a [f32],
}

impl Op for Relu2Mul<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        for (g, &u) in self.gate.iter_mut().zip(self.up) {
            // Written so that NaN stays NaN.
            let positive = if *g < 0.0 { 0.0 } else { *g };
            *g = positive * positive * u;
        }
    }
}

/// The residual connection: `x = x + y`.
pub(crate) struct Add<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) y: &'a [f32],
}

impl Op for Add<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        self.x.iter_mut().zip(self.y).for_each(|(x, &y)| *x += y);
    }
}

/// `x = x * y`
pub(crate) struct Multiply<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) y: &'a [f32],
}

impl Op for Multiply<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        self.x.iter_mut().zip(self.y).for_each(|(x, &y)| *x *= y);
    }
}

/// `gate = 1 / (1 + e^-gate) * x`
pub(crate) struct SigmoidMul<'a> {
    pub(crate) gate: &'a mut [f32],
    pub(crate) x: &'a [f32],
}

impl Op for SigmoidMul<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        for (g, &x) in self.gate.iter_mut().zip(self.x) {
            *g = 1.0 / (1.0 + exp(-*g)) * x;
        }
    }
}

/// `x = x * factor`, each element rounded once.
pub(crate) struct Scale<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) factor: f32,
}

impl Op for Scale<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        self.x.iter_mut().for_each(|x| *x *= self.factor);
    }
}

/// `out = f16(x)`, rounded with ties to even.
pub(crate) struct RoundToF16<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [half::f16],
}

impl Op for RoundToF16<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (chunks, tail) = self.x.as_chunks::<16>();
        let (out, out_tail) = self.out.as_chunks_mut::<16>();
        for (out, x) in out.iter_mut().zip(chunks) {
            *out = isa.load(x).to_f16().map(half::f16::from_bits);
        }
        for (out, &x) in out_tail.iter_mut().zip(tail) {
            *out = half::f16::from_bits(super::half::round(x));
        }
    }
}
