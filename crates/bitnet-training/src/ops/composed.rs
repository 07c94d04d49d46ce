//! The same operations out of Burn's own: for devices that have no code by hand, and to check the code by hand against.

use std::sync::Arc;

use bitnet_model::GateActivation;
use bitnet_quant::{Granularity, activations, weights};
use burn_tensor::{Int, Tensor, TensorData, activation};

use super::sizes::{FakeQuantization, Heads, Relations};
use crate::options::DistillOptions;

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, w: Tensor<2>, eps: f32) -> Tensor<2> {
    let mean = (x.clone() * x.clone()).mean_dim(1);
    x / (mean + eps).sqrt() * w
}

/// See [`super::gate()`].
pub fn gate(x: Tensor<2>, activation: GateActivation) -> Tensor<2> {
    let width = x.dims()[1] / 2;
    let (gate, up) = (x.clone().narrow(1, 0, width), x.narrow(1, width, width));
    match activation {
        GateActivation::SquaredRelu => {
            let gate = activation::relu(gate);
            gate.clone() * gate * up
        }
        GateActivation::Silu => activation::silu(gate) * up,
    }
}

/// See [`super::embedding()`].
pub fn embedding(table: Tensor<2>, ids: &Arc<[u32]>) -> Tensor<2> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let count = ids.len();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), &table.device());
    table.select(0, ids)
}

/// See [`super::cross_entropy`].
pub fn cross_entropy(h: Tensor<2>, w: Tensor<2>, targets: &Arc<[Option<u32>]>) -> Tensor<1> {
    let device = h.device();
    let counted: Vec<i64> = (0..).zip(targets.iter()).filter_map(|(row, t)| t.map(|_| row)).collect();
    let ids: Vec<i64> = targets.iter().flatten().map(|&t| i64::from(t)).collect();
    let count = ids.len();
    assert!(count > 0, "no target counts");
    let rows = Tensor::<1, Int>::from_data(TensorData::new(counted, [count]), &device);
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [count, 1]), &device);
    let logits = h.select(0, rows).matmul(w.transpose());
    activation::log_softmax(logits, 1).gather(1, ids).mean().neg()
}

/// See [`super::linear()`].
pub fn linear(x: Tensor<2>, w: &[Tensor<2>], quantization: FakeQuantization) -> Tensor<2> {
    let FakeQuantization { weights, activations, lambda } = quantization;
    let through = |x: Tensor<2>, rounded: Tensor<2>| x.clone() + ((rounded - x) * lambda).detach();
    let x = if activations { through(x.clone(), int8(x.detach())) } else { x };
    let rounded = |w: &Tensor<2>| match weights {
        Some(granularity) => through(w.clone(), ternary(w.clone().detach(), granularity)),
        None => w.clone(),
    };
    Tensor::cat(w.iter().map(|w| x.clone().matmul(rounded(w).transpose())).collect(), 1)
}

/// See [`super::side_path()`].
pub fn side_path(x: Tensor<2>, a: Tensor<2>, b: Tensor<2>, factor: f32) -> Tensor<2> {
    (x.matmul(a.transpose()) * factor).matmul(b.transpose())
}

/// See [`super::distillation()`].
pub fn distillation(
    h: Tensor<2>,
    w: Tensor<2>,
    teacher: Tensor<2>,
    targets: &Arc<[Option<u32>]>,
    options: DistillOptions,
) -> Tensor<1> {
    let DistillOptions { temperature, weight } = options;
    let counted: Vec<i64> = (0..).zip(targets.iter()).filter_map(|(row, t)| t.map(|_| row)).collect();
    let count = counted.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(counted, [count]), &h.device());
    let logits = h.clone().select(0, rows.clone()).matmul(w.clone().transpose()) / temperature;
    let teacher = teacher.select(0, rows) / temperature;
    let wanted = activation::log_softmax(teacher, 1);
    let apart = wanted.clone().exp() * (wanted - activation::log_softmax(logits, 1));
    let divergence = apart.sum() / count as f32 * (temperature * temperature);
    cross_entropy(h, w, targets) * (1.0 - weight) + divergence * weight
}

