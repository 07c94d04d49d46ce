//! Valid files, from which the fuzzers start.

use crate::{
    common::{RawGguf, array, key, safetensors, string, tensor},
    directories::index,
    gguf::{one, two},
    safetensors::{entry, header},
};

/// All of them, by name under `testdata/seeds`.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    [gguf(), safetensors_files(), configs()].into_iter().flatten().collect()
}

/// Valid files, from which the fuzzers start: a tensor of every type that is read, and a key of every type.
fn gguf() -> Vec<(&'static str, Vec<u8>)> {
    let types: [(u32, &[u64], usize); 26] = [
        (0, &[8], 32),
        (1, &[4, 4], 32),
        (30, &[4, 4], 32),
        (2, &[64, 1], 36),
        (8, &[32, 2], 68),
        (12, &[256], 144),
        (14, &[256], 210),
        (34, &[256, 2], 108),
        (35, &[256, 2], 132),
        (36, &[128, 2], 96),
        (42, &[64, 8], 144),
        (134, &[64, 2], 30),
        (135, &[64, 2], 40),
        (335, &[64, 4], 80),
        (3, &[64, 1], 40),
        (6, &[32, 2], 44),
        (7, &[32, 2], 48),
        (10, &[256], 84),
        (11, &[256], 110),
        (13, &[256], 176),
        (20, &[32, 2], 36),
        (23, &[256], 136),
        (39, &[32, 6], 102),
        (142, &[128, 1], 34),
        (143, &[128, 2], 56),
        (41, &[128, 2], 36),
    ];
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (i, (ty, dims, len)) in types.into_iter().enumerate() {
        entries.push(tensor(format!("t{i}"), dims, ty, data.len() as u64));
        // Bytes of code 1, and exponents of ordinary floats.
        data.extend(std::iter::repeat_n(0x15, len));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let strings = array(8, 2, [string("a b"), string("c")].concat());
    let mut keys: Vec<Vec<u8>> = (0..8u32)
        .chain(10..13)
        .map(|ty| {
            key(
                format!("k{ty}"),
                ty,
                [1u8; 8]
                    .split_at(match ty {
                        0 | 1 | 7 => 1,
                        2 | 3 => 2,
                        4..=6 => 4,
                        _ => 8,
                    })
                    .0,
            )
        })
        .collect();
    keys.push(key("tokens", 9, strings));
    keys.push(key("nested", 9, array(9, 1, array(5, 2, [7; 8]))));
    let all = RawGguf { keys, ..RawGguf::new(entries, data) };
    let group_128 = two(&[128, 32], 42, 1088);
    // Negative where the other order has its scales.
    let mut scale_last = two(&[128, 32], 42, 1088);
    scale_last.data[..1088].chunks_exact_mut(34).for_each(|block| block[..2].fill(0xa5));
    vec![
        ("all-types.gguf", all.bytes()),
        ("q2_0-128.gguf", group_128.bytes()),
        ("tq2_0_g128.gguf", scale_last.bytes()),
        ("i2_s.gguf", one(&[64, 4], 36, 96).bytes()),
    ]
}

/// Valid files, from which the fuzzers start.
fn safetensors_files() -> Vec<(&'static str, Vec<u8>)> {
    let entries = [
        entry("packed", "U8", "[2,5]", 0, 10),
        entry("half", "F16", "[2,4]", 10, 26),
        entry("wide", "F32", "[8]", 26, 58),
        entry("brain", "BF16", "[2,32]", 58, 186),
    ];
    let ours = safetensors(header(&entries.join(",")), &[0x15; 186]);
    let plain = safetensors(format!("{{{}}}", entries.join(",")), &[0x15; 186]);
    let tiny = [
        entry("model.embed_tokens.weight", "F16", "[4,8]", 0, 64),
        entry("model.norm.weight", "F16", "[8]", 64, 80),
        entry("model.layers.0.self_attn.q_proj.weight", "U8", "[2,8]", 80, 96),
        entry("model.layers.0.self_attn.q_proj.weight_scale", "F16", "[1]", 96, 98),
    ];
    let tiny = safetensors(format!("{{{}}}", tiny.join(",")), &[0x15; 98]);
    vec![("ours.bitnet", ours), ("plain.safetensors", plain), ("tiny.safetensors", tiny)]
}

/// Inputs of the fuzz target `config`: four texts, separated by zero bytes.
fn configs() -> Vec<(&'static str, Vec<u8>)> {
    let config = r#"{"architectures":["BitNetForCausalLM"],"hidden_size":256,"rms_norm_eps":1e-5,"rope_scaling":null}"#;
    let tokenizer = r#"{"chat_template":[{"name":"default","template":"{{ messages }}"}],"bos_token":"<s>"}"#;
    let map = index(&[("model.norm.weight", "model-00001-of-00001.safetensors")]);
    let texts = [config.as_bytes(), br#"{"eos_token_id":[1,2]}"#, tokenizer.as_bytes(), &map];
    vec![("directory.config", texts.join(&0))]
}
