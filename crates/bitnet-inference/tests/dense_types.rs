//! A model in any dense type of ggml is the model of the floats that the type stands for, to the last bit of its logits.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, TensorSpec, TensorType};
use bitnet_inference::{InferenceEngine, LoadOptions};

const HIDDEN: usize = 256;
const FFN: usize = 512;
const VOCAB: usize = 48;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// Each type and where the f16 scales of its blocks stand.
const TYPES: [(TensorType, &[usize]); 13] = [
    (TensorType::Q4_0, &[0]),
    (TensorType::Q4_1, &[0, 2]),
    (TensorType::Q5_0, &[0]),
    (TensorType::Q5_1, &[0, 2]),
    (TensorType::Q8_0, &[0]),
    (TensorType::Q2K, &[80, 82]),
    (TensorType::Q3K, &[108]),
    (TensorType::Q4K, &[0, 2]),
    (TensorType::Q5K, &[0, 2]),
    (TensorType::Q6K, &[208]),
    (TensorType::Iq4Nl, &[0]),
    (TensorType::Iq4Xs, &[0]),
    (TensorType::Mxfp4, &[]),
];

fn shapes() -> Vec<(String, Vec<usize>)> {
    let (kv, block) = (HIDDEN / HEADS * KV_HEADS, |name: &str| format!("blk.0.{name}.weight"));
    vec![
        ("token_embd.weight".into(), vec![VOCAB, HIDDEN]),
        ("output.weight".into(), vec![VOCAB, HIDDEN]),
        ("output_norm.weight".into(), vec![HIDDEN]),
        (block("attn_norm"), vec![HIDDEN]),
        (block("ffn_norm"), vec![HIDDEN]),
        (block("attn_q"), vec![HIDDEN, HIDDEN]),
        (block("attn_k"), vec![kv, HIDDEN]),
        (block("attn_v"), vec![kv, HIDDEN]),
        (block("attn_output"), vec![HIDDEN, HIDDEN]),
        (block("ffn_gate"), vec![FFN, HIDDEN]),
        (block("ffn_up"), vec![FFN, HIDDEN]),
        (block("ffn_down"), vec![HIDDEN, FFN]),
    ]
}

fn write(path: &Path, ty: TensorType, mut bytes_of: impl FnMut(&str, usize) -> Vec<u8>) {
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", "llama");
    let sizes = [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FFN),
        ("block_count", 1),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("context_length", 64),
    ];
    for (key, value) in sizes {
        keys.u32(&format!("llama.{key}"), value as u32);
    }
    keys.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let specs: Vec<TensorSpec> =
        shapes().into_iter().map(|(name, shape)| TensorSpec::new(name, ty, shape)).collect();
    let mut writer = GgufWriter::create(path, &keys, &specs).unwrap();
    for spec in &specs {
        let cols = *spec.shape.last().unwrap();
        let len = ty.byte_len(spec.shape.iter().product::<usize>() / cols, cols).unwrap();
        writer.write(&spec.name, &bytes_of(&spec.name, len)).unwrap();
    }
    writer.finish().unwrap();
}

/// Blocks of any bytes with scales of ordinary size.
fn blocks(ty: TensorType, scales: &[usize], seed: &mut u32, len: usize) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| next()).collect();
    for block in bytes.chunks_exact_mut(ty.block().unwrap().1) {
        // 0x0c00 to 0x0fff are 2^-12 to 2^-11.
        scales.iter().for_each(|&at| block[at + 1] = 0x0c | block[at + 1] & 3 | block[at + 1] & 0x80);
        if scales.is_empty() {
            block[0] = 118 + block[0] % 4;
        }
    }
    bytes
}

fn logits(path: &Path) -> Vec<u32> {
    let options = LoadOptions { threads: Some(1), context: Some(16), ..LoadOptions::default() };
    let mut session = InferenceEngine::load(path, &options).unwrap().session().unwrap();
    let mut bits = Vec::new();
    session.logits(&[1, 40, 7, 7, 0], |row| bits.extend(row.iter().map(|v| v.to_bits()))).unwrap();
    bits
}

#[test]
fn every_dense_type_computes_what_its_floats_do() {
    let folder = tempfile::tempdir().unwrap();
    let (stored, widened) = (folder.path().join("stored.gguf"), folder.path().join("widened.gguf"));
    let (mut seed, mut seen) = (7, Vec::new());
    for (ty, scales) in TYPES {
        write(&stored, ty, |_, len| blocks(ty, scales, &mut seed, len));
        let checkpoint = Checkpoint::open(&stored, &Default::default()).unwrap();
        write(&widened, TensorType::F32, |name, _| {
            let values = checkpoint.tensor(name).unwrap().to_f32().unwrap();
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        });
        let of_blocks = logits(&stored);
        assert!(of_blocks.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{ty}");
        assert!(of_blocks == logits(&widened), "{ty}");
        assert!(!seen.contains(&of_blocks), "{ty}");
        seen.push(of_blocks);
    }
}