/// See [`super::relations()`].
pub fn relations(x: Tensor<2>, teacher: Tensor<2>, sizes: &Relations) -> Tensor<1> {
    let mut total = Tensor::zeros([1], &x.device());
    for (sequence, &length) in sizes.lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        for part in 0..3 {
            let logs = |states: &Tensor<2>, widths: [usize; 3]| {
                let (first, dim) = (widths[..part].iter().sum(), widths[part] / sizes.heads);
                let states = states.clone().narrow(0, sequence * sizes.positions, length);
                let states: Tensor<3> =
                    states.narrow(1, first, widths[part]).reshape([length, sizes.heads, dim]);
                let heads = states.swap_dims(0, 1);
                let scores = heads.clone().matmul(heads.transpose()) / (dim as f32).sqrt();
                activation::log_softmax(scores, 2)
            };
            let (own, wanted) = (logs(&x, sizes.student), logs(&teacher, sizes.teacher));
            total = total + (wanted.clone().exp() * (wanted - own)).sum();
        }
    }
    total / (sizes.heads * sizes.lengths.iter().sum::<usize>()) as f32
}

fn int8(x: Tensor<2>) -> Tensor<2> {
    let amax = x.clone().abs().max_dim(1).clamp_min(activations::MIN_AMAX);
    (x * (amax.clone().recip() * 127.0)).round() * (amax / 127.0)
}

fn ternary(w: Tensor<2>, granularity: Granularity) -> Tensor<2> {
    let [rows, cols] = w.dims();
    let round = |w: Tensor<2>| {
        let scale = w.clone().abs().mean_dim(1).clamp_min(weights::MIN_MEAN);
        (w / scale.clone()).round().clamp(-1.0, 1.0) * scale
    };
    match granularity {
        Granularity::Tensor => round(w.reshape([1, rows * cols])).reshape([rows, cols]),
        Granularity::Row => round(w),
        Granularity::Group(size) => {
            let groups =
                (0..cols).step_by(size).map(|at| round(w.clone().narrow(1, at, size.min(cols - at))));
            Tensor::cat(groups.collect(), 1)
        }
    }
}

/// See [`super::attention()`].
pub fn attention(qkv: Tensor<2>, heads: &Heads) -> Tensor<2> {
    let Heads { batch, positions, kv, group, dim, .. } = *heads;
    let device = qkv.device();
    let split = |from: usize, count: usize| {
        let part = qkv.clone().narrow(1, from, count * dim);
        part.reshape([batch, positions, count, dim]).swap_dims(1, 2)
    };
    let repeat = |x: Tensor<4>| -> Tensor<4> {
        let x: Tensor<5> = x.reshape([batch, kv, 1, positions, dim]);
        x.repeat_dim(2, group).reshape([batch, kv * group, positions, dim])
    };
    let q = rotate(split(0, kv * group), heads);
    let k = repeat(rotate(split(heads.q_width(), kv), heads));
    let v = repeat(split(heads.q_width() + kv * dim, kv));
    let hidden: Vec<f32> = (0..positions * positions)
        .map(|i| if i % positions > i / positions { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    let mask = Tensor::<4>::from_data(TensorData::new(hidden, [1, 1, positions, positions]), &device);
    let scores = q.matmul(k.transpose()) * heads.scale() + mask;
    let out = activation::softmax(scores, 3).matmul(v);
    out.swap_dims(1, 2).reshape([batch * positions, heads.q_width()])
}

fn rotate(x: Tensor<4>, heads: &Heads) -> Tensor<4> {
    let (half, device) = (heads.dim / 2, x.device());
    let table = |values: &Arc<[f32]>| {
        let values = values[..heads.positions * half].to_vec();
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, heads.positions, half]), &device)
    };
    let (cos, sin) = (table(&heads.cos), table(&heads.sin));
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![first, b * cos + a * sin], 3)
}
