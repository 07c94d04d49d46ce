//! Tokenizers, templates and stop tokens through every form.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use bitnet_convert::Target;
use bitnet_inference::{InferenceEngine, LoadOptions};
use bitnet_text::{EncodeOptions, Message, encode_chat};
use common::{oracle, place, to};

const TEXTS: [&str; 6] = [
    "First Citizen: We are accounted poor citizens.",
    " a  b\tc\n\n  d's 12345 it'll",
    "\u{fc}\u{f1}\u{ed} \u{4f60}\u{597d} \u{1f600} e\u{301}",
    "<|begin_of_text|>plain<|eot_id|>",
    "",
    "\r\n   ",
];

/// What a tokenizer, a template and a configuration do to texts.
#[derive(Debug, PartialEq)]
struct Fingerprint {
    /// Of texts, with and without control tokens.
    ids: Vec<Vec<u32>>,
    texts: Vec<String>,
    chat: Vec<u32>,
    bos: Option<u32>,
    eos: Vec<u32>,
}

fn fingerprint(path: &Path) -> Fingerprint {
    let engine = InferenceEngine::load(path, &LoadOptions::default()).unwrap();
    let tokenizer = engine.tokenizer().unwrap_or_else(|| panic!("{} has a tokenizer", path.display()));
    let mut ids = Vec::new();
    for text in TEXTS {
        for (add_special, parse_special) in [(true, false), (false, true)] {
            ids.push(tokenizer.encode(text, EncodeOptions { add_special, parse_special }).unwrap());
        }
    }
    let texts = (0..2048).step_by(7).map(|id| tokenizer.decode(&[id, id + 1], false)).collect();
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let messages = [message("user", "Hey <|eot_id|>"), message("assistant", "Ho"), message("user", "Who?")];
    let chat = encode_chat(tokenizer, engine.chat_template().unwrap(), &messages, true).unwrap();
    let mut eos = engine.config().eos.clone();
    eos.sort_unstable();
    Fingerprint { ids, texts, chat, bos: engine.config().bos, eos }
}

#[test]
fn texts_mean_the_same_through_two_conversions() {
    let directory = tempfile::tempdir().unwrap();
    for model in
        ["bitnet-a-offline-packed", "llama-b-bitlinear-packed", "gguf/bitnet-c-TQ1_0-scaletensors.gguf"]
    {
        let input = oracle(model);
        let before = fingerprint(&input);
        let mut path = input;
        let chain = [
            Target::GgufI2S,
            Target::HfMaster,
            Target::GgufQ2_0,
            Target::Bitnet,
            Target::HfPacked,
            Target::GgufI2S,
        ];
        for (step, target) in chain.into_iter().enumerate() {
            let output = place(directory.path(), &format!("{}-{step}", model.replace('/', "-")), target);
            to(&path, &output, target).unwrap();
            assert_eq!(fingerprint(&output), before, "{model}, step {step}: {target}");
            path = output;
        }
    }
}

#[test]
fn files_of_a_directory_are_copied_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let input = oracle("bitnet-a-offline-packed");
    let output = directory.path().join("out");
    to(&input, &output, Target::HfMaster).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        assert_eq!(fs::read(input.join(file)).unwrap(), fs::read(output.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn a_tokenizer_that_gguf_keys_cannot_say_is_carried_whole() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("model");
    fs::create_dir(&input).unwrap();
    let original = oracle("bitnet-a-offline-packed");
    for entry in fs::read_dir(&original).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), input.join(entry.file_name())).unwrap();
    }
    // A splitter of its own, which has no name in GGUF.
    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(original.join("tokenizer.json")).unwrap()).unwrap();
    json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "Punctuation", "behavior": "Isolated"},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    ]});
    fs::write(input.join("tokenizer.json"), json.to_string()).unwrap();
    let before = fingerprint(&input);
    let output = directory.path().join("out.gguf");
    let report = to(&input, &output, Target::GgufI2S).unwrap();
    assert!(report.notes.iter().any(|n| n.contains("carries")), "{:?}", report.notes);
    assert_eq!(fingerprint(&output), before);
    let back = directory.path().join("back");
    to(&output, &back, Target::HfPacked).unwrap();
    assert_eq!(fingerprint(&back), before);
}
