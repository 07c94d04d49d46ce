//! Quantized projections of one input, in one: activations are rounded once, weights side by side are one product.

use bitnet_kernels::Kernel;
use bitnet_quant::{Granularity, weights};
use burn_flex::FlexTensor;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::{
    composed,
    fused::{Fused, Node, apply, contiguous, floats, from_floats, matmul, node, size, tensor, transposed},
    rows,
    sizes::FakeQuantization,
};

/// `x [w_0; w_1; ...]^T` with rounded weights and activations, the outputs of all weights side by side: `x` is `[tokens,
/// inputs]`, each weight `[outputs, inputs]` with a scale of its own. Straight-through: the gradients are those of the same
/// product with the rounded factors.
///
/// With [`FakeQuantization::W158A8`] the forward has the bits of the engine's: integer sums, `(dot * step) * scale`.
///
/// # Panics
/// When there are not one to three weights, or they differ in their inputs.
pub fn linear(
    kernel: &'static Kernel,
    x: Tensor<2>,
    w: &[Tensor<2>],
    quantization: FakeQuantization,
) -> Tensor<2> {
    let nodes: Option<Vec<Node>> = w.iter().map(node).collect();
    let (Some(x_node), Some(nodes)) = (node(&x), nodes) else {
        return composed::linear(x, w, quantization);
    };
    let op = Linear { kernel, quantization };
    let mut nodes = nodes.into_iter();
    tensor(match (nodes.next(), nodes.next(), nodes.next(), nodes.next()) {
        (Some(a), None, None, None) => apply(op, [x_node, a]),
        (Some(a), Some(b), None, None) => apply(op, [x_node, a, b]),
        (Some(a), Some(b), Some(c), None) => apply(op, [x_node, a, b, c]),
        _ => panic!("one to three weights, not {}", w.len()),
    })
}

#[derive(Clone, Debug)]
struct Linear {
    kernel: &'static Kernel,
    quantization: FakeQuantization,
}

/// A matrix as a product of `units` and one factor per row. Where a whole row is scaled at once, units are the integers.
#[derive(Clone, Debug)]
pub(crate) struct Factored {
    units: FlexTensor,
    /// What weights are multiplied with; `None` when all are 1.
    factors: Option<Vec<f32>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Saved {
    x: Factored,
    w: Factored,
    /// The number of outputs of each weight matrix.
    outputs: Vec<usize>,
}

impl<const N: usize> Fused<N> for Linear {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; N], keep: bool) -> (FlexTensor, Option<Saved>) {
        let outputs: Vec<usize> = inputs[1..].iter().map(|w| size(w, 0)).collect();
        let x = self.activations(&inputs[0]);
        let w = self.weights(&inputs[1..]);
        let mut out = contiguous(&matmul(x.units.clone(), transposed(w.units.clone())));
        if x.factors.is_some() || w.factors.is_some() {
            let width = size(&w.units, 0);
            rows::each(out.storage_mut(), width, |row, out| {
                if let Some(steps) = &x.factors {
                    out.iter_mut().for_each(|y| *y *= steps[row]);
                }
                if let Some(scales) = &w.factors {
                    out.iter_mut().zip(scales).for_each(|(y, s)| *y *= s);
                }
            });
        }
        (out, keep.then_some(Saved { x, w, outputs }))
    }

    fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N] {
        let Saved { x, w, outputs } = saved;
        let width = size(&grad, 1);
        // Factors move to the gradient, where they are a pass over [tokens, outputs] instead of one over the weights.
        let scaled = |work: &(dyn Fn(usize, &mut [f32]) + Sync)| {
            let mut g = floats(&grad).to_vec();
            rows::each(&mut g, width, work);
            from_floats(g, [size(&grad, 0), width])
        };
        let dx = wanted[0].then(|| match &w.factors {
            None => matmul(grad.clone(), w.units),
            Some(scales) => {
                let by_output = |_: usize, row: &mut [f32]| {
                    row.iter_mut().zip(scales).for_each(|(g, s)| *g *= s);
                };
                matmul(scaled(&by_output), w.units)
            }
        });
        let dw = wanted[1..].iter().any(|&w| w).then(|| {
            let g = match &x.factors {
                None => grad.clone(),
                Some(steps) => scaled(&|token, row| row.iter_mut().for_each(|g| *g *= steps[token])),
            };
            contiguous(&matmul(transposed(g), x.units))
        });
        let mut results = [const { None }; N];
        results[0] = dx;
        let mut first = 0;
        for ((result, rows), wanted) in results[1..].iter_mut().zip(outputs).zip(&wanted[1..]) {
            if let (Some(dw), true) = (&dw, wanted) {
                let view = dw.layout().narrow(0, first, rows);
                *result = Some(dw.clone().with_layout(view));
            }
            first += rows;
        }
        results
    }
}

