//! Figures of quality, against numbers that were computed with other software.
//!
//! Expected values: packed trits, scales, masters and the activations that `transformers` computed (`acts_0.npz`), read with the
//! `safetensors` library for Python and numpy; sums in f64.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::fs;

use bitnet_evaluation::{
    EvaluationError, Input, MatrixQuality, MismatchError, judge_activations, judge_matrices,
};
use bitnet_format::{Checkpoint, OpenOptions};
use bitnet_inference::{InferenceEngine, KvType, LoadOptions};
use bitnet_model::Projection;
use bitnet_quant::TritCounts;
use bitnet_source::Source;

mod support;
use support::{oracle, prompt};

const MODEL: &str = "bitnet-a-offline-packed";
const MASTERS: &str = "bitnet-a-online-bf16";
const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";

fn open(path: impl AsRef<std::path::Path>) -> Source {
    Source::new(Checkpoint::open(path, &OpenOptions::default()).unwrap()).unwrap()
}

fn near(got: f64, wanted: f64, bound: f64) {
    assert!((got - wanted).abs() <= bound * wanted.abs().max(1.0), "{got} is not {wanted}");
}

fn matrix(all: &[MatrixQuality], layer: usize, projection: Projection) -> &MatrixQuality {
    all.iter().find(|m| (m.layer, m.projection) == (layer, projection)).unwrap()
}

#[test]
fn matrices_are_as_near_to_their_masters_as_numpy_says() {
    let mut calls = 0;
    let all = judge_matrices(&open(oracle(MODEL)), Some(&open(oracle(MASTERS))), None, |_, of| {
        calls += 1;
        assert_eq!(of, 28);
    });
    let all = all.unwrap();
    assert_eq!((all.len(), calls), (28, 28));
    let q = matrix(&all, 0, Projection::Query);
    assert_eq!((q.counts, q.shape), (TritCounts { minus: 22575, zero: 20595, plus: 22366 }, [256, 256]));
    assert_eq!((q.scales.0, q.scales.2, q.dead_rows, q.dead_columns), (0.031_738_28, 0.031_738_28, 0, 0));
    let fit = q.fit.unwrap();
    near(fit.sqnr, 5.653_143_888_486_928_5, 1e-6);
    near(fit.cosine, 0.883_138_181_010_099, 1e-9);
    let fit = matrix(&all, 2, Projection::Down).fit.unwrap();
    near(fit.sqnr, 5.667_422_745_775_864, 1e-6);
    near(fit.cosine, 0.883_050_546_150_623_3, 1e-9);
}

#[test]
fn rows_that_a_converter_has_moved_are_compared_in_their_places() {
    // GGUF files of architecture llama keep queries and keys in another order than the directory they were made from.
    let (moved, plain) = (open(oracle("gguf/llama-b-I2_S.gguf")), open(oracle("llama-b-bitlinear-packed")));
    for (one, other) in [(&moved, &plain), (&plain, &moved)] {
        for m in judge_matrices(one, None, Some(other), |_, _| {}).unwrap() {
            let change = m.change.unwrap();
            assert_eq!(change.flipped, 0, "{}", m.name);
            near(change.scale_drift, 0.0, 1e-6);
        }
    }
}

