//! Models of the oracle, and logits before and after.

// Each test file uses some of these; helpers of tests may panic as tests may.
#![allow(dead_code, clippy::unwrap_used)]

pub mod made;

use std::path::{Path, PathBuf};

use bitnet_convert::{ConvertError, ConvertOptions, ConvertReport, Target, convert};
use bitnet_inference::{InferenceEngine, LoadOptions};

/// A model of the repository's test data.
pub fn oracle(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle")).join(name)
}

/// Everything in the oracle that can be converted.
pub const MODELS: [&str; 15] = [
    "bitnet-a-offline-packed",
    "bitnet-a-bitlinear-packed",
    "bitnet-a-online-bf16",
    "bitnet-c-silu-online-bf16",
    "llama-b-bitlinear-packed",
    "qwen3-a-ternary-g64",
    "qwen3-b-ternary-g128",
    "gguf/bitnet-a-I2_S.gguf",
    "gguf/bitnet-a-I2_S-embdQ6_K.gguf",
    "gguf/bitnet-a-TQ1_0.gguf",
    "gguf/bitnet-c-TQ1_0-scaletensors.gguf",
    "gguf/bitnet-c-embdQ8_0-TQ2_0.gguf",
    "gguf/llama-b-I2_S.gguf",
    "gguf/qwen3-a-ternary-g64-Q2_0.gguf",
    "gguf/qwen3-b-ternary-g128-Q2_0g128.gguf",
];

/// A name for a conversion inside `directory`.
pub fn place(directory: &Path, name: &str, target: Target) -> PathBuf {
    let ending = match target {
        Target::HfPacked | Target::HfMaster => "",
        Target::Bitnet => ".bitnet",
        _ => ".gguf",
    };
    directory.join(format!("{name}-{target}{ending}"))
}

/// Converts without options.
pub fn to(input: &Path, output: &Path, target: Target) -> Result<ConvertReport, ConvertError> {
    convert(input, output, target, &ConvertOptions::default())
}

/// Bits of the logits of a few tokens of the oracle's vocabulary, position by position.
pub fn logits(path: &Path) -> Vec<u32> {
    logits_of(path, &[2043, 17, 301, 1999, 5, 5, 64, 1023])
}

/// Bits of the logits of `ids`, position by position.
pub fn logits_of(path: &Path, ids: &[u32]) -> Vec<u32> {
    let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let engine = InferenceEngine::load(path, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bits = Vec::new();
    engine.session().unwrap().logits(ids, |row| bits.extend(row.iter().map(|x| x.to_bits()))).unwrap();
    bits
}
