//! tokenizer.json files against ids and texts that the Hugging Face library gave for them.
// A test that cannot read its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{EncodeOptions, StreamDecoder, Tokenizer};
use serde_json::Value;
use std::fs;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle/bitnet-a-offline-packed");

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("a list of ids")
}

fn cases() -> Value {
    serde_json::from_slice(&fs::read(format!("{DIR}/expected/tokenizer_cases.json")).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(fs::read(format!("{DIR}/tokenizer.json")).unwrap()).unwrap()
}

#[test]
fn encode_and_decode_give_the_reference_ids_and_texts() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.bos(), Some(2043));
    let cases = cases();
    let encode = cases["encode"].as_array().unwrap();
    assert!(encode.len() >= 6);
    for case in encode {
        let text = case["text"].as_str().unwrap();
        // The reference reads control tokens in the text, as Hugging Face does by default.
        for (add_special, key) in [(true, "ids"), (false, "ids_no_special")] {
            let got = tokenizer.encode(text, EncodeOptions { add_special, parse_special: true }).unwrap();
            assert_eq!(got, ids(&case[key]), "{text:?}");
        }
        assert_eq!(tokenizer.decode(&ids(&case["ids"]), false), case["decoded"].as_str().unwrap());
    }
}

#[test]
fn control_tokens_in_text_are_text_unless_asked_for() {
    let tokenizer = tokenizer();
    let eot = tokenizer.id_of("<|eot_id|>").unwrap();
    let plain = tokenizer.encode("a<|eot_id|>b", EncodeOptions::default()).unwrap();
    assert!(!plain.contains(&eot));
    assert_eq!(tokenizer.decode(&plain, true), "a<|eot_id|>b");
    let parsed =
        tokenizer.encode("a<|eot_id|>b", EncodeOptions { parse_special: true, add_special: false }).unwrap();
    assert_eq!(parsed.iter().filter(|&&id| id == eot).count(), 1);
    assert_eq!(tokenizer.decode(&parsed, true), "ab");
}

#[test]
fn a_character_over_several_tokens_comes_out_whole() {
    let tokenizer = tokenizer();
    let text = "naïve 中 😀";
    let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
    assert!(ids.len() > text.chars().count());
    let mut stream = StreamDecoder::new(&tokenizer);
    let mut out = String::new();
    for id in ids {
        let piece = stream.push(id);
        assert!(!piece.contains('\u{FFFD}'));
        out.push_str(piece);
    }
    assert_eq!(stream.finish(), "");
    assert_eq!(out, text);
}
