//! A synthetic model as a GGUF file that other engines read too: TQ2_0 projections, Q6_K embedding and head, and a vocabulary
//! of invented words.

use std::path::Path;

use bitnet_core::ThreadPool;
use bitnet_format::{GgufKeys, GgufWriter, TensorSpec, TensorType, encode::encode_tq2_0};
use bitnet_model::{Config, Norm, Part, PartSource, Weight};
use bitnet_source::family;
use half::f16;

use crate::{
    BenchmarkError, ModelShape, Synthetic, Watcher,
    synthetic::{Random, deviation, seed},
};

/// Bytes and weights of a Q6_K block, and where its scales begin.
const BLOCK: usize = 210;
const BLOCK_WEIGHTS: usize = 256;
const SCALES: usize = 192;
/// A block's scales: large enough that its f16 factor is an ordinary number.
const SCALE: i8 = 12;
/// `general.file_type` of files whose projections are TQ2_0.
const FILE_TYPE: u32 = 37;

/// Writes a model of `shape` to `path`; returns the bytes of the file.
///
/// The architecture is one that llama.cpp knows; its `bitnet` has SiLU in the place of squared ReLU, at the same cost.
///
/// # Errors
/// When a row is no whole number of blocks, the disk refuses, or `watcher` stops it.
pub fn write_gguf(
    shape: ModelShape,
    path: &Path,
    threads: &ThreadPool,
    watcher: &dyn Watcher,
) -> Result<u64, BenchmarkError> {
    let source = Synthetic::new(shape, bitnet_core::HybridMemoryPool::new(), threads);
    let config = source.config();
    let norms =
        (0..config.layers).flat_map(|layer| Norm::of(config, layer).map(move |n| Part::Norm(layer, n)));
    let parts: Vec<Part> = Part::matrices(config).chain(norms).chain([Part::FinalNorm]).collect();
    let specs: Vec<TensorSpec> = parts.iter().map(|&part| spec(part, config)).collect();
    let mut writer = GgufWriter::create(path, &keys(shape, config), &specs)?;
    for (number, (&part, spec)) in parts.iter().zip(&specs).enumerate() {
        watcher.begins(&spec.name, number, parts.len());
        if watcher.stopped() {
            return Err(BenchmarkError::Stopped);
        }
        match part {
            Part::Weight(..) => {
                let Weight::Ternary(matrix) = source.weight(part)? else { continue };
                let encoded = encode_tq2_0(&matrix)
                    .map_err(|source| BenchmarkError::Encode { tensor: spec.name.clone(), source })?;
                writer.write(&spec.name, &encoded.bytes)?;
            }
            Part::Embedding | Part::Head => {
                let row = config.hidden / BLOCK_WEIGHTS * BLOCK;
                let rows = |first: usize| {
                    q6_k(row * 1024.min(config.vocab - first), config.hidden, seed(part) ^ first as u64)
                };
                for first in (0..config.vocab).step_by(1024) {
                    writer.write(&spec.name, &rows(first))?;
                }
            }
            _ => {
                let values = source.vector(part)?.unwrap_or_default();
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                writer.write(&spec.name, &bytes)?;
            }
        }
    }
    Ok(writer.finish()?)
}

fn spec(part: Part, config: &Config) -> TensorSpec {
    let name = family::gguf::name(part);
    match part {
        Part::Weight(_, projection) => TensorSpec::new(name, TensorType::Tq2_0, projection.shape(config)),
        Part::Embedding | Part::Head => TensorSpec::new(name, TensorType::Q6K, [config.vocab, config.hidden]),
        Part::Norm(_, norm) => TensorSpec::new(name, TensorType::F32, [norm.len(config)]),
        _ => TensorSpec::new(name, TensorType::F32, [config.hidden]),
    }
}

/// `len` bytes of random Q6_K blocks whose weights have the deviation of an embedding's.
fn q6_k(len: usize, hidden: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(len);
    // Six random bits have the deviation of a uniform distribution over 64 values.
    let unit = (4095.0f32 / 12.0).sqrt() * f32::from(SCALE);
    let factor = f16::from_f32(deviation(hidden) / unit).to_le_bytes();
    for block in bytes.as_chunks_mut::<BLOCK>().0 {
        block[SCALES..SCALES + 16].fill(SCALE as u8);
        block[SCALES + 16..].copy_from_slice(&factor);
    }
    bytes
}

fn keys(shape: ModelShape, config: &Config) -> GgufKeys {
    let arch = match config.family {
        family::LLAMA => "llama",
        family::QWEN3 => "qwen3",
        _ => "bitnet",
    };
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", arch).str("general.name", &format!("synthetic {}", shape.name));
    keys.u32("general.file_type", FILE_TYPE).u32("general.quantization_version", 2);
    family::gguf::to_keys(config, arch, &mut keys);
    vocabulary(&mut keys, config.vocab);
    keys
}

/// Three control tokens, all bytes, and invented words: what a sentencepiece vocabulary must have.
fn vocabulary(keys: &mut GgufKeys, size: usize) {
    const FIRST: [&str; 3] = ["<unk>", "<s>", "</s>"];
    let token = |id: usize| match id {
        0..3 => FIRST[id].to_owned(),
        3..259 => format!("<0x{:02X}>", id - 3),
        _ => format!("w{id}"),
    };
    // As llama.cpp numbers them: 1 normal, 2 unknown, 3 control, 6 byte.
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    let tokens: Vec<String> = (0..size).map(token).collect();
    let kinds: Vec<i32> = (0..size).map(kind).collect();
    let scores: Vec<f32> = (0..size).map(|id| -(id as f32)).collect();
    keys.str("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", &tokens);
    keys.f32s("tokenizer.ggml.scores", &scores).i32s("tokenizer.ggml.token_type", &kinds);
    keys.u32("tokenizer.ggml.unknown_token_id", 0).u32("tokenizer.ggml.bos_token_id", 1);
    keys.u32("tokenizer.ggml.eos_token_id", 2);
}
