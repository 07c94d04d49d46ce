//! Gradient checkpointing changes memory, not numbers.

#![allow(clippy::unwrap_used)]

mod common;

use bitnet_model::Config;
use bitnet_training::{FakeQuantization, Minibatch, Parameters, Transformer};
use burn_tensor::Device;
use common::{kernel, small, values};

fn config(sub_norms: bool) -> Config {
    Config { layers: 3, vocab: 40, sub_norms, ..small() }
}

/// The loss and every gradient, as bits.
fn pass(model: &Transformer) -> Vec<Vec<u32>> {
    let parameters = Parameters::random(model.config(), 5, 0.3, &Device::flex());
    let tokens: Vec<u32> = (0..3 * 13).map(|i| i * 17 % 40).collect();
    let leaves = parameters.leaves();
    let loss = model.loss(&parameters, &leaves, &Minibatch::shifted(&tokens, 12));
    let grads = loss.backward();
    let mut all = vec![values(loss)];
    all.extend(leaves.iter().map(|leaf| values(leaf.grad(&grads).unwrap())));
    all.iter().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn loss_and_gradients_have_the_same_bits() {
    for sub_norms in [true, false] {
        for quantization in [FakeQuantization::W158A8, FakeQuantization::NONE] {
            let model = Transformer::new(config(sub_norms), quantization, kernel()).unwrap();
            let kept = pass(&model);
            assert!(kept.iter().all(|grad| grad.iter().any(|&bits| bits << 1 != 0)), "a gradient is zero");
            assert_eq!(pass(&model.recomputing(true)), kept);
        }
    }
}
