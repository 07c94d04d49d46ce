//! The contract of weights that are folded with a Hadamard transform: whole and known in every word, or refused by its key.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, Metadata, TensorSpec, TensorType};
use bitnet_source::{SourceError, family::hadamard::Contract};
use serde_json::{Map, Value, json};

const TRANSFORM: &str = "normalized-sylvester-walsh-hadamard";

/// The contract that all cases change: blocks of 4, widths of 8 and 4.
fn contract() -> Map<String, Value> {
    let keys = json!({
        "version": 1, "block_size": 4, "transform": TRANSFORM, "axis": "input-last-dimension", "sign_mode": "explicit",
        "sign_widths": [8, 4], "sign_values": [1, -1, 1, 1, -1, -1, 1, 1, -1, 1, 1, -1],
        "weight_names": ["blk.0.attn_qkv.weight", "blk.1.ffn_down.weight", "output.weight"],
        "inverse_weight_names": ["token_embd.weight"], "gdn_v_grouped": true,
    });
    let Value::Object(keys) = keys else { unreachable!() };
    keys.into_iter().map(|(key, value)| (format!("prism.hadamard.{key}"), value)).collect()
}

/// Inputs of the tensors of both spellings.
fn inputs(name: &str) -> Option<usize> {
    Some(match name {
        "blk.1.ffn_down.weight" | "language_model.model.layers.1.mlp.down_proj.weight" => 4,
        "blk.0.attn_qkv.weight" | "blk.0.ssm_alpha.weight" | "output.weight" | "token_embd.weight" => 8,
        "language_model.model.layers.0.linear_attn.in_proj_qkv.weight" => 8,
        "language_model.model.embed_tokens.weight" | "language_model.lm_head.weight" => 8,
        "blk.0.attn_gate.weight" => 12,
        "blk.0.ffn_up.weight" => 6,
        _ => return None,
    })
}

/// Writes a GGUF with these keys and reads it; numbers are written as llama.cpp's package does.
fn through_gguf(name: &str, keys: &Map<String, Value>) -> Result<Option<Contract>, SourceError> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hadamard-{name}.gguf"));
    let _ = std::fs::remove_file(&path);
    let mut out = GgufKeys::new();
    for (key, value) in keys {
        match value {
            Value::Bool(flag) => out.bool(key, *flag),
            Value::String(text) => out.str(key, text),
            Value::Number(n) => match n.as_u64() {
                Some(n) => out.u32(key, n as u32),
                None => out.f32(key, n.as_f64().unwrap() as f32),
            },
            Value::Array(items) if items.iter().all(Value::is_string) && key.ends_with("names") => {
                out.strings(key, items.iter().map(|item| item.as_str().unwrap()))
            }
            Value::Array(items) if items.iter().all(|item| item.as_i64().is_some()) => {
                let items: Vec<i32> = items.iter().map(|item| item.as_i64().unwrap() as i32).collect();
                out.i32s(key, &items)
            }
            Value::Array(items) => {
                let items: Vec<f32> = items.iter().map(|item| item.as_f64().unwrap_or(0.0) as f32).collect();
                out.f32s(key, &items)
            }
            _ => unreachable!(),
        };
    }
    let spec = TensorSpec::new("t", TensorType::F32, vec![1]);
    let mut writer = GgufWriter::create(&path, &out, &[spec]).unwrap();
    writer.write("t", &[0; 4]).unwrap();
    writer.finish().unwrap();
    let file = Checkpoint::open(&path, &Default::default()).unwrap();
    let Metadata::Gguf(metadata) = file.metadata() else { unreachable!() };
    Contract::of_gguf(metadata, inputs)
}

#[test]
fn a_whole_contract_says_what_is_folded_and_how() {
    let read = through_gguf("whole", &contract()).unwrap().unwrap();
    assert_eq!((read.fold().block, read.gdn_v_grouped()), (4, true));
    let signs: [(usize, &[f32]); 2] =
        [(8, &[1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0]), (4, &[-1.0, 1.0, 1.0, -1.0])];
    assert!(read.fold().signs.iter().map(|(width, s)| (*width, &s[..])).eq(signs));
    assert!(read.folds("output.weight") && read.folds("blk.1.ffn_down.weight"));
    assert!(
        !read.folds("token_embd.weight")
            && read.inverts("token_embd.weight")
            && !read.inverts("output.weight")
    );
    assert_eq!(read.weights().count(), 3);
}

