//! The smallest models that there are, with whatever is to be wrong with them.
#![allow(dead_code)] // each test file uses a part

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, SafetensorsWriter, TensorSpec, TensorType};
use bitnet_source::Source;
use bitnet_source::SourceError;
use serde_json::{Map, Value, json};

/// Name, shape and values of a tensor of f32.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

const HIDDEN: usize = 16;
const FFN: usize = 24;
const VOCAB: usize = 8;
const HEADS: usize = 2;

/// A place below the tests' own, numbered, since tests of one file run side by side and may use one name.
fn place(name: &str) -> PathBuf {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    let number = PLACES.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", env!("CARGO_CRATE_NAME")))
}

pub fn config(class: &str) -> Map<String, Value> {
    let config = json!({
        "architectures": [class], "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": 1,
        "num_attention_heads": HEADS, "num_key_value_heads": 1, "head_dim": HIDDEN / HEADS, "vocab_size": VOCAB,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
        "tie_word_embeddings": true,
    });
    config.as_object().unwrap().clone()
}

fn tensor(name: String, shape: &[usize]) -> Tensor {
    let values = (0..shape.iter().product()).map(|i: usize| ((i * 37 % 19) as f32 - 9.0) * 0.05).collect();
    (name, shape.to_vec(), values)
}

/// The projections of a block, by `[outputs, inputs]`.
const PROJECTIONS: [(&str, &str, [usize; 2]); 7] = [
    ("self_attn.q_proj", "attn_q", [HIDDEN, HIDDEN]),
    ("self_attn.k_proj", "attn_k", [HIDDEN / HEADS, HIDDEN]),
    ("self_attn.v_proj", "attn_v", [HIDDEN / HEADS, HIDDEN]),
    ("self_attn.o_proj", "attn_output", [HIDDEN, HIDDEN]),
    ("mlp.gate_proj", "ffn_gate", [FFN, HIDDEN]),
    ("mlp.up_proj", "ffn_up", [FFN, HIDDEN]),
    ("mlp.down_proj", "ffn_down", [HIDDEN, FFN]),
];

/// The tensors of block `layer` of a Llama-class model in a Hugging Face directory.
pub fn block(layer: usize) -> Vec<Tensor> {
    let at = |tail: &str| format!("model.layers.{layer}.{tail}.weight");
    let mut all: Vec<Tensor> = PROJECTIONS.iter().map(|(name, _, shape)| tensor(at(name), shape)).collect();
    all.extend(["input_layernorm", "post_attention_layernorm"].map(|norm| tensor(at(norm), &[HIDDEN])));
    all
}

pub fn tensors() -> Vec<Tensor> {
    let mut all = vec![tensor("model.embed_tokens.weight".into(), &[VOCAB, HIDDEN])];
    all.push(tensor("model.norm.weight".into(), &[HIDDEN]));
    all.extend(block(0));
    all
}

/// One more tensor, of a vector.
pub fn vector(name: &str, len: usize) -> Tensor {
    tensor(name.into(), &[len])
}

fn specs(tensors: &[Tensor]) -> Vec<TensorSpec> {
    tensors
        .iter()
        .map(|(name, shape, _)| TensorSpec::new(name.clone(), TensorType::F32, shape.clone()))
        .collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes a Hugging Face directory.
pub fn directory(name: &str, config: &Map<String, Value>, tensors: &[Tensor]) -> PathBuf {
    let path = place(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("config.json"), Value::Object(config.clone()).to_string()).unwrap();
    let file = path.join("model.safetensors");
    let mut writer = SafetensorsWriter::create(&file, &Default::default(), &specs(tensors)).unwrap();
    for (name, _, values) in tensors {
        writer.write(name, &bytes(values)).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// Writes a GGUF of a Llama-class model of one block, or of another architecture with the same tensors.
pub fn gguf(name: &str, architecture: &str, fill: impl FnOnce(&mut GgufKeys), more: Vec<Tensor>) -> PathBuf {
    let path = place(&format!("{name}.gguf"));
    let _ = fs::remove_file(&path);
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", architecture);
    let sizes = [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FFN),
        ("block_count", 1),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", 1),
        ("context_length", 64),
    ];
    for (key, value) in sizes {
        keys.u32(&format!("{architecture}.{key}"), value as u32);
    }
    keys.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5);
    fill(&mut keys);
    let mut all = vec![tensor("token_embd.weight".into(), &[VOCAB, HIDDEN])];
    all.push(vector("output_norm.weight", HIDDEN));
    all.extend(PROJECTIONS.iter().map(|(_, stem, shape)| tensor(format!("blk.0.{stem}.weight"), shape)));
    all.extend(["attn_norm", "ffn_norm"].map(|norm| vector(&format!("blk.0.{norm}.weight"), HIDDEN)));
    // One of the same name takes the place.
    all.retain(|(name, ..)| more.iter().all(|(other, ..)| other != name));
    all.extend(more);
    let mut writer = GgufWriter::create(&path, &keys, &specs(&all)).unwrap();
    for (name, _, values) in &all {
        writer.write(name, &bytes(values)).unwrap();
    }
    writer.finish().unwrap();
    path
}

pub fn open(path: &Path) -> Result<Source, SourceError> {
    Source::new(bitnet_source::open(path, &Default::default())?)
}

/// What is wrong with a model that must be refused.
#[track_caller]
pub fn refusal(path: &Path) -> String {
    match open(path) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{} was taken for a model", path.display()),
    }
}

/// A Llama-class directory with one key of `config.json` set.
pub fn with_key(name: &str, key: &str, value: Value) -> PathBuf {
    let mut config = config("LlamaForCausalLM");
    config.insert(key.into(), value);
    directory(name, &config, &tensors())
}

/// Opened without its type, for those who need the file alone.
pub fn checkpoint(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &Default::default()).unwrap()
}
