//! A model of the field in training: loss and gradients of the first step, and the trend of five, as `transformers` and PyTorch
//! have them.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use bitnet_format::{Checkpoint, HfMetadata, OpenOptions};
use bitnet_model::{Config, Part};
use bitnet_source::{Source, family::huggingface};
use bitnet_training::{FakeQuantization, Minibatch, Parameters, Transformer};
use burn_tensor::{Device, Tensor};
use common::{difference, kernel, values};
use serde_json::Value;

fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/oracle").join(path)
}

/// The configuration and the masters.
fn masters() -> (Config, Parameters) {
    let directory = testdata("bitnet-a-online-bf16");
    let checkpoint = Checkpoint::open(&directory, &OpenOptions::default()).unwrap();
    let config = Source::new(Checkpoint::open(&directory, &OpenOptions::default()).unwrap()).unwrap();
    let read = |part: Part| {
        let name = huggingface::names(part).into_iter().find(|n| checkpoint.contains(n)).unwrap();
        Ok(checkpoint.tensor(&name).unwrap().to_f32().unwrap())
    };
    let parameters = Parameters::from_parts(config.config(), &Device::flex(), read).unwrap();
    (config.config().clone(), parameters)
}

fn batches(expected: &Value) -> Vec<Minibatch> {
    let ids = |row: &Value| -> Vec<u32> {
        row.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let batch = |rows: &Value| {
        let tokens: Vec<u32> = rows.as_array().unwrap().iter().flat_map(ids).collect();
        Minibatch::shifted(&tokens, 15)
    };
    expected["batches"].as_array().unwrap().iter().map(batch).collect()
}

/// The loss of a batch and the gradients of all parameters, by name.
fn step(model: &Transformer, parameters: &Parameters, batch: &Minibatch) -> (f32, Vec<(String, Tensor<2>)>) {
    let leaves = parameters.leaves();
    let loss = model.loss(parameters, &leaves, batch);
    let mut grads = loss.backward();
    let named = parameters.list().iter().zip(&leaves);
    let named = named.map(|(p, leaf)| (p.name(), leaf.grad_remove(&mut grads).unwrap())).collect();
    (values(loss)[0], named)
}

#[test]
fn loss_and_gradients_are_those_of_transformers() {
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(testdata("qat-a/qat.json")).unwrap()).unwrap();
    let (config, mut parameters) = masters();
    let model = Transformer::new(config, FakeQuantization::W158A8, kernel()).unwrap();
    let wanted: Vec<f64> =
        expected["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
    let mut losses = Vec::new();
    for (i, batch) in batches(&expected).iter().enumerate() {
        let (loss, grads) = step(&model, &parameters, batch);
        losses.push(f64::from(loss));
        if i == 0 {
            check_gradients(&expected, &grads);
        }
        for (parameter, (_, grad)) in parameters.list_mut().iter_mut().zip(grads) {
            parameter.values = parameter.values.clone() - grad * expected["lr"].as_f64().unwrap();
        }
    }
    assert!((losses[0] / wanted[0] - 1.0).abs() < 1e-3, "{losses:?}, {wanted:?}");
    // Later losses hang on weights that flip: a trend.
    for (ours, theirs) in losses.iter().zip(&wanted) {
        assert!((ours / theirs - 1.0).abs() < 0.06, "{losses:?}, {wanted:?}");
    }
}

/// The gradients that are known element by element.
fn full_gradients() -> Checkpoint {
    let bytes = std::fs::read(testdata("qat-a/gradients.safetensors")).unwrap();
    let metadata = HfMetadata::default();
    Checkpoint::from_safetensors(vec![bytes.into()], metadata).unwrap()
}

fn check_gradients(expected: &Value, grads: &[(String, Tensor<2>)]) {
    let lengths = expected["grad_l2"].as_object().unwrap();
    assert_eq!(lengths.len(), grads.len());
    let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let full = full_gradients();
    let mut compared = 0;
    for (name, grad) in grads {
        let grad = values(grad.clone());
        let (ours, theirs) = (length(&grad), lengths[name].as_f64().unwrap());
        assert!((ours / theirs - 1.0).abs() < 0.01, "{name}: {ours}, {theirs}");
        if full.contains(name) {
            let theirs = &full.tensor(name).unwrap().to_f32().unwrap();
            let dot: f64 = grad.iter().zip(theirs).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let cosine = dot / (ours * length(theirs));
            assert!(cosine > 0.999, "{name}: {cosine}, {}", difference(&grad, theirs));
            compared += 1;
        }
    }
    assert_eq!(compared, 7);
}
