//! Every backward written by hand, against finite differences and against the same operation out of Burn's own.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bitnet_model::{GateActivation, Rope, RopeScaling};
use bitnet_quant::Granularity;
use bitnet_training::{
    DistillOptions,
    ops::{self, FakeQuantization, Heads, Relations, composed},
};
use burn_tensor::Tensor;
use common::{difference, gradients, kernel, matrix, noise, random, values};

type Operation<'a> = &'a dyn Fn(&[Tensor<2>]) -> Tensor<2>;

/// Checks the gradients of `by_hand` at `inputs` against those of `composed`, and against central differences of its own
/// forward.
fn check(what: &str, by_hand: Operation<'_>, composed: Operation<'_>, inputs: &[Tensor<2>]) {
    let (out, grads) = gradients(by_hand, inputs);
    let (wanted_out, wanted) = gradients(composed, inputs);
    assert!(difference(&out, &wanted_out) < 2e-6, "{what}: forward");
    for (i, (ours, theirs)) in grads.iter().zip(&wanted).enumerate() {
        assert!(difference(ours, theirs) < 2e-5, "{what}: input {i} differs by {}", difference(ours, theirs));
    }
    differences(what, by_hand, inputs, &grads);
}

/// Central differences of `sum(weights * f)`, in f64 outside of `f`, at a dozen elements of each input.
fn differences(what: &str, f: Operation<'_>, inputs: &[Tensor<2>], grads: &[Vec<f32>]) {
    let total = |inputs: &[Tensor<2>]| -> f64 {
        let out = f(inputs);
        let weights = values(random(out.dims(), 99));
        values(out).iter().zip(weights).map(|(&y, w)| f64::from(y) * f64::from(w)).sum()
    };
    const STEP: f32 = 1.0 / 256.0;
    for (i, input) in inputs.iter().enumerate() {
        let x = values(input.clone());
        let largest = grads[i].iter().fold(0f32, |m, g| m.max(g.abs()));
        for at in (0..x.len()).step_by((x.len() / 12).max(1)) {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[at] += by;
                let mut inputs = inputs.to_vec();
                inputs[i] = matrix(x, input.dims());
                total(&inputs)
            };
            let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let error = (slope - f64::from(grads[i][at])).abs();
            assert!(
                error < 5e-3 * f64::from(largest).max(0.1),
                "{what}: input {i}, element {at}: {} by hand, {slope} by differences",
                grads[i][at]
            );
        }
    }
}

#[test]
fn norm() {
    let x = random([37, 24], 1);
    let w = random([1, 24], 2) + 1.0;
    check(
        "norm",
        &|i| ops::rms_norm(kernel(), i[0].clone(), i[1].clone(), 1e-5),
        &|i| composed::rms_norm(i[0].clone(), i[1].clone(), 1e-5),
        &[x, w],
    );
}

#[test]
fn gates() {
    // Away from the kink, where a difference quotient means something.
    let x: Vec<f32> = noise(35 * 32, 3).iter().map(|x| x + 0.1 * x.signum()).collect();
    for activation in [GateActivation::SquaredRelu, GateActivation::Silu] {
        check(
            &format!("{activation:?}"),
            &|i| ops::gate(i[0].clone(), activation),
            &|i| composed::gate(i[0].clone(), activation),
            &[matrix(x.clone(), [35, 32])],
        );
    }
}

#[test]
fn rows_of_a_table() {
    let ids: Arc<[u32]> = Arc::from([3, 0, 3, 4, 3, 1]);
    check(
        "embedding",
        &|i| ops::embedding(i[0].clone(), ids.clone()),
        &|i| composed::embedding(i[0].clone(), &ids),
        &[random([5, 8], 4)],
    );
}

#[test]
fn loss() {
    let targets: Arc<[Option<u32>]> =
        (0..40).map(|i| (i % 5 != 0).then_some(i * 7 % 11)).collect::<Vec<_>>().into();
    check(
        "loss",
        &|i| ops::cross_entropy(kernel(), i[0].clone(), i[1].clone(), targets.clone()).unsqueeze(),
        &|i| composed::cross_entropy(i[0].clone(), i[1].clone(), &targets).unsqueeze(),
        &[random([40, 16], 5), random([11, 16], 6)],
    );
}

#[test]
fn loss_of_a_student() {
    let targets: Arc<[Option<u32>]> =
        (0..40).map(|i| (i % 5 != 0).then_some(i * 7 % 11)).collect::<Vec<_>>().into();
    let teacher = (random([40, 11], 20) * 3.0).inner();
    for (temperature, weight) in [(1.0, 1.0), (2.0, 0.5), (3.0, 0.0)] {
        let options = DistillOptions { temperature, weight };
        let given = |i: &[Tensor<2>]| (i[0].clone(), i[1].clone(), teacher.clone());
        check(
            &format!("loss of a student, {options:?}"),
            &|i| {
                let (h, w, teacher) = given(i);
                ops::distillation(kernel(), h, w, teacher, targets.clone(), options).unsqueeze()
            },
            &|i| {
                let (h, w, teacher) = given(i);
                composed::distillation(h, w, Tensor::from_inner(teacher), &targets, options).unsqueeze()
            },
            &[random([40, 16], 5), random([11, 16], 6)],
        );
    }
}

