//! Operations of recurrent blocks, and of weights in another basis.

use crate::{
    Kernel,
    float::{
        elementwise::{Multiply, SigmoidMul},
        hadamard::Hadamard,
        recurrent::{ConvolveSilu, DeltaRule, DeltaStep, L2Norm},
    },
};

impl Kernel {
    /// Every run of `block` numbers becomes `H x / sqrt(block)`, with `H` the Walsh-Hadamard matrix in Sylvester's order. Sums and
    /// differences of numbers `block / 2` apart come first, then of those half as far apart; the factor comes last.
    ///
    /// # Panics
    /// When `block` is no power of two, or `x` is not whole blocks.
    pub fn hadamard(&self, x: &mut [f32], block: usize) {
        assert!(block.is_power_of_two() && x.len().is_multiple_of(block), "whole blocks of a power of two");
        self.run(Hadamard { x, block });
    }

    /// `x = x * y`, element by element.
    pub fn multiply(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        self.run(Multiply { x, y });
    }

    /// `gate = (1 / (1 + e^-gate)) * x`
    pub fn sigmoid_mul(&self, gate: &mut [f32], x: &[f32]) {
        assert_eq!(gate.len(), x.len());
        self.run(SigmoidMul { gate, x });
    }

    /// `x = (x * (1 / sqrt(sum(x * x) + eps))) * scale`, the sum in lane order.
    pub fn l2_norm(&self, x: &mut [f32], eps: f32, scale: f32) {
        self.run(L2Norm { x, eps, scale });
    }

    /// One position of a causal depthwise convolution, then SiLU: `y = sum_i weights[i] * window[i]`, `i` rising, channel by channel;
    /// `out = y / (1 + e^-y)`. `window` and `weights` are `[taps][channels]`, the oldest position first.
    ///
    /// # Panics
    /// When there are no taps, or lengths disagree.
    pub fn convolve_silu(&self, window: &[&[f32]], weights: &[&[f32]], out: &mut [f32]) {
        assert!(!window.is_empty() && window.len() == weights.len(), "as many weights as positions");
        assert!(window.iter().chain(weights).all(|row| row.len() == out.len()), "channels");
        self.run(ConvolveSilu { window, weights, out });
    }

    /// One token of one head of the gated delta rule, `state` being `[key_dim, value_dim]`:
    /// `S = decay S; u = S^T k; d = (v - u) beta; S = S + d k; out = S^T q`, each sum over keys in rising order.
    ///
    /// # Panics
    /// When lengths disagree, or there is no value.
    pub fn delta_rule(&self, state: &mut [f32], step: DeltaStep<'_>, out: &mut [f32]) {
        assert!(!out.is_empty() && step.v.len() == out.len(), "values of the head");
        assert_eq!(step.q.len(), step.k.len(), "keys of the head");
        assert_eq!(state.len(), step.k.len() * out.len(), "the head's state");
        self.run(DeltaRule { state, step, out });
    }
}
