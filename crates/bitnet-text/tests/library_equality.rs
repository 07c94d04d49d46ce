//! Our way through the library's parts against the library's own `encode`, over tokenizers of many kinds.

// A test that cannot build its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{EncodeOptions, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// A vocabulary of single characters, bytes and a few merges, with added tokens of every kind.
fn file(change: impl Fn(&mut Value)) -> Value {
    let mut vocab = serde_json::Map::new();
    let mut add = |token: String| {
        let id = vocab.len();
        vocab.entry(token).or_insert(json!(id));
    };
    for token in ["<unk>", "<s>", "</s>"] {
        add(token.into());
    }
    for byte in 0..=255u8 {
        add(format!("<0x{byte:02X}>"));
    }
    for c in ('!'..='~').chain(['▁', 'Ġ', 'Ċ', 'é', 'Ã', '©', '中']) {
        add(c.to_string());
    }
    let merges = [
        ["a", "b"],
        ["ab", "a"],
        ["b", "a"],
        ["▁", "a"],
        ["▁a", "ba"],
        ["Ġ", "a"],
        ["▁", "▁"],
        ["Ã", "©"],
        ["1", "2"],
    ];
    for [left, right] in merges {
        add(format!("{left}{right}"));
    }
    let token = |content: &str,
                 special: bool,
                 normalized: bool,
                 lstrip: bool,
                 rstrip: bool,
                 single_word: bool| {
        json!({"id": 0, "content": content, "special": special, "normalized": normalized, "lstrip": lstrip,
               "rstrip": rstrip, "single_word": single_word})
    };
    let mut file = json!({
        "version": "1.0",
        "added_tokens": [
            token("<unk>", true, false, false, false, false),
            token("<s>", true, false, false, false, false),
            token("</s>", true, true, false, false, false),
            token("<l>", true, false, true, false, false),
            token("<r>", false, false, false, true, false),
            token("aba", false, true, false, false, true),
            token("<s><l", false, false, false, false, false),
        ],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "ByteFallback"},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges},
    });
    change(&mut file);
    file
}

fn files() -> Vec<Value> {
    let metaspace = |scheme: &str| {
        let step = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": scheme != "first"});
        file(move |f| f["pre_tokenizer"] = step.clone())
    };
    let llama2 = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let split = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": false},
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false}]});
    let template = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}});
    let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": true,
                         "add_prefix_space": false});
    vec![
        metaspace("first"),
        metaspace("always"),
        metaspace("never"),
        file(|f| {
            f["normalizer"] = llama2.clone();
            f["post_processor"] = template.clone();
        }),
        file(|f| {
            f["pre_tokenizer"] = byte_level.clone();
            f["post_processor"] = roberta.clone();
            f["model"]["ignore_merges"] = json!(true);
        }),
        file(|f| f["pre_tokenizer"] = split.clone()),
        file(|f| f["normalizer"] = json!({"type": "NFC"})),
        file(|f| f["normalizer"] = json!({"type": "Lowercase"})),
        file(|f| f["pre_tokenizer"] = json!({"type": "Punctuation", "behavior": "Contiguous"})),
        file(|f| f["model"]["byte_fallback"] = json!(false)),
    ]
}

struct Pair {
    ours: Tokenizer,
    plain: tokenizers::Tokenizer,
    parsed: tokenizers::Tokenizer,
}

fn pairs() -> &'static [Pair] {
    static PAIRS: OnceLock<Vec<Pair>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let pair = |file: Value| {
            let text = file.to_string();
            let parsed = tokenizers::Tokenizer::from_bytes(&text).unwrap();
            let mut plain = parsed.clone();
            plain.set_encode_special_tokens(true);
            Pair { ours: Tokenizer::from_json(&text).unwrap(), plain, parsed }
        };
        files().into_iter().map(pair).collect()
    })
}

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a", "b", "aba", "ab", " ", "  ", "\n", "<s>", "</s>", "<l>", "<r>", "<s><l", "é", "e\u{301}", "中",
        "😀", "12", "345", ".", "<", ">", "▁", "A", "_", "Ġ",
    ]);
    prop::collection::vec(pieces, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn ids_equal_the_librarys(text in text()) {
        for (index, pair) in pairs().iter().enumerate() {
            for add_special in [false, true] {
                for parse_special in [false, true] {
                    let library = if parse_special { &pair.parsed } else { &pair.plain };
                    let expected = library.encode(text.as_str(), add_special).unwrap().get_ids().to_vec();
                    let got = pair.ours.encode(&text, EncodeOptions { add_special, parse_special }).unwrap();
                    prop_assert_eq!(got, expected, "file {}, parse_special {}", index, parse_special);
                }
            }
        }
    }
}
