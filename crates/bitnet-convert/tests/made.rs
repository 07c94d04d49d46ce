//! Models with what the oracle's have not: biases, norms of inputs, rotary scaling, odd sizes, several scales.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bitnet_convert::{ConvertReport, Target};
use common::{
    logits_of,
    made::{IDS, Made},
    place, to,
};
use serde_json::json;

/// What a target is expected to do.
#[derive(Clone, Copy, PartialEq)]
enum Want {
    /// Equal logits and scales.
    Exact,
    /// f16 scales, announced.
    Rounded,
    /// Biases that differ in the last bit, announced.
    Biases,
    /// A refusal that contains these words.
    Refused(&'static str),
}
use Want::{Biases, Exact, Refused, Rounded};

/// Expectations in the order of `Target::ALL` without PrismML's types, of which those of two bits and of base 3 hold what Q2_0 holds,
/// and the one of signs holds no trained model; every success goes on to every other target with equal logits, unless
/// something is rounded on the way.
fn check(made: &Made, want: [Want; 7]) -> Vec<Option<ConvertReport>> {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("model");
    made.write(&input, false);
    let before = logits_of(&input, &IDS);
    let mut reports = Vec::new();
    let prism = match want[5] {
        // Which of two reasons the last one gives is not said here.
        Refused(words) => [Refused(words), Refused(words), Refused("")],
        held => [held, held, Refused("has no zeros")],
    };
    let want = want[..6].iter().copied().chain(prism).chain([want[6]]);
    for (target, want) in Target::ALL.into_iter().zip(want) {
        let output = place(directory.path(), "first", target);
        let result = to(&input, &output, target);
        if let Refused(words) = want {
            let text = result.expect_err(&format!("{target} refuses")).to_string();
            assert!(text.contains(words) && text.contains("--to "), "{target}: {text}");
            assert!(!output.exists());
            cures_work(&input, &text);
            reports.push(None);
            continue;
        }
        let report = result.unwrap_or_else(|e| panic!("{target}: {e}"));
        assert_eq!(report.trits_equal, report.trits);
        assert_eq!(report.scales_equal < report.scales, want == Rounded, "{target}: {report}");
        assert_eq!(report.vectors_equal < report.vectors, want == Biases, "{target}: {report}");
        assert_eq!(report.notes.iter().any(|n| n.contains("differ") || n.contains("rounded")), want != Exact);
        let after = logits_of(&output, &IDS);
        assert_eq!(after == before, want == Exact, "{target}: logits");
        for onward in Target::ALL {
            let next = place(directory.path(), &format!("via-{target}"), onward);
            let Ok(report) = to(&output, &next, onward) else { continue };
            let same = report.scales_equal == report.scales && report.vectors_equal == report.vectors;
            assert_eq!(logits_of(&next, &IDS) == after, same, "{target} to {onward}: {report}");
        }
        reports.push(Some(report));
    }
    reports
}

/// Every target that a refusal names takes the model.
fn cures_work(input: &std::path::Path, refusal: &str) {
    let directory = tempfile::tempdir().unwrap();
    let named: Vec<Target> =
        Target::ALL.into_iter().filter(|t| refusal.contains(&format!("`--to {t}`"))).collect();
    assert!(!named.is_empty(), "{refusal}");
    for target in named {
        let output = place(directory.path(), "cure", target);
        if let Err(error) = to(input, &output, target) {
            panic!("{refusal}, and then: {error}");
        }
    }
}

#[test]
fn refusals_of_a_float_model_name_what_takes_it() {
    let twin = common::oracle("../float-twin");
    let directory = tempfile::tempdir().unwrap();
    for target in Target::ALL {
        let output = place(directory.path(), "twin", target);
        match to(&twin, &output, target) {
            Ok(report) => {
                assert!(matches!(target, Target::Bitnet | Target::HfMaster), "{target}");
                assert_eq!((report.matrices, report.dense_equal), (0, report.dense));
                assert!(report.dense > 7, "embedding and projections: {report}");
            }
            Err(error) => {
                let text = error.to_string();
                let cure =
                    if target == Target::HfPacked { "`bitnet train`" } else { "`bitnet quantize --method" };
                assert!(text.contains("not ternary") && text.contains(cure), "{text}");
                cures_work(&twin, &text);
            }
        }
    }
}

#[test]
fn matrices_that_become_wider_are_told_of_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let input = common::oracle("../oracle-made/gguf/llama-l-ropefreqs-TQ1_0-TQ2_0.gguf");
    let report = to(&input, &place(directory.path(), "wide", Target::Bitnet), Target::Bitnet).unwrap();
    let wide: Vec<&String> = report.notes.iter().filter(|note| note.contains("F32")).collect();
    assert!(matches!(&wide[..], [one] if one.contains("2 matrices") && one.contains("Q8_0")), "{wide:?}");
}

