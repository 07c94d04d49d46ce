//! Vocabularies of GGUF files against llama.cpp's and tiktoken's ids, and both ways between GGUF and tokenizer.json.

// A test that cannot read its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bitnet_text::{EncodeOptions, GgufVocabulary, TextError, Tokenizer};
use serde_json::Value;
use std::fs;

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle");
const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// Every way to convert a tokenizer and read it back.
fn conversions(tokenizer: &Tokenizer) -> Vec<(&'static str, Tokenizer)> {
    let json = Tokenizer::from_json(tokenizer.to_json().unwrap()).unwrap();
    let exported = tokenizer.to_gguf_vocabulary().unwrap();
    assert_eq!(exported.losses, Vec::<String>::new());
    let gguf = Tokenizer::from_gguf(exported).unwrap();
    let there_and_back = json.to_gguf_vocabulary().unwrap();
    assert_eq!(there_and_back.losses, Vec::<String>::new());
    let back = Tokenizer::from_gguf(there_and_back).unwrap();
    vec![("to tokenizer.json", json), ("to GGUF", gguf), ("to tokenizer.json to GGUF", back)]
}

/// Texts that stress splitters and byte fallback, besides those of the cases.
fn texts() -> Vec<String> {
    let cases = fs::read(format!("{ORACLE}/bitnet-a-offline-packed/expected/tokenizer_cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let known = cases["encode"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap().to_string());
    let own = [
        "",
        " ",
        "  a",
        "\r\n\r\n x",
        "don't DON'T 1234567",
        "日本語 ｆｕｌｌ",
        "a\u{301}\u{200d}👩‍👩‍👧",
        "\0\u{7f}",
    ];
    known.chain(own.map(str::to_string)).collect()
}

#[test]
fn a_gguf_file_and_its_tokenizer_json_give_the_same_ids() {
    let json = fs::read(format!("{ORACLE}/bitnet-a-offline-packed/tokenizer.json")).unwrap();
    let json = Tokenizer::from_json(json).unwrap();
    let vocabulary = common::vocabulary(format!("{ORACLE}/gguf/bitnet-a-I2_S.gguf"));
    assert_eq!(vocabulary.model, "gpt2");
    let mut nameless = vocabulary.clone();
    nameless.pre = None;
    nameless.architecture = "bitnet-b1.58".into();
    let gguf = Tokenizer::from_gguf(vocabulary).unwrap();
    // A BitNet file that names no splitter has LLaMA-3's.
    let nameless = Tokenizer::from_gguf(nameless).unwrap();
    let mut all = vec![("GGUF", gguf), ("nameless", nameless)];
    all.extend(conversions(&json));
    for text in texts() {
        for add_special in [true, false] {
            for parse_special in [true, false] {
                let options = EncodeOptions { add_special, parse_special };
                let ids = json.encode(&text, options).unwrap();
                for (how, other) in &all {
                    assert_eq!(other.encode(&text, options).unwrap(), ids, "{how}: {text:?}");
                    assert_eq!(other.decode(&ids, false), json.decode(&ids, false));
                }
            }
        }
    }
    for (how, other) in &all {
        assert_eq!((other.bos(), other.vocab_size()), (json.bos(), json.vocab_size()), "{how}");
    }
}

#[test]
fn what_is_wrong_with_a_vocabulary_is_named() {
    let good = common::vocabulary(format!("{ORACLE}/gguf/bitnet-a-I2_S.gguf"));
    let error = |change: fn(&mut GgufVocabulary)| {
        let mut vocabulary = good.clone();
        change(&mut vocabulary);
        Tokenizer::from_gguf(vocabulary).unwrap_err().to_string()
    };
    assert!(
        error(|v| v.pre = Some("klingon".into()))
            .contains("`klingon` names an unknown splitter; known are: llama-bpe")
    );
    assert!(error(|v| v.model = "t5".into()).contains("`t5` is not supported (supported: gpt2, llama)"));
    assert!(error(|v| v.tokens.clear()).contains("0 tokens"));
    assert!(error(|v| v.scores = vec![1.0]).contains("tokenizer.ggml.scores: 1 entries for 2048 tokens"));
    assert!(error(|v| v.token_types.truncate(3)).contains("tokenizer.ggml.token_type: 3 entries"));
    assert!(error(|v| v.bos = Some(99_999)).contains("tokenizer.ggml.bos_token_id: 99999 is outside"));
    assert!(error(|v| v.eos = Some(u32::MAX)).contains("tokenizer.ggml.eos_token_id"));
    assert!(error(|v| v.tokens[7] = vec![0xff]).contains("token 7 is not UTF-8"));
    assert!(error(|v| v.merges[0] = "onetoken".into()).contains("\"onetoken\" is not two tokens"));
    assert!(
        error(|v| {
            v.model = "llama".into();
            v.scores.clear()
        })
        .contains("needs one for each token")
    );
}

#[test]
fn each_splitter_cuts_in_its_own_way() {
    let mut tokens: Vec<&str> = "1 2 3 4 a b c . ` Ġ 12 123 1234 ab abc .` Ġ1 Ġ12".split(' ').collect();
    tokens.push("<s>");
    let merges = ["Ġ 1", "Ġ1 2", "1 2", "12 3", "123 4", "a b", ". `"];
    let expected = [
        ("llama-bpe", "123 4|abc|Ġ 12|.`"),
        ("falcon3", "123 4|abc|Ġ 12|.`"),
        ("smaug-bpe", "123 4|ab c|Ġ 12|.`"),
        ("qwen2", "1 2 3 4|ab c|Ġ 1 2|.`"),
        ("qwen35", "1 2 3 4|ab c|Ġ 1 2|.`"),
        ("gpt-2", "1234|ab c|Ġ12|.`"),
        ("starcoder", "1 2 3 4|ab c|Ġ 1 2|.`"),
        ("falcon", "123 4|ab c|Ġ12|.`"),
        ("falcon_e", "1 2 3 4|ab c|Ġ 1 2|.`"),
        ("default", "123 4|ab c|Ġ 12|. `"),
    ];
    for (pre, expected) in expected {
        let vocabulary = GgufVocabulary {
            model: "gpt2".into(),
            pre: Some(pre.into()),
            tokens: tokens.iter().map(|t| t.as_bytes().to_vec()).collect(),
            merges: merges.map(str::to_string).to_vec(),
            bos: Some(18),
            ..GgufVocabulary::default()
        };
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        for (text, expected) in ["1234", "abc", " 12", ".`"].iter().zip(expected.split('|')) {
            let ids = tokenizer.encode(text, PLAIN).unwrap();
            let got: Vec<&str> = ids.iter().map(|&id| tokens[id as usize]).collect();
            assert_eq!(got.join(" "), expected, "{pre}: {text:?}");
        }
        // Files of LLaMA-3 kind mean BOS also where they do not say so.
        let llama3 = ["llama-bpe", "falcon3"].contains(&pre);
        assert_eq!(tokenizer.adds_bos(), llama3, "{pre}");
    }
}

#[test]
fn a_splitter_without_a_gguf_name_is_refused() {
    let json = fs::read_to_string(format!("{ORACLE}/bitnet-a-offline-packed/tokenizer.json")).unwrap();
    let odd = Tokenizer::from_json(json.replace("{1,3}", "{1,7}")).unwrap();
    assert!(matches!(odd.to_gguf_vocabulary(), Err(TextError::Invalid { part: "pre_tokenizer", .. })));
}

/// Vocabularies that are not ours to ship, and so are only tested on demand (`-- --ignored`, see `tests/oracle/run.sh`).
/// `BITNET_VOCAB_DIR` names a folder with `ggml-vocab-*.gguf` and their `.inp` and `.out` (llama.cpp,
/// `models/`), and `llama3-tiktoken-cases.json`.
mod external {
    use std::path::PathBuf;

    use super::*;

    const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
    const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

    fn vocab_dir() -> PathBuf {
        std::env::var_os("BITNET_VOCAB_DIR").expect("BITNET_VOCAB_DIR names the vocabularies").into()
    }

    #[test]
    #[ignore = "needs the folder that BITNET_VOCAB_DIR names"]
    fn llama_cpp_vocabularies_give_llama_cpp_ids() {
        let dir = vocab_dir();
        for name in ["llama-bpe", "llama-spm", "gpt-2"] {
            let file = dir.join(format!("ggml-vocab-{name}.gguf"));
            let tokenizer = Tokenizer::from_gguf(common::vocabulary(&file)).unwrap();
            let inputs = fs::read_to_string(file.with_extension("gguf.inp")).unwrap();
            let outputs = fs::read_to_string(file.with_extension("gguf.out")).unwrap();
            // A separator ends every case, also the last.
            let inputs: Vec<&str> = inputs.strip_suffix(SEPARATOR).unwrap().split(SEPARATOR).collect();
            let outputs: Vec<Vec<u32>> = outputs
                .lines()
                .map(|l| l.split_whitespace().map(|id| id.parse().unwrap()).collect())
                .collect();
            assert_eq!((inputs.len(), outputs.len()), (46, 46), "{name}");
            let mut all = vec![("itself", tokenizer)];
            all.extend(conversions(&all[0].1));
            for (how, tokenizer) in &all {
                for (input, output) in inputs.iter().zip(&outputs) {
                    assert_eq!(&tokenizer.encode(input, PLAIN).unwrap(), output, "{name} {how}: {input:?}");
                    assert_eq!(tokenizer.decode(output, false), *input, "{name} {how}");
                }
            }
        }
    }

    #[test]
    #[ignore = "needs the folder that BITNET_VOCAB_DIR names"]
    fn tiktoken_cases_give_tiktoken_ids() {
        let dir = vocab_dir();
        let tokenizer =
            Tokenizer::from_gguf(common::vocabulary(dir.join("ggml-vocab-llama-bpe.gguf"))).unwrap();
        let file: Value =
            serde_json::from_slice(&fs::read(dir.join("llama3-tiktoken-cases.json")).unwrap()).unwrap();
        let mut all = vec![("GGUF", tokenizer)];
        all.extend(conversions(&all[0].1));
        let json = dir.join("../bitnet-r-llama3vocab-offline-packed/tokenizer.json");
        if let Ok(json) = fs::read(json) {
            all.push(("bitnet-r", Tokenizer::from_json(json).unwrap()));
        }
        for case in file["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids = |key: &str| serde_json::from_value::<Vec<u32>>(case[key].clone()).unwrap();
            for (how, tokenizer) in &all {
                assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), ids("ids"), "{how}: {text:?}");
                assert_eq!(tokenizer.encode(text, PARSED).unwrap(), ids("ids_special"), "{how}: {text:?}");
            }
        }
    }
}