#[test]
fn a_file_without_its_keys_has_no_contract() {
    let other = Map::from_iter([("prism.other".to_owned(), json!(1))]);
    assert_eq!(through_gguf("none", &other).unwrap(), None);
}

#[test]
fn inputs_may_keep_their_signs() {
    let mut keys = contract();
    keys.insert("prism.hadamard.sign_mode".into(), json!("identity"));
    for (key, empty) in [("sign_widths", json!([])), ("sign_values", json!([]))] {
        keys.insert(format!("prism.hadamard.{key}"), empty);
    }
    assert!(through_gguf("identity", &keys).unwrap().unwrap().fold().signs.is_empty());
    keys.remove("prism.hadamard.sign_widths");
    keys.remove("prism.hadamard.sign_values");
    assert!(through_gguf("unsigned", &keys).unwrap().unwrap().fold().signs.is_empty());
}

#[test]
fn hadamard_json_is_the_same_contract_under_the_names_of_hugging_face() {
    let mut keys = contract();
    let mut name = |key: &str, names: Value| keys.insert(format!("prism.hadamard.{key}"), names);
    name(
        "weight_names",
        json!([
            "language_model.model.layers.0.linear_attn.in_proj_qkv.weight",
            "language_model.model.layers.1.mlp.down_proj.weight",
            "language_model.lm_head.weight"
        ]),
    );
    name("inverse_weight_names", json!(["language_model.model.embed_tokens.weight"]));
    name("sign_values", json!([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0]));
    let read = Contract::of_json(&Value::Object(keys.clone()), inputs).unwrap();
    assert_eq!(read.fold(), through_gguf("beside", &contract()).unwrap().unwrap().fold());
    assert!(read.folds("language_model.lm_head.weight"));
    assert!(read.inverts("language_model.model.embed_tokens.weight"));
    // GGUF's names are none of this form's, and other keys none of this file's.
    let said = |keys: &Map<String, Value>| {
        Contract::of_json(&Value::Object(keys.clone()), inputs).unwrap_err().to_string()
    };
    let text = said(&contract());
    assert!(text.contains("weight_names") && text.contains("blk.0.attn_qkv.weight"), "{text}");
    keys.insert("rotation".into(), json!("none"));
    assert!(said(&keys).starts_with("rotation of the model: expected no key"), "{}", said(&keys));
    assert!(said(&Map::new()).contains("prism.hadamard.version"));
    assert!(Contract::of_json(&json!([1]), inputs).is_err());
}

#[test]
fn no_key_can_be_missing() {
    for key in contract().keys() {
        let mut keys = contract();
        keys.remove(key);
        let error = through_gguf("missing", &keys).unwrap_err().to_string();
        assert!(error.starts_with(key.as_str()) && error.contains("the key is missing"), "{key}: {error}");
    }
}

