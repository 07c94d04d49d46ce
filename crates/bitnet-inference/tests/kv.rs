//! What rounding keys and values costs, in the distribution of the next token.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::fs;

use bitnet_inference::{InferenceEngine, KvType, LoadOptions, argmax};

mod support;
use support::oracle;

/// Tokens of a text: more than a chunk of attention.
const TOKENS: usize = 600;

fn load(model: &str, kv: KvType) -> InferenceEngine {
    let options = LoadOptions { threads: Some(2), context: Some(TOKENS), kv, ..Default::default() };
    InferenceEngine::load(oracle(model), &options).unwrap()
}

fn logits(model: &str, kv: KvType) -> Vec<Vec<f32>> {
    let engine = load(model, kv);
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made/tinyshakespeare-6000.txt");
    let ids = engine.encode(&fs::read_to_string(text).unwrap()).unwrap();
    let mut rows = Vec::new();
    engine.session().unwrap().logits(&ids[..TOKENS], |row| rows.push(row.to_vec())).unwrap();
    rows
}

fn log_softmax(x: &[f32]) -> Vec<f64> {
    let max = f64::from(x.iter().copied().fold(f32::MIN, f32::max));
    let total: f64 = x.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    x.iter().map(|&x| f64::from(x) - max - total.ln()).collect()
}

/// Mean Kullback-Leibler divergence from the first to the second, in nats, and the share of positions with the same most
/// probable token.
fn compare(want: &[Vec<f32>], got: &[Vec<f32>]) -> (f64, f64) {
    let (mut divergence, mut same) = (0.0, 0);
    for (want, got) in want.iter().zip(got) {
        let (p, q) = (log_softmax(want), log_softmax(got));
        divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        same += usize::from(argmax(want) == argmax(got));
    }
    (divergence / want.len() as f64, f64::from(same as u32) / want.len() as f64)
}

#[test]
fn rounded_keys_and_values_keep_the_distribution() {
    for model in ["bitnet-a-offline-packed", "llama-b-bitlinear-packed", "qwen3-b-ternary-g128"] {
        let want = logits(model, KvType::F32);
        for (kv, most, least) in [(KvType::F16, 1e-4, 0.99), (KvType::Int8, 1e-3, 0.97)] {
            let (divergence, same) = compare(&want, &logits(model, kv));
            println!("{model} {kv:?}: KL {divergence:.2e}, top-1 {:.1} %", 100.0 * same);
            assert!(divergence < most && same > least, "{model} {kv:?}: {divergence}, {same}");
        }
    }
}
