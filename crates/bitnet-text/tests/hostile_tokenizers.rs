//! Files that lie: each ends with its own sentence, none with a panic.

// A test that cannot read its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/peak.rs"]
mod peak;

use bitnet_text::{EncodeOptions, GgufVocabulary, Tokenizer, token_type};
use peak::peak;
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 4, "content": "<s>", "special": true, "normalized": false}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]]},
    })
}

fn error(change: impl FnOnce(&mut Value)) -> String {
    let mut file = good();
    change(&mut file);
    match Tokenizer::from_json(file.to_string()) {
        Ok(_) => panic!("was read: {file}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_good_file_is_good() {
    let tokenizer = Tokenizer::from_json(good().to_string()).unwrap();
    let ids = tokenizer.encode("ab <s>", EncodeOptions { add_special: true, parse_special: true }).unwrap();
    assert_eq!(ids, [4, 2, 3, 4]);
    assert_eq!(tokenizer.decode(&ids, false), "<s>ab <s>");
}

#[test]
fn each_lie_has_its_own_sentence() {
    let cases: Vec<(String, &str)> = vec![
        (
            error(|f| f["version"] = json!("2.0")),
            "tokenizer.json version `2.0` is not supported (supported: 1.0)",
        ),
        (
            error(|f| f["model"] = json!({"type": "Unigram", "vocab": [["a", 0.0]]})),
            "model.type `Unigram` is not supported (supported: BPE)",
        ),
        (
            error(|f| f["model"] = json!({"type": "WordPiece", "vocab": {}})),
            "model.type `WordPiece` is not supported",
        ),
        (error(|f| drop(f.as_object_mut().unwrap().remove("model"))), "missing field `model`"),
        (error(|f| f["model"]["vocab"]["a"] = json!(-1)), "invalid value: integer `-1`"),
        (
            error(|f| f["model"]["vocab"]["a"] = json!(4_000_000_000u32)),
            "the largest id is 4000000001 for 5 tokens",
        ),
        (error(|f| f["model"]["vocab"]["a"] = json!(1)), "has the id 1 of another token"),
        (error(|f| f["model"]["merges"] = json!([["a", "x"]])), "model.merges: Token `x` out of vocabulary"),
        (
            error(|f| f["model"]["merges"] = json!([["ab", "ab"]])),
            "model.merges: \"ab\" + \"ab\" is longer than every token",
        ),
        (error(|f| f["model"]["merges"] = json!(["a b c"])), "is not two tokens with a space between"),
        (error(|f| f["model"]["merges"] = json!([["a"]])), "a merge of fewer than two tokens"),
        (error(|f| f["model"]["merges"] = json!([["a", "b", "c"]])), "a merge of more than two tokens"),
        (error(|f| f["model"]["merges"] = json!([7])), "a merge: \"left right\""),
        (
            error(|f| f["model"]["unk_token"] = json!("<unk>")),
            "model.unk_token: \"<unk>\" is not in the vocabulary",
        ),
        (error(|f| f["model"]["continuing_subword_prefix"] = json!("##")), "continuing_subword_prefix"),
        (
            error(|f| f["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
            "normalizer `Precompiled` is not supported",
        ),
        (
            error(|f| f["normalizer"] = json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})),
            "normalizer: ",
        ),
        (
            error(
                |f| f["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(?<x"}, "behavior": "Isolated", "invert": false}),
            ),
            "pre_tokenizer: ",
        ),
        (
            error(|f| f["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})),
            "pre_tokenizer: FixedLength of 0",
        ),
        (
            error(|f| {
                f["pre_tokenizer"] =
                    json!({"type": "Sequence", "pretokenizers": vec![json!({"type": "Whitespace"}); 99]})
            }),
            "more than 64 steps",
        ),
        (
            error(|f| f["post_processor"]["special_tokens"] = json!({})),
            "post_processor: a special token without ids",
        ),
        (
            error(|f| f["post_processor"]["special_tokens"]["<s>"]["ids"] = json!([99])),
            "post_processor: names an id that is not in the vocabulary",
        ),
        (
            error(|f| f["post_processor"] = json!({"type": "Magic"})),
            "post_processor `Magic` is not supported",
        ),
        (
            error(|f| f["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
            "decoder `WordPiece` is not supported",
        ),
        (
            error(|f| f["decoder"] = json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"})),
            "decoder: Replace with an empty pattern",
        ),
        (
            error(|f| f["decoder"] = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0})),
            "Strip of single tokens",
        ),
    ];
    for (got, expected) in cases {
        assert!(got.contains(expected), "{got:?} does not say {expected:?}");
    }
    for bytes in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", &[b'['; 100_000]] {
        assert!(
            Tokenizer::from_json(bytes).unwrap_err().to_string().contains("tokenizer.json cannot be read")
        );
    }
}

#[test]
fn every_truncation_of_a_good_file_is_refused() {
    let text = good().to_string();
    for end in 0..text.len() {
        assert!(Tokenizer::from_json(&text.as_bytes()[..end]).is_err());
    }
}

#[test]
fn an_expression_that_backtracks_without_end_does_not_hang() {
    let mut file = good();
    file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(?=(a+)+$)(a|aa)+$"}, "behavior": "Isolated", "invert": false});
    let tokenizer = Tokenizer::from_json(file.to_string()).unwrap();
    // The library gives up after a number of steps; the text stays one piece, and all of it is read.
    let text = "a".repeat(5000) + "b";
    let ids = tokenizer.encode(&text, EncodeOptions::default()).unwrap();
    assert_eq!(tokenizer.decode(&ids, false), text);
}

/// The file with another normalizer.
fn normalizing(normalizer: &Value) -> Result<Tokenizer, String> {
    let mut file = good();
    file["normalizer"] = normalizer.clone();
    Tokenizer::from_json(file.to_string()).map_err(|e| e.to_string())
}

fn replace(pattern: &Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

#[test]
fn replacing_what_is_not_there_is_refused() {
    let error = normalizing(&replace(&json!({"String": ""}), "zz")).unwrap_err();
    assert!(error.contains("normalizer: Replace with an empty pattern"), "{error}");
    for pattern in ["x*", "$", "^", "(?=a)", "\\b", "a?", ""] {
        let tokenizer = normalizing(&replace(&json!({"Regex": pattern}), "z")).unwrap();
        for text in ["ab a", "b", "xxxa", " "] {
            match tokenizer.encode(text, EncodeOptions::default()) {
                Ok(_) => {}
                Err(error) => assert!(
                    error.to_string().contains("matches where there is nothing"),
                    "{pattern}: {error}"
                ),
            }
        }
        assert!(tokenizer.encode("ab a", EncodeOptions::default()).is_err(), "{pattern}");
    }
    // Matches of something do what they did.
    let tokenizer = normalizing(&replace(&json!({"Regex": "x+"}), "a")).unwrap();
    assert_eq!(tokenizer.encode("xxxb", EncodeOptions::default()).unwrap(), [2]);
}

#[test]
fn normalizers_that_grow_end_with_a_sentence() {
    let twice = replace(&json!({"String": "a"}), "aa");
    let chain = |step: &Value, n: usize| json!({"type": "Sequence", "normalizers": vec![step.clone(); n]});
    let nested = json!({"type": "Sequence", "normalizers": [chain(&twice, 20), chain(&twice, 20)]});
    let wide = replace(&json!({"String": "a"}), &"\u{fdfa}".repeat(5));
    let steps = [
        chain(&twice, 40),
        nested,
        replace(&json!({"String": "a"}), &"a".repeat(100_000)),
        replace(&json!({"Regex": "."}), &"b".repeat(1000)),
        chain(&json!({"type": "Prepend", "prepend": "a".repeat(90_000)}), 60),
        json!({"type": "Sequence", "normalizers": [wide, {"type": "NFKD"}]}),
    ];
    let text = "a".repeat(10_000);
    for step in steps {
        let (most, error) = peak(|| match normalizing(&step) {
            // Added tokens are normalized as well.
            Err(error) => error,
            Ok(tokenizer) => tokenizer.encode(&text, EncodeOptions::default()).unwrap_err().to_string(),
        });
        assert!(error.contains("the normalizer would make more than"), "{error}");
        // Hundreds of bytes for each that may be made of the text, tables of places included.
        assert!(most < 64 << 20, "{most} bytes");
    }
    // Growth that real files have is taken.
    for step in [
        chain(&twice, 3),
        json!({"type": "NFKC"}),
        json!({"type": "Prepend", "prepend": "a"}),
        json!({"type": "ByteLevel"}),
    ] {
        let tokenizer = normalizing(&step).unwrap();
        for text in [text.as_str(), "\u{fdfa}\u{fdfa}", "日本語のテキスト", "a"] {
            tokenizer.encode(text, EncodeOptions::default()).unwrap();
        }
    }
}

#[test]
fn post_processors_that_multiply_are_refused_at_once() {
    let mut file = good();
    let special = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    file["post_processor"]["single"] = json!(vec![special; 20_000]);
    file["post_processor"]["special_tokens"]["<s>"]["ids"] = json!(vec![4; 20_000]);
    let processor = file["post_processor"].clone();
    let file_in_file = |p: &Value| json!({"type": "Sequence", "processors": vec![p.clone(); 3]});
    for processor in [processor.clone(), file_in_file(&processor)] {
        file["post_processor"] = processor;
        let text = file.to_string();
        let (most, error) = peak(|| Tokenizer::from_json(&text).unwrap_err().to_string());
        assert!(error.contains("more than 64 tokens around a text"), "{error}");
        // The sections as JSON, not the 1.6 GB that would be made of them.
        assert!(most < 256 << 20, "{most} bytes");
    }
}

#[test]
fn tokens_with_the_same_text_keep_their_ids() {
    let tokens = ["<unk>", "<s>", "</s>", "a", "a", "b"];
    let vocabulary = GgufVocabulary {
        model: "llama".into(),
        tokens: tokens.iter().map(|t| t.as_bytes().to_vec()).collect(),
        token_types: [token_type::UNKNOWN, token_type::CONTROL, token_type::CONTROL, 1, 1, 1].to_vec(),
        scores: vec![0.0; 6],
        add_space_prefix: Some(false),
        ..GgufVocabulary::default()
    };
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    assert_eq!(tokenizer.vocab_size(), 6);
    assert_eq!(tokenizer.encode("ab", EncodeOptions::default()).unwrap(), [3, 5]);
    assert_eq!(tokenizer.decode(&[4, 5], true), "ab");
    // tokenizer.json finds ids by text, so it cannot hold both.
    assert!(tokenizer.to_json().unwrap_err().to_string().contains("1 tokens repeat the text of another one"));
}
