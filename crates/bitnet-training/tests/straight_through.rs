//! The four properties of the straight-through estimator: gradients with the rounded factors, the forward of the engine, and
//! the two ends of the way from floats to trits.

#![allow(clippy::unwrap_used)]

mod common;

use bitnet_core::{HybridMemoryPool, ThreadPool, threads::ColumnsMut};
use bitnet_quant::{Activations, Granularity, PackedTernary, QuantConfig, QuantizedRows, weights};
use bitnet_training::ops::{self, FakeQuantization};
use common::{difference, gradients, kernel, matrix, noise, random};

const TOKENS: usize = 37;
const INPUTS: usize = 88;
const OUTPUTS: usize = 40;

struct Rounded {
    x: Vec<f32>,
    w: Vec<f32>,
    rows: QuantizedRows,
    packed: PackedTernary,
    /// The activations and weights that take part.
    xq: Vec<f32>,
    wq: Vec<f32>,
}

fn rounded(granularity: Granularity) -> Rounded {
    let (x, w) = (noise(TOKENS * INPUTS, 1), noise(OUTPUTS * INPUTS, 2));
    let memory = HybridMemoryPool::new();
    let mut rows = QuantizedRows::new(&memory, TOKENS, INPUTS).unwrap();
    let mut xq = Vec::new();
    for (token, x) in x.chunks_exact(INPUTS).enumerate() {
        rows.quantize_token(token, x);
        xq.extend(rows.codes(token)[..INPUTS].iter().map(|&q| f32::from(q) * rows.step(token)));
    }
    let exact = weights::absmean(OUTPUTS, INPUTS, &w, QuantConfig { granularity }).unwrap();
    let mut wq = vec![0.0; w.len()];
    wq.chunks_exact_mut(INPUTS).enumerate().for_each(|(row, out)| exact.row_to_f32(row, out));
    let packed = PackedTernary::pack(&exact, &memory, &ThreadPool::new(1)).unwrap();
    Rounded { x, w, rows, packed, xq, wq }
}

/// `a^T b` of `[n, p]` and `[n, q]`, in f64.
fn product(a: &[f32], p: usize, b: &[f32], q: usize) -> Vec<f32> {
    let mut out = vec![0f64; p * q];
    for (a, b) in a.chunks_exact(p).zip(b.chunks_exact(q)) {
        for (a, out) in a.iter().zip(out.chunks_exact_mut(q)) {
            out.iter_mut().zip(b).for_each(|(o, b)| *o += f64::from(*a) * f64::from(*b));
        }
    }
    out.into_iter().map(|x| x as f32).collect()
}

fn transposed(a: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| a.iter().skip(c).step_by(cols).copied()).collect()
}

#[test]
fn gradients_take_the_rounded_factors() {
    let r = rounded(Granularity::Tensor);
    let inputs = [matrix(r.x, [TOKENS, INPUTS]), matrix(r.w, [OUTPUTS, INPUTS])];
    let linear =
        |i: &[burn_tensor::Tensor<2>]| ops::linear(kernel(), i[0].clone(), &i[1..], FakeQuantization::W158A8);
    let (_, grads) = gradients(linear, &inputs);
    // What `gradients` multiplies the outputs with is the gradient of the outputs.
    let g = common::values(random([TOKENS, OUTPUTS], 99));
    let dw = product(&g, OUTPUTS, &r.xq, INPUTS);
    let dx = product(&transposed(&g, OUTPUTS), TOKENS, &r.wq, INPUTS);
    assert!(difference(&grads[0], &dx) < 2e-6, "dx = g Wq: {}", difference(&grads[0], &dx));
    assert!(difference(&grads[1], &dw) < 2e-6, "dW = g^T xq: {}", difference(&grads[1], &dw));
}

#[test]
fn the_forward_is_the_engines() {
    for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(32)] {
        let r = rounded(granularity);
        let mut wanted = vec![0.0; TOKENS * OUTPUTS];
        let mut columns = ColumnsMut::whole(&mut wanted, OUTPUTS);
        kernel().matmul(&r.packed, &r.rows, Activations::Int8PerToken, 0, &mut columns);
        let quantization = FakeQuantization { weights: Some(granularity), ..FakeQuantization::W158A8 };
        let (x, w) = (matrix(r.x, [TOKENS, INPUTS]), matrix(r.w, [OUTPUTS, INPUTS]));
        let ours = common::values(ops::linear(kernel(), x, &[w], quantization));
        match granularity {
            // Parts of a row are combined in another order.
            Granularity::Group(_) => assert!(difference(&ours, &wanted) < 1e-6, "{granularity:?}"),
            _ => assert_eq!(ours, wanted, "{granularity:?}"),
        }
    }
}

#[test]
fn lambda_leads_from_the_plain_product_to_the_rounded_one() {
    let (x, w) = (random([TOKENS, INPUTS], 1), random([OUTPUTS, INPUTS], 2));
    let at = |lambda| {
        let quantization = FakeQuantization { lambda, ..FakeQuantization::W158A8 };
        common::values(ops::linear(kernel(), x.clone(), std::slice::from_ref(&w), quantization))
    };
    let plain = common::values(x.clone().matmul(w.clone().transpose()));
    assert_eq!(at(0.0), plain);
    assert!(difference(&at(1.0 - f32::EPSILON / 2.0), &at(1.0)) < 1e-5);
    let way = [0.0, 0.25, 0.5, 0.75, 1.0].map(|lambda| difference(&at(lambda), &plain));
    assert!(way.is_sorted() && way[4] > 0.05, "{way:?}");
}
