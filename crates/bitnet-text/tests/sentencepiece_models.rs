//! `tokenizer.model` files against the sentencepiece library itself (data/make_sentencepiece_models.py).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{AroundText, EncodeOptions, TextError, Tokenizer};
use serde_json::Value;

const PLAIN: AroundText = AroundText { bos: false, eos: false };
const MODELS: [(&str, &[u8]); 4] = [
    ("bpe-bytes", include_bytes!("data/sentencepiece-bpe-bytes.model")),
    ("bpe-rules", include_bytes!("data/sentencepiece-bpe-rules.model")),
    ("unigram-bytes", include_bytes!("data/sentencepiece-unigram-bytes.model")),
    ("unigram-plain", include_bytes!("data/sentencepiece-unigram-plain.model")),
];

fn read(model: &[u8]) -> Tokenizer {
    Tokenizer::from_sentencepiece(model, PLAIN).unwrap()
}

#[test]
fn ids_and_texts_are_those_of_the_sentencepiece_library() {
    let file: Value = serde_json::from_str(include_str!("data/sentencepiece_models.json")).unwrap();
    for (name, model) in MODELS {
        let tokenizer = read(model);
        for (index, text) in file["texts"].as_array().unwrap().iter().enumerate() {
            let text = text.as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(file["ids"][name][index].clone()).unwrap();
            let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            assert_eq!(ids, expected, "{name}: {text:?}");
            // The library writes its unknown token as " ⁇ ", and takes a mark at the beginning for a space.
            let decoded = file["decoded"][name][index].as_str().unwrap();
            if !decoded.contains('⁇') && !text.contains('▁') {
                assert_eq!(tokenizer.decode(&ids, true), decoded, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn bos_and_eos_stand_around_a_text_where_that_is_asked_for() {
    let around = |bos, eos| {
        let tokenizer = Tokenizer::from_sentencepiece(MODELS[0].1, AroundText { bos, eos }).unwrap();
        let options = EncodeOptions { add_special: true, parse_special: false };
        (
            tokenizer.encode("", options).unwrap(),
            tokenizer.bos(),
            tokenizer.eos(),
            tokenizer.end_ids().to_vec(),
        )
    };
    // <s> is 1, </s> is 2, <|im_end|> is 3; the last two end texts.
    assert_eq!(around(false, false), (vec![], Some(1), Some(2), vec![2, 3]));
    assert_eq!(around(true, true), (vec![1, 2], Some(1), Some(2), vec![2, 3]));
    let tokenizer = read(MODELS[0].1);
    let options = EncodeOptions { add_special: false, parse_special: true };
    assert_eq!(tokenizer.encode("<|im_end|>", options).unwrap(), [3]);
    assert!(!tokenizer.encode("<|im_end|>", EncodeOptions::default()).unwrap().contains(&3));
}

#[test]
fn damaged_models_are_refused_or_read_but_never_panic() {
    for (_, model) in MODELS {
        let mut refused = 0;
        for cut in (0..model.len()).step_by(97) {
            refused += usize::from(Tokenizer::from_sentencepiece(&model[..cut], PLAIN).is_err());
        }
        assert!(refused > 20);
        for at in (0..model.len()).step_by(131) {
            let mut broken = model.to_vec();
            broken[at] ^= 0xff;
            if let Ok(tokenizer) = Tokenizer::from_sentencepiece(&broken, PLAIN) {
                let _ = tokenizer.encode("Hello ﬁ  world <|im_end|> ①½", EncodeOptions::default());
            }
        }
    }
    for bytes in [
        &b""[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"{\"model\": {}}",
        &[0x0a, 0xff, 0xff, 0xff, 0x7f],
    ] {
        let error = Tokenizer::from_sentencepiece(bytes, PLAIN).unwrap_err();
        assert!(matches!(error, TextError::Invalid { part: "tokenizer.model", .. }), "{error}");
    }
}

#[test]
fn kinds_that_are_not_read_are_named_with_a_cure() {
    // trainer_spec (field 2) with model_type (field 3) 4: characters.
    let mut model = vec![0x0a, 3, 0x0a, 1, b'a', 0x12, 2, 0x18, 4];
    let error = Tokenizer::from_sentencepiece(&model, PLAIN).unwrap_err().to_string();
    assert!(error.contains("characters") && error.contains("save_pretrained"), "{error}");
    model[8] = 2;
    assert!(Tokenizer::from_sentencepiece(&model, PLAIN).is_ok());
}

/// Compares with a model that is not in the repository: its path and a JSON file of `texts` and `ids` in two variables.
#[test]
fn an_external_model_gives_the_ids_of_its_file() {
    let (Ok(model), Ok(cases)) = (std::env::var("SENTENCEPIECE_MODEL"), std::env::var("SENTENCEPIECE_CASES"))
    else {
        return;
    };
    let tokenizer = read(&std::fs::read(model).unwrap());
    let file: Value = serde_json::from_slice(&std::fs::read(cases).unwrap()).unwrap();
    for (text, ids) in file["texts"].as_array().unwrap().iter().zip(file["ids"].as_array().unwrap()) {
        let expected: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
        let text = text.as_str().unwrap();
        assert_eq!(tokenizer.encode(text, EncodeOptions::default()).unwrap(), expected, "{text:?}");
    }
}
