//! How a generation begins, what it shows, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_inference::{
    EngineError, FinishReason, GenerateOptions, InferenceEngine, LoadOptions, SamplingOptions,
};
use std::fs;
use std::path::{Path, PathBuf};

mod support;
use support::oracle;

/// A model's directory, with files beside it changed.
fn directory(name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    for file in fs::read_dir(oracle("bitnet-a-offline-packed")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            fs::copy(&path, place.join(path.file_name().unwrap())).unwrap();
        }
    }
    change(&place);
    place
}

fn load(place: &Path) -> InferenceEngine {
    InferenceEngine::load(
        place,
        &LoadOptions { threads: Some(1), context: Some(64), ..LoadOptions::default() },
    )
    .unwrap()
}

/// The model with a sentencepiece vocabulary, whose texts begin with a space that is not shown.
fn sentencepiece(name: &str) -> InferenceEngine {
    load(&directory(name, |place| {
        for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            let _ = fs::remove_file(place.join(file));
        }
        let model =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../bitnet-text/tests/data/sentencepiece-bpe-bytes.model");
        fs::copy(model, place.join("tokenizer.model")).unwrap();
    }))
}

/// Greedy, with this token ahead of all others.
fn forced(id: u32, tokens: usize) -> GenerateOptions {
    let sampling = SamplingOptions { logit_bias: vec![(id, 1e4)], ..SamplingOptions::default() };
    GenerateOptions { max_new_tokens: tokens, sampling, ..GenerateOptions::default() }
}

/// Ids, text, and why it ended.
fn generate(
    engine: &InferenceEngine,
    prompt: &str,
    options: &GenerateOptions,
) -> (Vec<u32>, String, Option<FinishReason>) {
    let mut session = engine.session().unwrap();
    let mut generation = session.generate(prompt, options).unwrap();
    let (mut ids, mut text) = (Vec::new(), String::new());
    for piece in generation.by_ref() {
        let piece = piece.unwrap();
        ids.extend(piece.id);
        text.push_str(&piece.text);
    }
    let reason = generation.finish_reason();
    (ids, text, reason)
}

#[test]
fn every_stop_token_ends_a_generation_unless_it_is_ignored() {
    let engine = load(&oracle("bitnet-a-offline-packed"));
    assert!(!engine.stop_tokens().is_empty());
    for &stop in engine.stop_tokens() {
        let ended = generate(&engine, "First Citizen:", &forced(stop, 3));
        assert_eq!(ended, (vec![], String::new(), Some(FinishReason::EndOfText)));
        let ignored = GenerateOptions { ignore_eos: true, ..forced(stop, 3) };
        let (ids, _, reason) = generate(&engine, "First Citizen:", &ignored);
        assert_eq!((ids, reason), (vec![stop; 3], Some(FinishReason::Length)));
    }
}

#[test]
fn what_follows_a_prompt_keeps_its_leading_space() {
    let engine = sentencepiece("leading-space");
    let the = engine.tokenizer().unwrap().id_of("▁the").unwrap();
    let (ids, text, _) = generate(&engine, "hello", &forced(the, 2));
    assert_eq!((ids, text.as_str()), (vec![the, the], " the the"));
}

#[test]
fn a_character_without_its_end_is_told() {
    let engine = sentencepiece("half-a-character");
    let byte = engine.tokenizer().unwrap().id_of("<0xE4>").unwrap();
    assert_eq!(
        generate(&engine, "hello", &forced(byte, 1)),
        (vec![byte], "\u{fffd}".into(), Some(FinishReason::Length))
    );
}

#[test]
fn control_tokens_in_a_prompt_are_text() {
    let engine = sentencepiece("control-in-prompt");
    let end = engine.tokenizer().unwrap().id_of("<|im_end|>").unwrap();
    assert!(engine.stop_tokens().contains(&end));
    let mut session = engine.session().unwrap();
    session.generate("hi <|im_end|> there", &forced(5, 1)).unwrap().for_each(drop);
    assert!(session.tokens().len() > 8 && !session.tokens().contains(&end));
}