impl Linear {
    fn activations(&self, x: &FlexTensor) -> Factored {
        let FakeQuantization { activations, lambda, .. } = self.quantization;
        if !activations || lambda == 0.0 {
            return Factored { units: x.clone(), factors: None };
        }
        let (tokens, width) = (size(x, 0), size(x, 1));
        let xs = floats(x);
        let (mut units, mut steps) = (vec![0.0; tokens * width], vec![0.0; tokens]);
        let room = width.next_multiple_of(16);
        rows::each2((&mut units, width), (&mut steps, 1), |row, out, step| {
            let x = &xs[row * width..][..width];
            let mut codes = vec![0i8; room];
            step[0] = self.kernel.quantize_into(x, &mut codes).0;
            let pairs = out.iter_mut().zip(&codes);
            if lambda == 1.0 {
                pairs.for_each(|(o, &q)| *o = f32::from(q));
            } else {
                pairs.zip(x).for_each(|((o, &q), x)| *o = x + lambda * (f32::from(q) * step[0] - x));
            }
        });
        let units = from_floats(units, [tokens, width]);
        Factored { units, factors: (lambda == 1.0).then_some(steps) }
    }

    fn weights(&self, parts: &[FlexTensor]) -> Factored {
        let cols = size(&parts[0], 1);
        let total: usize = parts.iter().map(|w| size(w, 0)).sum();
        let mut units = vec![0.0; total * cols];
        let FakeQuantization { weights: granularity, lambda, .. } = self.quantization;
        let rounds = granularity.filter(|_| lambda != 0.0);
        let mut factors = rounds.map(|_| vec![1.0; total]);
        let mut first = 0;
        for part in parts {
            assert_eq!(size(part, 1), cols, "weights of one input");
            let (rows, w) = (size(part, 0), floats(part));
            let out = &mut units[first * cols..][..rows * cols];
            match (rounds, &mut factors) {
                (Some(granularity), Some(factors)) => {
                    round(w, cols, granularity, lambda, out, &mut factors[first..][..rows]);
                }
                _ => out.copy_from_slice(w),
            }
            first += rows;
        }
        let factors = factors.filter(|f| f.iter().any(|&f| f != 1.0));
        Factored { units: from_floats(units, [total, cols]), factors }
    }
}

/// Rounds one matrix: units and one factor per row, whose product is the weight that takes part.
fn round(
    w: &[f32],
    cols: usize,
    granularity: Granularity,
    lambda: f32,
    units: &mut [f32],
    factors: &mut [f32],
) {
    let group = match granularity {
        Granularity::Group(size) => size,
        _ => cols,
    };
    let whole = (granularity == Granularity::Tensor).then(|| mean_abs(w, cols));
    rows::each2((units, cols), (factors, 1), |row, units, factor| {
        let w = &w[row * cols..][..cols];
        for (units, w) in units.chunks_mut(group).zip(w.chunks(group)) {
            let scale = whole.unwrap_or_else(|| weights::mean_abs(w, cols));
            let reciprocal = 1.0 / scale;
            let pairs = units.iter_mut().zip(w);
            if lambda != 1.0 {
                pairs.for_each(|(u, w)| *u = w + lambda * (weights::trit(*w, reciprocal) * scale - w));
            } else if matches!(granularity, Granularity::Group(_)) {
                pairs.for_each(|(u, w)| *u = weights::trit(*w, reciprocal) * scale);
            } else {
                pairs.for_each(|(u, w)| *u = weights::trit(*w, reciprocal));
                factor[0] = scale;
            }
        }
    });
}

/// [`weights::mean_abs`] of a whole matrix with its rows on all threads: the same sums in the same order.
fn mean_abs(w: &[f32], cols: usize) -> f32 {
    let sum = |row: &[f32]| row.iter().map(|w| f64::from(w.abs())).sum::<f64>();
    let rows: Vec<f64> = w.par_chunks(cols).with_min_len(rows::CHUNK).map(sum).collect();
    let total: f64 = rows.iter().sum();
    ((total / w.len() as f64) as f32).max(weights::MIN_MEAN)
}

#[cfg(test)]
mod tests {
    use bitnet_quant::QuantConfig;

    use super::*;

    #[test]
    fn rounding_is_that_of_the_definition() {
        // Ratios of exactly one half, and everything around them.
        let (rows, cols) = (7, 24);
        let w: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 32.0).collect();
        for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(8)] {
            let exact = weights::absmean(rows, cols, &w, QuantConfig { granularity }).unwrap();
            let (mut units, mut factors) = (vec![0.0; rows * cols], vec![1.0; rows]);
            round(&w, cols, granularity, 1.0, &mut units, &mut factors);
            let mut row = vec![0.0; cols];
            for r in 0..rows {
                exact.row_to_f32(r, &mut row);
                let ours: Vec<f32> = units[r * cols..][..cols].iter().map(|u| u * factors[r]).collect();
                assert_eq!(ours, row, "{granularity:?}, row {r}");
            }
        }
        assert_eq!(mean_abs(&w, cols).to_bits(), weights::mean_abs(&w, cols).to_bits());
    }
}
