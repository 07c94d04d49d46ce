//! Leaving out rows whose gate is closed: an ability that a device may have.

use bitnet_quant::Activations;

use crate::{Device, Job, Pass};
use bitnet_model::GateActivation;

/// What a gated product of squared ReLU reads and writes.
pub struct Gated<'a, D: Device> {
    /// The matrix whose rows may be left out.
    pub up: &'a D::Matrix,
    /// Its input, `[tokens, in]`.
    pub x: &'a D::Rows,
    /// The same, quantized with one step per token.
    pub codes: &'a D::Codes,
    /// The gate before its nonlinearity, then the result, `[tokens, out]`.
    pub gate: &'a mut D::Rows,
    /// A buffer of `gate`'s width.
    pub spare: &'a mut D::Rows,
}

/// How a device leaves out rows whose gate is closed. What is not overridden computes everything.
pub trait Skipping<D: Device> {
    /// Whether rows of `matrix` can be left out.
    fn applies(_matrix: &D::Matrix) -> bool {
        false
    }

    /// `gate = relu(gate)^2 * (up . codes)`, where rows of `up` whose gate is closed need not be read; a zero there may
    /// have another sign than [`Pass::gate`] gives it.
    fn gate(pass: &mut D::Pass<'_>, gated: Gated<'_, D>, tokens: usize) {
        let Gated { up, x, codes, gate, spare } = gated;
        let job = Job { weight: up, bias: None, out: &mut *spare };
        pass.project(x, codes, Activations::Int8PerToken, tokens, &mut [job]);
        pass.gate(GateActivation::SquaredRelu, gate, spare, tokens);
    }
}

/// A device that computes every row.
pub struct NoSkip;

impl<D: Device> Skipping<D> for NoSkip {}