#[test]
fn a_seed_stands_for_the_same_text_on_every_machine() {
    let engine = load(&oracle("bitnet-a-offline-packed"));
    let sample = |seed| {
        let sampling = SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() };
        let options =
            GenerateOptions { max_new_tokens: 16, sampling, ignore_eos: true, ..GenerateOptions::default() };
        generate(&engine, "First Citizen:", &options).0
    };
    // As the first build gave them.
    assert_eq!(sample(1), [295, 307, 269, 287, 1207, 303, 268, 1620, 510, 294, 198, 270, 620, 270, 11, 327]);
    let last = [294, 892, 271, 589, 330, 1953, 272, 198, 923, 1206, 266, 693, 1097, 365, 11, 326];
    assert_eq!(sample(u64::MAX), last);
}

#[test]
fn ends_come_from_every_file_beside_a_model() {
    let stops = |name: &str, file: &str, text: &str| {
        load(&directory(name, |place| fs::write(place.join(file), text).unwrap())).stop_tokens().to_vec()
    };
    let before = load(&oracle("bitnet-a-offline-packed")).stop_tokens().to_vec();
    let with = |id: u32| {
        let mut all = before.clone();
        all.push(id);
        all.sort_unstable();
        all
    };
    assert!(!before.contains(&77));
    assert_eq!(stops("ends-number", "generation_config.json", "{\"eos_token_id\": 77}"), with(77));
    // With a byte order mark, and an id that the model does not have.
    assert_eq!(
        stops("ends-list", "generation_config.json", "\u{feff}{\"eos_token_id\": [77, 99999999]}"),
        with(77)
    );
}

#[test]
fn templates_are_found_where_models_have_them() {
    let engine = |name: &str, file: &str, text: &str| {
        load(&directory(name, |place| {
            let _ = fs::remove_file(place.join("chat_template.jinja"));
            let path = place.join("tokenizer_config.json");
            let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config.as_object_mut().unwrap().remove("chat_template");
            config.as_object_mut().unwrap().remove("bos_token");
            fs::write(path, config.to_string()).unwrap();
            let config = place.join("config.json");
            let text_of =
                fs::read_to_string(&config).unwrap().replace("BitNetForCausalLM", "BitnetForCausalLM");
            fs::write(config, text_of).unwrap();
            fs::write(place.join(file), text).unwrap();
        }))
    };
    let said = |engine: &InferenceEngine| {
        let (_, template) = engine.chat().map_err(|e| e.to_string())?;
        template.render(&[bitnet_text::Message::new("user", "hi")], false).map_err(|e| e.to_string())
    };
    let one = "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"[{{ messages[0].content }}]\"}]}";
    assert_eq!(said(&engine("template-one", "chat_template.json", one)).unwrap(), "[hi]");
    let map = "{\"chat_template\": {\"a\": \"a\", \"default\": \"b\"}}";
    assert_eq!(said(&engine("template-map", "chat_template.json", map)).unwrap(), "b");
    let windows = "\u{feff}{% if true %}\r\nx\r\n{% endif %}y\rz";
    assert_eq!(said(&engine("template-lines", "chat_template.jinja", windows)).unwrap(), "x\ny\nz");
    let several = "{\"chat_template\": {\"rag\": \"a\", \"tools\": \"b\"}}";
    let several = engine("template-several", "chat_template.json", several);
    assert!(matches!(several.chat(), Err(EngineError::NamedTemplates { names }) if names == "rag, tools"));
    // The token that begins a text is named by its id alone.
    let bos = engine("template-bos", "chat_template.jinja", "{{ bos_token }}{{ messages[0].content }}");
    let id = bos.config().bos.unwrap();
    let text = String::from_utf8(bos.tokenizer().unwrap().token_bytes(id).unwrap().to_vec()).unwrap();
    assert_eq!(said(&bos).unwrap(), format!("{text}hi"));
}