#[test]
fn yarn_with_and_without_a_factor_of_its_own() {
    let yarn = json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 });
    let want = [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact];
    check(&Made { more: json!({ "rope_scaling": yarn }), ..Made::default() }, want);
    let all = json!({
        "rope_type": "yarn", "factor": 3.7, "original_max_position_embeddings": 16, "beta_fast": 8.5, "beta_slow": 2,
        "attention_factor": 1.3, "truncate": false,
    });
    check(&Made { more: json!({ "rope_parameters": all }), ..Made::default() }, want);
}

#[test]
fn qwen2_keeps_the_biases_of_queries_keys_and_values() {
    let want = [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact];
    let made = Made { class: "Qwen2ForCausalLM", biases: true, tied: false, ..Made::default() };
    check(&made, want);
    // Of floats: only forms that hold floats.
    let dense = Refused("not ternary");
    let floats = Made { quantization: Some(json!(null)), ..made };
    check(&floats, [dense, Exact, dense, dense, dense, dense, Exact]);
}

#[test]
fn biases_and_an_untied_head() {
    // Scales around 0.035 are reciprocals of f32 numbers, so that `bitlinear`, whose biases are not scaled, holds both;
    // around 0.05 many are not, and what `autobitlinear` multiplies to a bias is often not there either.
    let made = Made { biases: true, tied: false, ..Made::default() };
    check(&made, [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact]);
    let made = Made { spread: 0.1, ..made };
    check(&made, [Biases, Exact, Exact, Rounded, Rounded, Rounded, Exact]);
}

#[test]
fn norms_of_inputs() {
    let quantization = json!({
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
        "use_rms_norm": true, "rms_norm_eps": 3e-5,
    });
    let made = Made { input_norms: true, quantization: Some(quantization), ..Made::default() };
    check(&made, [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact]);
}

#[test]
fn rotary_scaling_and_all_stop_tokens_and_zeros() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    let made = Made { more: json!({ "rope_scaling": scaling }), zero: "mlp.up_proj", ..Made::default() };
    check(&made, [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact]);
    let linear = json!({ "rope_scaling": { "type": "linear", "factor": 2.5 } });
    check(&Made { more: linear, ..Made::default() }, [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact]);
}

#[test]
fn divisors_of_rotary_frequencies_that_no_parameters_give() {
    let directory = tempfile::tempdir().unwrap();
    let input = common::oracle("../oracle-made/gguf/llama-l-ropefreqs-TQ1_0-TQ2_0.gguf");
    let before = logits_of(&input, &IDS);
    let mut path = input;
    for (step, target) in
        [Target::HfMaster, Target::GgufTq2_0, Target::Bitnet, Target::HfPacked].into_iter().enumerate()
    {
        let output = place(directory.path(), &step.to_string(), target);
        to(&path, &output, target).unwrap();
        assert_eq!(logits_of(&output, &IDS), before, "{target}");
        path = output;
    }
}

#[test]
fn squared_relu_with_a_head_of_its_own_and_silu_with_exact_f16_scales() {
    let sub = Made { class: "BitNetForCausalLM", sub_norms: true, tied: false, ..Made::default() };
    let relu = Made { more: json!({ "hidden_act": "relu2" }), ..sub.clone() };
    let reports = check(&relu, [Exact, Exact, Exact, Rounded, Rounded, Rounded, Exact]);
    let notes = &reports[2].as_ref().unwrap().notes;
    assert!(notes.iter().any(|n| n.contains("head is a tensor of its own")), "{notes:?}");
    let silu = Made { more: json!({ "hidden_act": "silu" }), ..sub };
    check(&silu, [Exact; 7]);
}

#[test]
fn sizes_that_blocks_do_not_divide() {
    let block = Refused("no whole number");
    let made = Made { hidden: 96, ffn: 200, heads: 6, kv_heads: 3, head_dim: 20, ..Made::default() };
    check(&made, [Exact, Exact, block, block, block, block, Exact]);
    // Ten rows of queries: transformers would unpack twelve.
    let made = Made { hidden: 128, ffn: 384, heads: 1, kv_heads: 1, head_dim: 10, ..Made::default() };
    check(&made, [Refused("10 rows"), Exact, block, block, block, block, Exact]);
}

