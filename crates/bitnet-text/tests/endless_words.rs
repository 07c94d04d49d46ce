//! Texts that are one endless word take memory in proportion to their length.

// A test that cannot build its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/peak.rs"]
mod peak;

use bitnet_text::{AroundText, EncodeOptions, GgufVocabulary, Tokenizer, token_type};
use peak::peak;
use serde_json::{Value, json};

/// A byte-level file with merges of `a`s and spaces up to 16 of them.
fn json_file(normalizer: &Value, pre_tokenizer: &Value) -> String {
    let alphabet =
        ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}').chain('\u{100}'..='\u{143}');
    let mut tokens: Vec<String> = alphabet.map(String::from).chain(["▁".into(), "中".into()]).collect();
    let mut merges = Vec::new();
    for half in [1, 2, 4, 8] {
        for c in ["a", "Ġ", "▁", "中"] {
            merges.push([c.repeat(half), c.repeat(half)]);
            tokens.push(c.repeat(2 * half));
        }
    }
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
    json!({"version": "1.0", "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null, "added_tokens": [],
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges}})
    .to_string()
}

/// A vocabulary with scores, of `a`s, marks and bytes.
fn scored() -> GgufVocabulary {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut token_types = vec![token_type::UNKNOWN, token_type::CONTROL, token_type::CONTROL];
    for byte in 0..=255u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        token_types.push(token_type::BYTE);
    }
    for length in 1..=16 {
        tokens.extend(["a", "▁"].map(|c| c.repeat(length)));
        token_types.extend([token_type::NORMAL; 2]);
    }
    let scores = (0..tokens.len()).map(|id| id as f32 - 300.0).collect();
    GgufVocabulary {
        model: "llama".into(),
        tokens: tokens.into_iter().map(String::into_bytes).collect(),
        scores,
        token_types,
        ..GgufVocabulary::default()
    }
}

/// The same pieces as a `tokenizer.model` whose pieces are chosen by the sum of their scores.
fn unigram() -> Vec<u8> {
    let vocabulary = scored();
    let mut model = Vec::new();
    for ((text, score), kind) in vocabulary.tokens.iter().zip(&vocabulary.scores).zip(&vocabulary.token_types)
    {
        let mut piece = vec![0x0a, text.len() as u8];
        piece.extend(text);
        piece.push(0x15);
        piece.extend(score.to_le_bytes());
        piece.extend([0x18, *kind as u8]);
        model.extend([0x0a, piece.len() as u8]);
        model.extend(piece);
    }
    // The kind of model is unigram; bytes stand for what has no piece; white space stays as it is.
    model.extend([0x12, 5, 0x18, 1, 0x98, 0x02, 1]);
    model.extend([0x1a, 2, 0x20, 0]);
    model
}

fn tokenizers() -> Vec<(&'static str, Tokenizer)> {
    let read = |normalizer: Value, pre_tokenizer: Value| {
        Tokenizer::from_json(json_file(&normalizer, &pre_tokenizer)).unwrap()
    };
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    };
    let qwen2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let llama2 = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let around = AroundText { bos: false, eos: false };
    vec![
        (
            "GPT-2",
            read(
                Value::Null,
                json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
            ),
        ),
        ("Qwen2", read(json!({"type": "NFC"}), split(qwen2))),
        ("an unknown expression", read(Value::Null, split(r"\p{L}+|[^\p{L}]+"))),
        ("LLaMA-2", read(llama2, Value::Null)),
        (
            "Metaspace",
            read(
                Value::Null,
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}),
            ),
        ),
        ("scores", Tokenizer::from_gguf(scored()).unwrap()),
        ("unigram", Tokenizer::from_sentencepiece(&unigram(), around).unwrap()),
    ]
}

/// Endless words of some kinds, of about so many bytes.
fn texts(length: usize) -> Vec<(&'static str, String)> {
    let mut state = 1u32;
    let letters = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 3)
    });
    vec![
        ("one letter", "a".repeat(length)),
        ("letters", letters.collect()),
        ("spaces", " ".repeat(length)),
        ("ideographs", "中".repeat(length / 3)),
        ("marks", "e\u{301}".repeat(length / 3)),
        ("signs", "=+".repeat(length / 2)),
    ]
}

#[test]
fn one_endless_word_takes_memory_in_proportion() {
    const BYTES: usize = 1 << 18;
    /// What the expressions of a splitter take, whatever the text.
    const EXPRESSIONS: usize = 12 << 20;
    let plain = EncodeOptions { add_special: false, parse_special: false };
    for (kind, tokenizer) in tokenizers() {
        for (what, text) in texts(BYTES) {
            for parse_special in [false, true] {
                let options = EncodeOptions { parse_special, ..plain };
                let (most, ids) = peak(|| tokenizer.encode(&text, options).unwrap());
                assert!(
                    most < 64 * BYTES + EXPRESSIONS,
                    "{kind}, {what}: {most} bytes for {BYTES}, {} ids",
                    ids.len()
                );
                assert!(!ids.is_empty());
            }
        }
    }
}

#[test]
fn long_words_have_the_librarys_ids() {
    let qwen2 =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = json_file(&json!({"type": "NFC"}), &qwen2);
    let (ours, library) =
        (Tokenizer::from_json(&file).unwrap(), tokenizers::Tokenizer::from_bytes(&file).unwrap());
    for (what, text) in texts(100_000) {
        let ids = ours.encode(&text, EncodeOptions::default()).unwrap();
        assert_eq!(ids, library.encode(text.as_str(), false).unwrap().get_ids(), "{what}");
    }
}
