//! Every model of the oracle to every target, and on to every other.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use bitnet_convert::Target;
use common::{MODELS, logits, oracle, place, to};

/// Models without int8 activations have group scales, which only these hold.
fn holds(model: &str, target: Target) -> bool {
    match target {
        // Trained weights have zeros.
        Target::GgufQ1_0 => false,
        Target::Bitnet | Target::HfMaster | Target::GgufQ2_0 => true,
        Target::GgufPq2_0 | Target::GgufPtq1_0 => !model.contains("qwen3-a"),
        _ => !model.contains("qwen3"),
    }
}

/// Whether the scales are f16 numbers, or the target keeps others exact (by a factor, in architecture `bitnet`).
fn exact(model: &str, target: Target) -> bool {
    let f16 = target.name().starts_with("gguf") && target != Target::GgufI2S;
    // These were bf16 numbers once, of a size that f16 holds.
    let from_bf16 = model.contains("a-offline") || model.contains("a-I2_S") || model.contains("a-TQ1_0");
    !f16 || model.contains("bitnet-c") || model.contains("qwen3") || from_bf16
}

fn check(model: &str) {
    let directory = tempfile::tempdir().unwrap();
    let input = oracle(model);
    let before = logits(&input);
    for target in Target::ALL {
        let output = place(directory.path(), "first", target);
        let what = format!("{model} to {target}");
        let report = match to(&input, &output, target) {
            Ok(report) => report,
            Err(error) => {
                assert!(!holds(model, target), "{what}: {error}");
                let text = error.to_string();
                assert!(
                    text.contains("--to bitnet") || text.contains("--to hf-master"),
                    "{what}: no cure in: {text}"
                );
                assert!(!output.exists());
                continue;
            }
        };
        assert!(holds(model, target), "{what} is held");
        assert!(report.trits > 0 && report.trits_equal == report.trits, "{what}: {report}");
        assert_eq!(report.vectors_equal, report.vectors, "{what}");
        let same = report.scales_equal == report.scales;
        assert_eq!(same, exact(model, target), "{what}: {report}");
        assert_eq!(same, report.max_scale_loss == 0.0);
        assert!(same || report.notes.iter().any(|n| n.contains("rounded")), "{what}: {:?}", report.notes);
        let after = logits(&output);
        assert_eq!(before == after, same, "{what}: logits");
        if target == Target::HfPacked {
            one_float_type(&output);
        }
        onward(&output, &after, directory.path(), &what);
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

/// transformers multiplies tensors of packed models as they stand: all floats have the type that the config names.
fn one_float_type(directory: &Path) {
    let checkpoint = bitnet_format::Checkpoint::open(directory, &Default::default()).unwrap();
    let mut types: Vec<String> =
        checkpoint.tensors().filter(|t| t.ty().is_float()).map(|t| t.ty().to_string()).collect();
    types.sort();
    types.dedup();
    let config = std::fs::read_to_string(directory.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let named = match config["torch_dtype"].as_str().unwrap() {
        "bfloat16" => "BF16",
        "float16" => "F16",
        _ => "F32",
    };
    assert_eq!(types, [named]);
}

/// From a converted model to every other form, whose logits are the same wherever its scales are.
fn onward(input: &Path, before: &[u32], directory: &Path, what: &str) {
    for target in Target::ALL {
        let output = place(directory, "second", target);
        let Ok(report) = to(input, &output, target) else { continue };
        let what = format!("{what} to {target}");
        assert_eq!((report.trits_equal, report.vectors_equal), (report.trits, report.vectors), "{what}");
        let same = report.scales_equal == report.scales;
        assert_eq!(logits(&output) == before, same, "{what}: {report}");
        if output.is_dir() {
            std::fs::remove_dir_all(&output).unwrap();
        } else {
            std::fs::remove_file(&output).unwrap();
        }
    }
}

macro_rules! models {
    ($($name:ident = $index:literal,)*) => {
        $(#[test] fn $name() { check(MODELS[$index]); })*

        #[test]
        fn every_model_has_a_test() {
            assert_eq!([$($index),*].len(), MODELS.len());
        }
    };
}

models! {
    a_offline = 0,
    a_bitlinear = 1,
    a_online = 2,
    c_online = 3,
    llama_b = 4,
    qwen3_a = 5,
    qwen3_b = 6,
    gguf_a_i2_s = 7,
    gguf_a_i2_s_q6_k = 8,
    gguf_a_tq1_0 = 9,
    gguf_c_scale_tensors = 10,
    gguf_c_tq2_0_q8_0 = 11,
    gguf_llama_b = 12,
    gguf_qwen3_a = 13,
    gguf_qwen3_b = 14,
}