fn states(tokens: usize, widths: [usize; 3], seed: u64) -> Tensor<2> {
    random([tokens, widths.iter().sum()], seed) * 2.0
}

#[test]
fn attention_relations() {
    // Teachers of another width, sequences that are filled up, one that is empty; more rows than a chunk.
    for (lengths, positions, heads, student, teacher) in [
        (vec![9, 9], 9, 2, [8, 4, 4], [12, 6, 6]),
        (vec![5, 0, 9, 1], 9, 4, [16, 8, 8], [16, 16, 16]),
        (vec![41], 41, 1, [8, 8, 8], [4, 2, 2]),
    ] {
        let tokens = lengths.len() * positions;
        let sizes = Relations { positions, lengths: lengths.into(), heads, student, teacher };
        let wanted = states(tokens, teacher, 31).inner();
        check(
            "relations",
            &|i| ops::relations(kernel(), i[0].clone(), wanted.clone(), &sizes).unsqueeze(),
            &|i| composed::relations(i[0].clone(), Tensor::from_inner(wanted.clone()), &sizes).unsqueeze(),
            &[states(tokens, student, 30)],
        );
    }
}

/// Nothing to learn is exactly nothing.
#[test]
fn relations_of_a_model_to_itself_are_zero() {
    let widths = [16, 8, 8];
    let x = states(3 * 33, widths, 32);
    let sizes = Relations {
        positions: 33,
        lengths: Arc::from([33, 20, 33]),
        heads: 4,
        student: widths,
        teacher: widths,
    };
    let teacher = x.clone().inner();
    let own = |i: &[Tensor<2>]| ops::relations(kernel(), i[0].clone(), teacher.clone(), &sizes).unsqueeze();
    let (loss, gradients) = gradients(own, &[x]);
    assert_eq!(loss, [0.0]);
    assert!(gradients[0].iter().all(|&g| g == 0.0));
}

#[test]
fn side_paths() {
    check(
        "side path",
        &|i| ops::side_path(i[0].clone(), i[1].clone(), i[2].clone(), 1.5),
        &|i| composed::side_path(i[0].clone(), i[1].clone(), i[2].clone(), 1.5),
        &[random([33, 20], 21), random([4, 20], 22), random([7, 4], 23)],
    );
}

fn heads(batch: usize, positions: usize, kv: usize, group: usize, dim: usize) -> Heads {
    let rope = Rope { theta: 10_000.0, scaling: RopeScaling::None };
    let frequencies = rope.frequencies(dim);
    let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
    let (cos, sin) = (angles().map(f32::cos).collect(), angles().map(f32::sin).collect());
    Heads { batch, positions, kv, group, dim, cos, sin }
}

#[test]
fn attention() {
    for (batch, positions, kv, group, dim) in [(2, 9, 2, 2, 4), (1, 40, 1, 3, 8), (3, 1, 2, 1, 6)] {
        let heads = heads(batch, positions, kv, group, dim);
        check(
            "attention",
            &|i| ops::attention(kernel(), i[0].clone(), &heads),
            &|i| composed::attention(i[0].clone(), &heads),
            &[random([batch * positions, heads.width()], 7) * 2.0],
        );
    }
}

/// Without rounding a projection is a plain product.
#[test]
fn plain_projections() {
    for lambda_zero in [false, true] {
        let quantization = match lambda_zero {
            false => FakeQuantization::NONE,
            true => FakeQuantization { lambda: 0.0, ..FakeQuantization::W158A8 },
        };
        let inputs = [random([33, 20], 8), random([6, 20], 9), random([3, 20], 10), random([5, 20], 11)];
        for weights in 1..=3 {
            check(
                "projection",
                &|i| ops::linear(kernel(), i[0].clone(), &i[1..], quantization),
                &|i| composed::linear(i[0].clone(), &i[1..], FakeQuantization::NONE),
                &inputs[..=weights],
            );
        }
    }
}

/// Rounding has no slope, so there is nothing to take differences of: the gradients are those of Burn's `detach`.
#[test]
fn rounded_projections() {
    for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(8)] {
        for (activations, lambda) in [(true, 1.0), (false, 1.0), (true, 0.3)] {
            let quantization = FakeQuantization { weights: Some(granularity), activations, lambda };
            let inputs = [random([33, 20], 12), random([6, 20], 13), random([3, 20], 14) * 3.0];
            let by_hand = |i: &[Tensor<2>]| ops::linear(kernel(), i[0].clone(), &i[1..], quantization);
            let burn = |i: &[Tensor<2>]| composed::linear(i[0].clone(), &i[1..], quantization);
            let ((out, ours), (wanted, theirs)) = (gradients(by_hand, &inputs), gradients(burn, &inputs));
            assert!(difference(&out, &wanted) < 2e-6, "{quantization:?}");
            for (a, b) in ours.iter().zip(&theirs) {
                assert!(difference(a, b) < 2e-5, "{quantization:?}: {}", difference(a, b));
            }
        }
    }
}
