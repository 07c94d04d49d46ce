//! Gated DeltaNet (arXiv:2412.06464), as Qwen3.5 has it: what mixes the positions of recurrent blocks.
//!
//! ```text
//! q, k, v = SiLU(convolution(BitLinear_input(x)))
//! b = sigmoid(BitLinear_beta(x));  g = exp(rate * softplus(BitLinear_decay(x) + bias))
//! S = g S;  S = S + k (b (v - S^T k))^T;  o = S^T q        per value head, token by token
//! y = BitLinear(norm(o) * SiLU(BitLinear_gate(x)))
//! ```
//!
//! The recurrence runs token by token for prompts, too: the chunked form that other engines use adds floats in another order, and
//! results would depend on how a prompt is cut.

use crate::{
    BitLinear,
    linear::project,
    state::{RecurrentRooms, State},
};
use bitnet_device::{Device, Pass, Recur, Stage};
use bitnet_model::{Config, GateActivation};

/// The parameters of one block's Gated DeltaNet.
pub(crate) struct DeltaNet<D: Device> {
    /// Its place among the blocks that keep recurrent states.
    pub(crate) index: usize,
    /// Queries, keys and values.
    pub(crate) input: BitLinear<D>,
    pub(crate) gate: BitLinear<D>,
    pub(crate) beta: BitLinear<D>,
    pub(crate) decay: BitLinear<D>,
    pub(crate) convolution: D::Vector,
    pub(crate) rate: D::Vector,
    pub(crate) bias: D::Vector,
    /// Of each value head.
    pub(crate) norm: D::Vector,
    pub(crate) output: BitLinear<D>,
}

impl<D: Device> DeltaNet<D> {
    /// Its projections, in no promised order.
    pub(crate) fn projections(&self) -> impl Iterator<Item = &BitLinear<D>> {
        [&self.input, &self.gate, &self.beta, &self.decay, &self.output].into_iter()
    }

    /// Mixes the normed rows in `s.x` and leaves the result there.
    pub(crate) fn run(
        &self,
        (c, layer): (&Config, usize),
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        tokens: usize,
    ) {
        let State { x, own, sides, recurrent: Some(rooms), .. } = s else { return };
        let RecurrentRooms { mixed, gate, beta, decay, result } = rooms;
        project(pass, x, &mut own.hidden, sides, tokens, [(&self.input, &mut *mixed), (&self.gate, gate)]);
        project(pass, x, &mut own.hidden, sides, tokens, [(&self.beta, &mut *beta), (&self.decay, decay)]);
        pass.look(Stage::DeltaInput(layer), mixed, tokens);
        pass.look(Stage::DeltaGate(layer), gate, tokens);

        pass.convolve(self.index, mixed, &self.convolution);
        let inputs = Recur { mixed, beta, decay, rate: &self.rate, bias: &self.bias };
        pass.recur(self.index, inputs, result.fresh());
        pass.rms_norm_heads(&mut result.rows, tokens, &self.norm, c.norm_eps);
        pass.gate(GateActivation::Silu, gate, &result.rows, tokens);
        std::mem::swap(gate, &mut result.rows);
        pass.look(Stage::DeltaOutputInput(layer), &result.rows, tokens);
        project(pass, result, &mut own.recurrent, sides, tokens, [(&self.output, x.fresh())]);
        pass.look(Stage::DeltaOutput(layer), &x.rows, tokens);
    }
}