#[test]
fn every_word_that_version_1_does_not_say_is_refused_by_its_key() {
    let long = "x".repeat(500);
    let cases: Vec<(&str, Value, &str)> = vec![
        ("version", json!(2), "expected 1, got 2"),
        ("version", json!("1"), "got \"1\""),
        ("version", json!(1.5), "got 1.5"),
        ("block_size", json!(0), "a power of two"),
        ("block_size", json!(6), "got 6"),
        ("block_size", json!(1 << 17), "up to 65536"),
        ("block_size", json!(-4), "got -4"),
        ("transform", json!("sylvester-walsh-hadamard"), TRANSFORM),
        ("transform", json!("Normalized-Sylvester-Walsh-Hadamard"), TRANSFORM),
        ("transform", json!(long), "..."),
        ("axis", json!("output-last-dimension"), "expected input-last-dimension"),
        ("axis", json!(true), "got true"),
        ("sign_mode", json!("random"), "expected identity or explicit, got \"random\""),
        ("sign_mode", json!("identity "), "expected identity or explicit"),
        ("sign_widths", json!([]), "got none"),
        ("sign_widths", json!([8, 6]), "multiples of the block, 4, got 6"),
        ("sign_widths", json!([8, 0, 4]), "got 0"),
        ("sign_widths", json!([4, 4, 4]), "expected each width once, got 4 twice"),
        ("sign_widths", json!([12]), "a width in prism.hadamard.sign_widths, not 8"),
        ("sign_widths", json!([-8, 4]), "a list of widths"),
        ("sign_widths", json!("8, 4"), "a list of widths"),
        (
            "sign_values",
            json!([1, -1, 1, 1, -1, -1, 1, 1, -1, 1, 1]),
            "as many as sign_widths add up to, got 11",
        ),
        ("sign_values", json!([1, -1, 1, 1, -1, -1, 1, 1, -1, 1, 1, 1, 1]), "got 13"),
        ("sign_values", json!([1, -1, 1, 1, -1, 0, 1, 1, -1, 1, 1, -1]), "+1 or -1"),
        ("sign_values", json!([1, -1, 1, 1, -1, 2, 1, 1, -1, 1, 1, -1]), "+1 or -1"),
        ("sign_values", json!([1.0, 0.999, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), "+1 or -1"),
        ("sign_values", json!(1), "+1 or -1"),
        ("weight_names", json!([]), "got none"),
        ("weight_names", json!([1, 2]), "a list of names"),
        ("weight_names", json!("output.weight"), "a list of names"),
        (
            "weight_names",
            json!(["output.weight", "output.weight"]),
            "each name once, got output.weight twice",
        ),
        ("weight_names", json!(["blk.9.attn_qkv.weight"]), "names of tensors that the model has"),
        ("weight_names", json!(["blk.0.ssm_alpha.weight"]), "projections and the head alone"),
        ("weight_names", json!(["blk.0.attn_norm.weight"]), "projections and the head alone"),
        ("weight_names", json!(["token_embd.weight"]), "projections and the head alone"),
        ("weight_names", json!(["output.bias"]), "projections and the head alone"),
        ("weight_names", json!(["blk.0.ffn_up.weight"]), "inputs are blocks of 4, got blk.0.ffn_up.weight"),
        ("weight_names", json!(["blk.0.attn_gate.weight"]), "not 12, got blk.0.attn_gate.weight"),
        ("inverse_weight_names", json!(["output.weight"]), "the embedding alone"),
        ("inverse_weight_names", json!(["token_embd.weight", "token_embd.weight"]), "each name once"),
        ("gdn_v_grouped", json!(1), "true or false"),
        ("tied_output", json!(false), "no key of the Hadamard transform"),
        ("block_sizes", json!(4), "no key of the Hadamard transform"),
    ];
    for (key, value, told) in cases {
        let mut keys = contract();
        keys.insert(format!("prism.hadamard.{key}"), value.clone());
        let Err(error) = through_gguf("wrong", &keys) else { panic!("{key} = {value} is taken") };
        let text = error.to_string();
        // A width without signs is told where it is needed.
        let names_it = text.starts_with(&format!("prism.hadamard.{key} ")) || told.contains(key);
        assert!(names_it && text.contains(told) && text.len() < 300, "{key} = {value}: {text}");
    }
}

#[test]
fn signs_beside_the_mode_without_them_are_refused() {
    for key in ["sign_widths", "sign_values"] {
        let mut keys = contract();
        keys.insert("prism.hadamard.sign_mode".into(), json!("identity"));
        let other = if key == "sign_widths" { "sign_values" } else { "sign_widths" };
        keys.remove(&format!("prism.hadamard.{other}"));
        let text = through_gguf("both", &keys).unwrap_err().to_string();
        assert!(text.starts_with(&format!("prism.hadamard.{key} ")) && text.contains("identity"), "{text}");
    }
}