/// A copy of the model with zeros in row 5 of the packed queries (rows 5, 69, 133 and 197) and in column 7, and twice their
/// scale. Also returns how many trits of the original are not zero there.
fn damaged(folder: &std::path::Path) -> u64 {
    for file in ["config.json", "model.safetensors"] {
        fs::copy(oracle(MODEL).join(file), folder.join(file)).unwrap();
    }
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = |name: &str| 8 + header + json[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let (trits, scale) = (at(QUERY), at(&format!("{QUERY}_scale")));
    let cells = (0..256).map(|c| 5 * 256 + c).chain((0..64).filter(|r| *r != 5).map(|r| r * 256 + 7));
    let mut lost = 0;
    for cell in cells {
        let byte = &mut bytes[trits + cell];
        lost += (0..4).filter(|p| *byte >> (2 * p) & 3 != 1).count() as u64;
        *byte = 0x55;
    }
    assert_eq!(json[format!("{QUERY}_scale")]["dtype"], "BF16");
    // One more in the exponent.
    bytes[scale] ^= 0x80;
    bytes[scale + 1] += u8::from(bytes[scale] & 0x80 == 0);
    fs::write(&path, bytes).unwrap();
    lost
}

#[test]
fn flips_drift_and_dead_lines_are_counted() {
    let folder = std::env::temp_dir().join(format!("bitnet-quality-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let lost = damaged(&folder);
    let (before, after) = (open(oracle(MODEL)), open(&folder));
    let all = judge_matrices(&after, None, Some(&before), |_, _| {}).unwrap();
    let q = matrix(&all, 0, Projection::Query);
    assert_eq!((q.dead_rows, q.dead_columns), (4, 1));
    let change = q.change.unwrap();
    assert_eq!((change.flipped, change.to_zero, change.from_zero, change.sign), (lost, lost, 0, 0));
    assert_eq!(change.scale_drift, 1.0);
    assert!(all[1..].iter().all(|m| m.change.unwrap().flipped == 0 && m.dead_rows + m.dead_columns == 0));
    let back = judge_matrices(&before, None, Some(&after), |_, _| {}).unwrap()[0].change.unwrap();
    assert_eq!((back.flipped, back.to_zero, back.from_zero, back.scale_drift), (lost, 0, lost, -0.5));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_cannot_be_compared_is_named() {
    let model = open(oracle(MODEL));
    let with = |masters: Option<&str>, other: Option<&str>| {
        let [masters, other] = [masters, other].map(|name| name.map(|name| open(oracle(name))));
        judge_matrices(&model, masters.as_ref(), other.as_ref(), |_, _| {}).unwrap_err()
    };
    assert!(matches!(with(Some(MODEL), None), EvaluationError::NoMasters { .. }));
    let other = with(None, Some("bitnet-c-silu-online-bf16"));
    assert!(matches!(other, EvaluationError::Mismatch(MismatchError::Matrix { .. })), "{other}");
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made/dense-llama-f16");
    let dense = judge_matrices(&open(made), None, None, |_, _| {}).unwrap_err();
    assert!(matches!(dense, EvaluationError::NotTernary { .. }), "{dense}");
}

#[test]
fn activations_are_what_numpy_makes_of_those_of_transformers() {
    let options = LoadOptions { context: Some(64), kv: KvType::F32, ..Default::default() };
    let engine = InferenceEngine::load(oracle(MODEL), &options).unwrap();
    let prompt = prompt(MODEL);
    let mut session = engine.session().unwrap();
    // Batches are of no account.
    session.set_prefill(4);
    let all = judge_activations(&mut session, &prompt[1..], Some(prompt[0]), |_, _| {}).unwrap();
    assert_eq!(all.len(), 16);
    let at = |layer, input| all.iter().find(|a| (a.layer, a.input) == (layer, input)).unwrap();
    let codes = |share: f64, width: f64| (share * 9.0 * width).round();
    let first = at(0, Input::Qkv);
    assert_eq!((first.rows, first.outliers, first.dead_channels), (9, 0, 0));
    // One code in each row of 256, and 28 zeros.
    assert_eq!((codes(first.saturated, 256.0), codes(first.zeros, 256.0)), (9.0, 28.0));
    near(first.sqnr, 43.192_756_333_588_605, 1e-5);
    near(first.crest, 3.018_414_528_222_957, 1e-5);
    near(first.crest_max, 3.980_281_966_067_437_3, 1e-5);
    assert_eq!(first.channels[0].index, 6);
    near(first.channels[0].ratio, 1.692_938_307_498_979_4, 1e-5);
    // Squared ReLU leaves few channels, and large ones. Rounding differs in a code or two from layer to layer.
    let down = at(2, Input::Down);
    assert_eq!((down.outliers, down.channels[0].index, down.dead_channels), (64, 393, 9));
    near(down.zeros, 0.739_366_319_444_444_4, 1e-2);
    near(down.crest, 14.093_453_199_096_65, 1e-2);
    near(down.channels[0].ratio, 34.400_411_819_660_61, 1e-2);
    near(at(1, Input::Output).crest_max, 2.627_907_944_815_022, 1e-2);
    near(at(3, Input::GateUp).sqnr, 43.535_781_796_037_57, 1e-2);
}
