//! Sentencepiece vocabularies against sentencepiece itself.

// A test that cannot read its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{EncodeOptions, GgufVocabulary, StreamDecoder, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;
use std::sync::OnceLock;

fn data() -> Value {
    serde_json::from_str(include_str!("data/sentencepiece.json")).unwrap()
}

fn vocabulary() -> GgufVocabulary {
    let data = data();
    let tokens: Vec<String> = serde_json::from_value(data["tokens"].clone()).unwrap();
    GgufVocabulary {
        model: "llama".into(),
        tokens: tokens.into_iter().map(String::into_bytes).collect(),
        scores: serde_json::from_value(data["scores"].clone()).unwrap(),
        token_types: serde_json::from_value(data["types"].clone()).unwrap(),
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        ..GgufVocabulary::default()
    }
}

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

#[test]
fn cases_give_the_ids_and_texts_of_sentencepiece() {
    let direct = Tokenizer::from_gguf(vocabulary()).unwrap();
    let json = Tokenizer::from_json(direct.to_json().unwrap()).unwrap();
    let exported = json.to_gguf_vocabulary().unwrap();
    assert_eq!(exported.losses, Vec::<String>::new());
    assert_eq!(exported.token_types, vocabulary().token_types);
    let back = Tokenizer::from_gguf(exported).unwrap();
    let again = Tokenizer::from_gguf(direct.to_gguf_vocabulary().unwrap()).unwrap();
    let cases = data();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 24);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        for tokenizer in [&direct, &json, &back, &again] {
            assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), ids, "{text:?}");
            let mut with_bos = tokenizer.encode(text, EncodeOptions { add_special: true, ..PLAIN }).unwrap();
            assert_eq!(with_bos.remove(0), 1);
            assert_eq!(with_bos, ids);
            assert_eq!(tokenizer.decode(&ids, true), case["decoded"].as_str().unwrap(), "{text:?}");
        }
    }
}

#[test]
fn without_a_space_prefix_a_text_begins_where_it_begins() {
    let tokenizer =
        Tokenizer::from_gguf(GgufVocabulary { add_space_prefix: Some(false), ..vocabulary() }).unwrap();
    let ids = tokenizer.encode("theory", PLAIN).unwrap();
    assert_eq!(tokenizer.token_bytes(ids[0]).unwrap(), b"the");
    assert_eq!(tokenizer.decode(&ids, true), "theory");
    let ids = tokenizer.encode(" theory", PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&ids, true), " theory");
}

#[test]
fn control_tokens_are_never_merged_out_of_plain_text() {
    // A vocabulary whose pieces could spell its control token.
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}", "<", "s", ">", "<s", "s>"];
    let types = [2, 3, 3, 1, 1, 1, 1, 1, 1];
    let vocabulary = GgufVocabulary {
        model: "llama".into(),
        tokens: tokens.iter().map(|t| t.as_bytes().to_vec()).collect(),
        token_types: types.to_vec(),
        scores: vec![0.0; tokens.len()],
        add_space_prefix: Some(false),
        ..GgufVocabulary::default()
    };
    let direct = Tokenizer::from_gguf(vocabulary).unwrap();
    let json = Tokenizer::from_json(direct.to_json().unwrap()).unwrap();
    for tokenizer in [direct, json] {
        assert_eq!(tokenizer.encode("<s>", PLAIN).unwrap(), [7, 6]);
        assert_eq!(tokenizer.encode("<s>", EncodeOptions { parse_special: true, ..PLAIN }).unwrap(), [1]);
        // A character that the vocabulary cannot say.
        assert_eq!(tokenizer.encode("s?s", PLAIN).unwrap(), [5, 0, 5]);
    }
}

fn tokenizers() -> &'static (Tokenizer, Tokenizer) {
    static BOTH: OnceLock<(Tokenizer, Tokenizer)> = OnceLock::new();
    BOTH.get_or_init(|| {
        let direct = Tokenizer::from_gguf(vocabulary()).unwrap();
        let json = Tokenizer::from_json(direct.to_json().unwrap()).unwrap();
        (direct, json)
    })
}

proptest! {
    #[test]
    fn scores_and_the_merges_made_of_them_split_alike(text in "[abnesthr ,=!0-9\\n_éあ<>/]{0,40}") {
        let (direct, json) = tokenizers();
        prop_assert_eq!(direct.encode(&text, PLAIN).unwrap(), json.encode(&text, PLAIN).unwrap());
    }

    #[test]
    fn text_survives_the_way_there_and_back(text in "\\PC{0,40}") {
        prop_assume!(!text.contains('\u{2581}'));
        let (direct, _) = tokenizers();
        let ids = direct.encode(&text, PLAIN).unwrap();
        prop_assert_eq!(direct.decode(&ids, true), text);
    }

    #[test]
    fn the_stream_says_what_decode_says(ids in prop::collection::vec(0u32..700, 0..60), special in any::<bool>()) {
        let (direct, _) = tokenizers();
        let mut stream = StreamDecoder::new(direct).with_special(special);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.finish());
        prop_assert_eq!(text, direct.decode(&ids, !special));
    }
}
