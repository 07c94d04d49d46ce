//! Classes and scalings that the oracle has no model of, against logits that numpy computed (`tests/oracle/make_small.py`).

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf};

use bitnet_inference::{EngineError, GenerateOptions, InferenceEngine, KvType, LoadOptions, SamplingOptions};

fn made(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/numpy-made")).join(name)
}

/// The largest difference to the expected logits, of which there are those of some positions.
fn difference(model: &str) -> f32 {
    let path = made(model);
    let prompt: Vec<u32> =
        serde_json::from_slice(&fs::read(path.join("expected/prompt.json")).unwrap()).unwrap();
    let expected = support::npy(&fs::read(path.join("expected/logits.npy")).unwrap());
    let options = LoadOptions { threads: Some(1), kv: KvType::F32, ..LoadOptions::default() };
    let engine = InferenceEngine::load(&path, &options).unwrap();
    let mut rows = Vec::new();
    engine.session().unwrap().logits(&prompt, |row| rows.push(row.to_vec())).unwrap();
    let rows: Vec<f32> = [0, 1, 40, 95].into_iter().flat_map(|at: usize| rows[at].clone()).collect();
    assert_eq!(expected.shape, [4, engine.config().vocab]);
    rows.iter().zip(&expected.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Biases of queries, keys and values; YaRN, with texts longer than the first training's context. Nothing is rounded to int8.
#[test]
fn qwen2_of_floats_with_yarn() {
    let worst = difference("qwen2-dense-yarn");
    assert!(worst < 1e-4, "{worst}");
}

/// Two right engines agree to about 1e-5 until an activation lands on the other side of a rounding boundary.
#[test]
fn qwen2_of_trits() {
    let worst = difference("qwen2-ternary");
    assert!(worst < 0.05, "{worst}");
}

/// Finite weights whose products are not: generation ends with an error, whether it draws or takes the best.
#[test]
fn logits_without_a_finite_maximum_end_a_generation() {
    let directory = tempfile::tempdir().unwrap();
    let path = made("qwen2-dense-yarn");
    fs::copy(path.join("config.json"), directory.path().join("config.json")).unwrap();
    let mut bytes = fs::read(path.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offsets = &json["model.norm.weight"]["data_offsets"];
    let at = |i: usize| 8 + header + offsets[i].as_u64().unwrap() as usize;
    for value in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        value.copy_from_slice(&3e38f32.to_le_bytes());
    }
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let engine = InferenceEngine::load(directory.path(), &options).unwrap();
    for temperature in [0.0, 1.0] {
        for logprobs in [None, Some(1)] {
            let sampling = SamplingOptions { temperature, ..Default::default() };
            let options = GenerateOptions { sampling, logprobs, ..Default::default() };
            let mut session = engine.session().unwrap();
            let error = session.generate_ids(&[1, 2], &options).err().expect("no token can be chosen");
            assert!(matches!(error, EngineError::NotANumber), "{error}");
        }
    }
}
