//! The gated unit of the feed-forward layer.

use bitnet_kernels::exp;
use bitnet_model::GateActivation;
use burn_flex::FlexTensor;
use burn_tensor::Tensor;

use super::{
    composed,
    fused::{Fused, apply, floats, from_floats, node, size, tensor},
    rows,
};

/// `act(gate) up` of `[tokens, 2 width]` whose rows are a gate and an up projection, one behind the other.
pub fn gate(x: Tensor<2>, activation: GateActivation) -> Tensor<2> {
    match node(&x) {
        Some(x) => tensor(apply(Gate(activation), [x])),
        None => composed::gate(x, activation),
    }
}

#[derive(Clone, Debug)]
struct Gate(GateActivation);

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl Fused<1> for Gate {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        let (tokens, width) = (size(&x, 0), size(&x, 1) / 2);
        let mut out = vec![0.0; tokens * width];
        let xs = floats(&x);
        rows::each(&mut out, width, |row, out| {
            let (gate, up) = xs[2 * row * width..][..2 * width].split_at(width);
            let pairs = out.iter_mut().zip(gate).zip(up);
            match self.0 {
                GateActivation::SquaredRelu => pairs.for_each(|((o, g), u)| {
                    let g = g.max(0.0);
                    *o = (g * g) * u;
                }),
                GateActivation::Silu => pairs.for_each(|((o, g), u)| *o = (g / (1.0 + exp(-g))) * u),
            }
        });
        (from_floats(out, [tokens, width]), keep.then_some(x))
    }

    fn backward(&self, x: Self::Saved, grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (tokens, width) = (size(&x, 0), size(&x, 1) / 2);
        let (xs, gs) = (floats(&x), floats(&grad));
        let mut dx = vec![0.0; tokens * 2 * width];
        rows::each(&mut dx, 2 * width, |row, dx| {
            let (gate, up) = xs[2 * row * width..][..2 * width].split_at(width);
            let (d_gate, d_up) = dx.split_at_mut(width);
            let grads = &gs[row * width..][..width];
            for i in 0..width {
                let (g, u, d) = (gate[i], up[i], grads[i]);
                (d_gate[i], d_up[i]) = match self.0 {
                    GateActivation::SquaredRelu => {
                        let g = g.max(0.0);
                        (d * u * (2.0 * g), d * (g * g))
                    }
                    GateActivation::Silu => {
                        let s = sigmoid(g);
                        (d * u * (s * (1.0 + g * (1.0 - s))), d * (g * s))
                    }
                };
            }
        });
        [Some(from_floats(dx, [tokens, 2 * width]))]
    }
}
