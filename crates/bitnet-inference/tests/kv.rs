//! What rounding keys and values costs, in the distribution of the next token; sequences that take over others.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::fs;

use bitnet_inference::{InferenceEngine, KvType, LoadOptions, argmax};
use bitnet_model::{Cpu, ModelError, Output, Sequence, Span, State};

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

/// The logits behind `ids`, appended to a sequence.
fn feed(
    engine: &InferenceEngine,
    state: &mut State<Cpu>,
    sequence: &mut Sequence<<Cpu as bitnet_model::Backend>::Kv>,
    ids: &[u32],
) -> Vec<f32> {
    let mut spans = [Span { sequence, tokens: ids.len(), output: Output::Last }];
    engine.model().forward(state, ids, &mut spans, |_, _| {}).unwrap().to_vec()
}

/// A copy and what it was made of go on alike, and apart.
#[test]
fn a_copied_sequence_goes_on_with_the_same_bits() {
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        let engine = load("bitnet-a-offline-packed", kv);
        let model = engine.model();
        let mut state = model.state(300, 1, 320).unwrap();
        // Within a page, a whole page, and a part of the second.
        for held in [3, 256, 300] {
            let ids: Vec<u32> = (0..held).map(|i| i * 7 % 300 + 1).collect();
            let (mut from, mut to) = (model.sequence(320).unwrap(), model.sequence(310).unwrap());
            feed(&engine, &mut state, &mut from, &ids);
            model.copy(&from, &mut to).unwrap();
            assert_eq!(to.len(), held as usize);
            let other = feed(&engine, &mut state, &mut to, &[9, 8]);
            let want = feed(&engine, &mut state, &mut from, &[5, 6]);
            model.copy(&from, &mut to).unwrap();
            assert_eq!(
                feed(&engine, &mut state, &mut to, &[4]),
                feed(&engine, &mut state, &mut from, &[4]),
                "{held} of {kv:?}"
            );
            assert_ne!(other, want);
        }
    }
}

#[test]
fn keys_and_values_of_another_model_or_type_are_not_taken_over() {
    let engine = load("bitnet-a-offline-packed", KvType::F16);
    let (from, mut short) = (engine.model().sequence(300).unwrap(), engine.model().sequence(2).unwrap());
    for (model, kv) in [("bitnet-a-offline-packed", KvType::Int8), ("qwen3-b-ternary-g128", KvType::F16)] {
        let mut to = load(model, kv).model().sequence(300).unwrap();
        let error = engine.model().copy(&from, &mut to).unwrap_err();
        assert!(matches!(error, ModelError::ForeignCache { .. }), "{error}");
        assert!(error.to_string().contains("F16"), "{error}");
    }
    let mut from = from;
    let mut state = engine.model().state(3, 1, 300).unwrap();
    feed(&engine, &mut state, &mut from, &[1, 2, 3]);
    let error = engine.model().copy(&from, &mut short).unwrap_err();
    assert!(matches!(error, ModelError::ContextFull { needed: 3, .. }), "{error}");
}
