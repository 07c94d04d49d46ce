//! How texts are cut by the names of GGUF files, against pieces that the Hugging Face library made of the models' own expressions.

// A test that cannot read its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{EncodeOptions, GgufVocabulary, Tokenizer};
use serde_json::{Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const NAMES: [&str; 2] = ["qwen2", "qwen35"];

/// The characters that stand for the 256 bytes in byte-level vocabularies, by byte.
fn alphabet() -> Vec<char> {
    let printed = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    (0..256).map(|b| if printed(b) { char::from_u32(b).unwrap() } else { others.next().unwrap() }).collect()
}

/// A piece in that alphabet.
fn spelled(piece: &str, alphabet: &[char]) -> String {
    piece.bytes().map(|b| alphabet[usize::from(b)]).collect()
}

/// A GGUF vocabulary of the bytes alone.
fn vocabulary(pre: &str) -> GgufVocabulary {
    GgufVocabulary {
        model: "gpt2".into(),
        pre: Some(pre.into()),
        tokens: alphabet().iter().map(|c| c.to_string().into_bytes()).collect(),
        merges: vec![],
        ..GgufVocabulary::default()
    }
}

/// What the library makes of a text before it merges, by the file that our tokenizer writes for it.
fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let library = tokenizers::Tokenizer::from_bytes(tokenizer.to_json().unwrap()).unwrap();
    let mut text = PreTokenizedString::from(text);
    library.get_pre_tokenizer().unwrap().pre_tokenize(&mut text).unwrap();
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(piece, ..)| piece.to_owned()).collect()
}

fn cases() -> Value {
    serde_json::from_str(include_str!("data/splits.json")).unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn pieces_are_those_of_the_library_under_the_names_of_gguf() {
    let (file, alphabet) = (cases(), alphabet());
    let [qwen2, qwen35] = NAMES.map(|name| Tokenizer::from_gguf(vocabulary(name)).unwrap());
    let mut differ = 0;
    for case in file["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for (name, tokenizer) in NAMES.iter().zip([&qwen2, &qwen35]) {
            let expected: Vec<String> =
                strings(&case[*name]).iter().map(|piece| spelled(piece, &alphabet)).collect();
            assert_eq!(pieces(tokenizer, text), expected, "{name}: {text:?}");
            let ids = tokenizer.encode(text, PLAIN).unwrap();
            assert_eq!((ids.len(), tokenizer.decode(&ids, false)), (text.len(), text.to_owned()));
        }
        differ += usize::from(case["qwen2"] != case["qwen35"]);
    }
    assert_eq!(differ, 7, "texts with marks are cut differently");
}

#[test]
fn a_tokenizer_json_with_the_models_expression_has_the_name_of_its_splitter() {
    let file = cases();
    for name in NAMES {
        let vocab: serde_json::Map<String, Value> =
            alphabet().iter().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
        let tokenizer_json = json!({
            "version": "1.0", "added_tokens": [], "normalizer": {"type": "NFC"}, "post_processor": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": file["expressions"][name]}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "model": {"type": "BPE", "ignore_merges": false, "vocab": vocab, "merges": []},
        });
        let tokenizer = Tokenizer::from_json(tokenizer_json.to_string()).unwrap();
        let gguf = tokenizer.to_gguf_vocabulary().unwrap();
        assert_eq!(gguf.pre.as_deref(), Some(name));
    }
}
