//! Gradient checkpointing changes memory, not numbers.

#![allow(clippy::unwrap_used)]

mod common;

use bitnet_model::{Config, GateActivation, Rope, RopeScaling, family};
use bitnet_training::{Batch, Parameters, Quantization, Transformer};
use burn_tensor::Device;
use common::{kernel, values};

fn config(sub_norms: bool) -> Config {
    Config {
        family: family::BITNET_B158,
        hidden: 32,
        ffn: 48,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        vocab: 40,
        context: 16,
        norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
        activation: GateActivation::SquaredRelu,
        sub_norms,
        qk_norms: false,
        input_norm_eps: None,
        tied_head: true,
        trained_int8: true,
        bos: None,
        eos: Vec::new(),
    }
}

/// The loss and every gradient, as bits.
fn pass(model: &Transformer) -> Vec<Vec<u32>> {
    let parameters = Parameters::random(model.config(), 5, 0.3, &Device::flex());
    let tokens: Vec<u32> = (0..3 * 13).map(|i| i * 17 % 40).collect();
    let leaves = parameters.leaves();
    let loss = model.loss(&parameters, &leaves, &Batch::shifted(&tokens, 12));
    let grads = loss.backward();
    let mut all = vec![values(loss)];
    all.extend(leaves.iter().map(|leaf| values(leaf.grad(&grads).unwrap())));
    all.iter().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn loss_and_gradients_have_the_same_bits() {
    for sub_norms in [true, false] {
        for quantization in [Quantization::W158A8, Quantization::NONE] {
            let model = Transformer::new(config(sub_norms), quantization, kernel()).unwrap();
            let kept = pass(&model);
            assert!(kept.iter().all(|grad| grad.iter().any(|&bits| bits << 1 != 0)), "a gradient is zero");
            assert_eq!(pass(&model.recomputing(true)), kept);
        }
    }
}
