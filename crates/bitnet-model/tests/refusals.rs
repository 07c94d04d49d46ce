//! Models that would be computed wrongly are refused when they are opened, with a sentence that says what they are.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, TensorSpec, TensorType};
use bitnet_model::{ModelError, Source};

/// A GGUF with an embedding and these keys, opened as a model.
fn open(name: &str, fill: impl FnOnce(&mut GgufKeys)) -> ModelError {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.gguf"));
    let _ = std::fs::remove_file(&path);
    let mut keys = GgufKeys::new();
    fill(&mut keys);
    let spec = TensorSpec::new("token_embd.weight", TensorType::F32, vec![4, 8]);
    let mut writer = GgufWriter::create(&path, &keys, &[spec]).unwrap();
    writer.write("token_embd.weight", &[0; 4 * 8 * 4]).unwrap();
    writer.finish().unwrap();
    match Source::new(Checkpoint::open(&path, &Default::default()).unwrap()) {
        Err(error) => error,
        Ok(_) => panic!("{name} was taken for a model"),
    }
}

#[test]
fn an_embedding_model_is_not_a_decoder() {
    let error = open("embedding", |keys| {
        keys.str("general.architecture", "qwen3");
        keys.u32("qwen3.pooling_type", 3);
    });
    assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("an embedding model"), "{error}");
}

#[test]
fn an_unknown_architecture_is_named_with_the_known_ones() {
    let error = open("unknown", |keys| {
        keys.str("general.architecture", "gptneox");
    });
    let text = error.to_string();
    assert!(text.contains("gptneox") && text.contains("bitnet-b1.58"), "{text}");
}

#[test]
fn a_missing_size_is_named() {
    let error = open("sizeless", |keys| {
        keys.str("general.architecture", "bitnet");
    });
    assert!(error.to_string().contains("bitnet.embedding_length"), "{error}");
}

#[test]
fn weights_folded_with_a_rotation_are_refused_by_name() {
    let error = open("folded", |keys| {
        keys.str("general.architecture", "qwen3");
        keys.u32("prism.hadamard.version", 1);
    });
    assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("folded with a Hadamard transform"), "{error}");
    assert!(error.to_string().contains("'prism.hadamard.version'"), "{error}");
}
