//! What the tests of this crate share.

#![allow(dead_code, clippy::unwrap_used)]

use bitnet_kernels::Kernel;
use bitnet_model::{Config, GateActivation, Rope, RopeScaling};
use bitnet_source::family;
use burn_tensor::{Device, Tensor, TensorData};

pub fn kernel() -> &'static Kernel {
    bitnet_kernels::select(None).unwrap()
}

/// A model of two small blocks, for tests to change what they are about.
pub fn small() -> Config {
    Config {
        family: family::BITNET_B158,
        hidden: 32,
        ffn: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rotary_dim: 8,
        gated_attention: false,
        recurrent: None,
        fold: None,
        vocab: 23,
        context: 16,
        norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
        activation: GateActivation::SquaredRelu,
        sub_norms: true,
        qk_norms: false,
        input_norm_eps: None,
        tied_head: true,
        trained_int8: true,
        bos: None,
        eos: Vec::new(),
    }
}

/// The CPU with graphs.
pub fn device() -> Device {
    Device::flex().autodiff()
}

/// Numbers without a pattern, between -1 and 1.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn matrix(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

pub fn random(shape: [usize; 2], seed: u64) -> Tensor<2> {
    matrix(noise(shape[0] * shape[1], seed), shape)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// A tensor's values and the gradients of `sum(weights * f(inputs))`.
pub fn gradients(f: impl Fn(&[Tensor<2>]) -> Tensor<2>, inputs: &[Tensor<2>]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let leaves: Vec<Tensor<2>> = inputs.iter().map(|x| x.clone().require_grad()).collect();
    let out = f(&leaves);
    let weights = random(out.dims(), 99);
    let grads = (out.clone() * weights).sum().backward();
    (values(out), leaves.iter().map(|x| values(x.grad(&grads).unwrap())).collect())
}

/// The largest difference over the largest value.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-12f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}
