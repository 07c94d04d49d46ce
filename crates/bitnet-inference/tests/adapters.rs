//! What side paths are multiplied with: `lora_alpha / r`, or `lora_alpha / sqrt(r)` with `use_rslora`.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use bitnet_format::{SafetensorsWriter, TensorSpec, TensorType};
use bitnet_inference::{InferenceEngine, LoadOptions};

mod support;
use support::oracle;

const MODEL: &str = "llama-b-bitlinear-packed";
const RANK: usize = 4;

/// An adapter for the first query projection, whose second matrix is times `times`.
fn adapter(directory: &Path, settings: &str, times: f32) {
    let engine = load(None);
    let (outputs, inputs) = (engine.config().q_width(), engine.config().hidden);
    let name = |tail: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.{tail}.weight");
    let specs = [
        TensorSpec::new(name("lora_A"), TensorType::F32, [RANK, inputs]),
        TensorSpec::new(name("lora_B"), TensorType::F32, [outputs, RANK]),
    ];
    let path = directory.join("adapter_model.safetensors");
    let _ = fs::remove_file(&path);
    let mut writer = SafetensorsWriter::create(&path, &Default::default(), &specs).unwrap();
    let bytes = |len: usize, times: f32| -> Vec<u8> {
        (0..len).flat_map(|i| (((i * 29 % 17) as f32 - 8.0) * 0.0625 * times).to_le_bytes()).collect()
    };
    writer.write(&name("lora_A"), &bytes(RANK * inputs, 1.0)).unwrap();
    writer.write(&name("lora_B"), &bytes(outputs * RANK, times)).unwrap();
    writer.finish().unwrap();
    let json = format!(r#"{{"peft_type": "LORA", "r": {RANK}, {settings}}}"#);
    fs::write(directory.join("adapter_config.json"), json).unwrap();
}

fn load(adapter: Option<&Path>) -> InferenceEngine {
    let adapter = adapter.map(Path::to_path_buf);
    let options = LoadOptions { threads: Some(1), adapter, context: Some(32), ..Default::default() };
    InferenceEngine::load(oracle(MODEL), &options).unwrap()
}

/// The factors are powers of two, so that it makes no difference to a bit whether a file or its settings hold them.
#[test]
fn the_scale_is_alpha_over_the_rank_or_over_its_root() {
    let directory = tempfile::tempdir().unwrap();
    let logits = |settings: &str, times: f32| {
        adapter(directory.path(), settings, times);
        load(Some(directory.path())).session().unwrap().feed(&[3, 7, 21, 9]).unwrap().to_vec()
    };
    let once = logits(r#""lora_alpha": 4"#, 1.0);
    assert_eq!(logits(r#""lora_alpha": 16"#, 0.25), once);
    assert_eq!(logits(r#""lora_alpha": 16"#, 1.0), logits(r#""lora_alpha": 4"#, 4.0));
    // 16 / sqrt(4) is 8.
    assert_eq!(logits(r#""lora_alpha": 16, "use_rslora": true"#, 0.125), once);
    assert_ne!(logits(r#""lora_alpha": 16"#, 1.0), once);
}