#[test]
fn projections_that_stay_dense() {
    let quantization = json!({
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
        "modules_to_not_convert": ["lm_head", "model.layers.1.mlp.down_proj"],
    });
    let made = Made { quantization: Some(quantization), ..Made::default() };
    let dense = Refused("'model.layers.1.mlp.down_proj' is dense");
    check(&made, [Exact, Exact, dense, dense, dense, dense, Exact]);
}

#[test]
fn a_head_that_is_quantized_like_projections() {
    let quantization = json!({
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
        "modules_to_not_convert": ["model.embed_tokens"],
    });
    let made = Made { quantization: Some(quantization), tied: false, ..Made::default() };
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("model");
    made.write(&input, false);
    let before = logits_of(&input, &IDS);
    for target in [Target::HfPacked, Target::HfMaster, Target::GgufI2S, Target::Bitnet] {
        let output = place(directory.path(), "first", target);
        let report = to(&input, &output, target).unwrap();
        assert_eq!((report.matrices, report.scales_equal), (15, 15), "{target}: the head is ternary");
        assert_eq!(logits_of(&output, &IDS), before, "{target}");
        for onward in [Target::HfPacked, Target::HfMaster, Target::Bitnet] {
            let next = place(directory.path(), &format!("via-{target}"), onward);
            to(&output, &next, onward).unwrap();
            assert_eq!(logits_of(&next, &IDS), before, "{target} to {onward}");
        }
    }
    // Where its scale does not fit, it becomes floats, and that is said.
    let output = place(directory.path(), "first", Target::GgufTq2_0);
    let report = to(&input, &output, Target::GgufTq2_0).unwrap();
    assert!(report.notes.iter().any(|n| n.contains("the head's trits")), "{:?}", report.notes);
}

#[test]
fn a_model_trained_in_shards_without_int8() {
    let made = Made { quantization: None, tied: false, ..Made::default() };
    let several = Refused("scale per row");
    let reports = check(&made, [several, Exact, several, Exact, Exact, Exact, Exact]);
    assert_eq!(reports[1].as_ref().unwrap().scales, 2 * (256 * 3 + 128 * 2 + 512 * 2));
}

#[test]
fn gates_that_no_architecture_has() {
    let made = Made { more: json!({ "hidden_act": "relu2" }), ..Made::default() };
    let gate = Refused("SiLU gates");
    check(&made, [Exact, Exact, gate, gate, gate, gate, Exact]);
}

#[test]
fn shards_are_one_model() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, sharded) = (directory.path().join("whole"), directory.path().join("sharded"));
    let made = Made::default();
    made.write(&whole, false);
    made.write(&sharded, true);
    let output = place(directory.path(), "out", Target::Bitnet);
    to(&sharded, &output, Target::Bitnet).unwrap();
    assert_eq!(logits_of(&output, &IDS), logits_of(&whole, &IDS));
}

#[test]
fn scales_that_online_quantization_cannot_give() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("model"), directory.path().join("out"));
    Made::default().write(&input, false);
    let packed = directory.path().join("packed");
    to(&input, &packed, Target::HfPacked).unwrap();
    // The stored scale of one matrix, far below the smallest mean.
    let file = packed.join("model.safetensors");
    let checkpoint = bitnet_format::Checkpoint::open(&packed, &Default::default()).unwrap();
    let at = checkpoint.info("model.layers.1.mlp.up_proj.weight_scale").unwrap().range();
    drop(checkpoint);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[at].copy_from_slice(&1e-7f32.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let before = logits_of(&packed, &IDS);
    let report = to(&packed, &output, Target::HfMaster).unwrap();
    assert!(
        report.notes.iter().any(|n| n.contains("up_proj") && n.contains("below 1e-5")),
        "{:?}",
        report.notes
    );
    assert_eq!(report.scales_equal, report.scales);
    assert_eq!(logits_of(&output, &IDS), before);
    // And what f16 cannot hold either is refused where scales are f16.
    let text = to(&packed, &place(directory.path(), "q", Target::GgufQ2_0), Target::GgufQ2_0).unwrap_err();
    assert!(text.to_string().contains("too small for f16"), "{text}");
}
