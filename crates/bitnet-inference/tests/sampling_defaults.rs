//! What files of models say of sampling, in both spellings.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, TensorSpec, TensorType};
use bitnet_inference::SamplingDefaults;

/// What a GGUF file of these keys says.
fn gguf(fill: impl FnOnce(&mut GgufKeys)) -> Result<SamplingDefaults, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", "qwen3");
    fill(&mut keys);
    let mut writer =
        GgufWriter::create(&path, &keys, &[TensorSpec::new("t", TensorType::F32, vec![1])]).unwrap();
    writer.write("t", &[0; 4]).unwrap();
    writer.finish().unwrap();
    let file = Checkpoint::open(&path, &Default::default()).unwrap();
    SamplingDefaults::of(&file).map_err(|e| e.to_string())
}

/// What a directory with this `generation_config.json` says.
fn directory(generation: Option<&str>) -> Result<SamplingDefaults, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("config.json", b"{}");
    let header = br#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    write("model.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat());
    if let Some(text) = generation {
        write("generation_config.json", text.as_bytes());
    }
    let file = Checkpoint::open(folder.path(), &Default::default()).unwrap();
    SamplingDefaults::of(&file).map_err(|e| e.to_string())
}

const ALL: SamplingDefaults = SamplingDefaults {
    temperature: Some(0.7),
    top_k: Some(20),
    top_p: Some(0.95),
    min_p: Some(0.05),
    repetition_penalty: Some(1.1),
    penalty_window: Some(32),
};

#[test]
fn gguf_files_say_it_in_the_keys_of_llama_cpp() {
    let said = gguf(|keys| {
        keys.f32("general.sampling.temp", 0.7).u32("general.sampling.top_k", 20);
        keys.f32("general.sampling.top_p", 0.95).f32("general.sampling.min_p", 0.05);
        keys.f32("general.sampling.penalty_repeat", 1.1).u32("general.sampling.penalty_last_n", 32);
        keys.u32("general.sampling.mirostat", 0);
    });
    assert_eq!(said, Ok(ALL));
    assert_eq!(gguf(|_| {}), Ok(SamplingDefaults::default()));
}

#[test]
fn directories_say_it_in_generation_config_json() {
    let text = r#"{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.95, "min_p": 0.05,
        "repetition_penalty": 1.1, "eos_token_id": 7}"#;
    assert_eq!(directory(Some(text)), Ok(SamplingDefaults { penalty_window: None, ..ALL }));
    let sparse = r#"{"temperature": 1, "top_k": null}"#;
    let temperature = SamplingDefaults { temperature: Some(1.0), ..Default::default() };
    assert_eq!(directory(Some(sparse)), Ok(temperature));
    let greedy = r#"{"do_sample": false, "temperature": 0.7}"#;
    for nothing in [None, Some(greedy), Some("{}")] {
        assert_eq!(directory(nothing), Ok(SamplingDefaults::default()));
    }
}

#[test]
fn words_for_all_and_for_none_are_understood() {
    let said = directory(Some(r#"{"temperature": -1, "top_k": -1, "top_p": 1.5, "min_p": -0.1}"#)).unwrap();
    assert_eq!(
        (said.temperature, said.top_k, said.top_p, said.min_p),
        (Some(0.0), Some(0), Some(1.0), Some(0.0))
    );
    let whole = gguf(|keys| {
        keys.f32("general.sampling.penalty_last_n", -1.0).f32("general.sampling.top_k", 0.0);
    });
    let whole = whole.unwrap();
    assert_eq!((whole.penalty_window, whole.top_k), (Some(usize::MAX), Some(0)));
}

#[test]
fn what_cannot_be_is_named_by_its_key() {
    for (key, value) in [
        ("temp", f32::NAN),
        ("top_p", 0.0),
        ("min_p", 1.5),
        ("penalty_repeat", 0.0),
        ("top_k", f32::INFINITY),
    ] {
        let error = gguf(|keys| {
            keys.f32(&format!("general.sampling.{key}"), value);
        });
        let error = error.unwrap_err();
        assert!(error.starts_with(&format!("general.sampling.{key} of the model must be")), "{error}");
    }
    let text = gguf(|keys| {
        keys.str("general.sampling.temp", "warm");
    });
    assert!(text.unwrap_err().contains("something else"));
    for (json, told) in [
        (r#"{"top_p": 0}"#, "top_p in generation_config.json of the model must be above 0, not 0"),
        (
            r#"{"temperature": "hot"}"#,
            r#"temperature in generation_config.json of the model must be a number, not "hot""#,
        ),
        (r#"{"repetition_penalty": -1}"#, "repetition_penalty in generation_config.json"),
    ] {
        let error = directory(Some(json)).unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}
