//! The keys of GGUF files of hybrids, on a file that other software's values belong to.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, Metadata, TensorSpec, TensorType};
use bitnet_model::{Part, Projection};
use bitnet_source::{Source, SourceError};

/// A made file with some keys set anew by `set`, and one tensor of zeros more.
fn remade(
    name: &str,
    made: &str,
    other: &[&str],
    set: impl FnOnce(&mut GgufKeys),
    more: Option<(&str, usize)>,
) -> Result<Source, SourceError> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made/gguf");
    let file = Checkpoint::open(Path::new(folder).join(made), &Default::default()).unwrap();
    let Metadata::Gguf(metadata) = file.metadata() else { unreachable!() };
    let mut keys = GgufKeys::new();
    for (key, value) in metadata.iter().filter(|(key, _)| !other.contains(key)) {
        keys.copy(key, &value);
    }
    set(&mut keys);
    let mut specs: Vec<TensorSpec> =
        file.tensors().map(|t| TensorSpec::new(t.name(), t.ty(), t.shape().to_vec())).collect();
    specs.extend(more.map(|(name, len)| TensorSpec::new(name, TensorType::F32, vec![len])));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hybrid-{name}.gguf"));
    let _ = std::fs::remove_file(&path);
    let mut writer = GgufWriter::create(&path, &keys, &specs).unwrap();
    for spec in file.tensors() {
        writer.write(spec.name(), file.tensor(spec.name()).unwrap().bytes()).unwrap();
    }
    if let Some((name, len)) = more {
        let numbers: Vec<u8> = (0..len).flat_map(|i| (i as f32).to_le_bytes()).collect();
        writer.write(name, &numbers).unwrap();
    }
    writer.finish().unwrap();
    Source::new(Checkpoint::open(&path, &Default::default()).unwrap())
}

/// A hybrid of three blocks whose kinds are a list: attention, then two recurrent ones. Some of its keys have other values.
fn with_keys(name: &str, other: &[(&str, u32)]) -> Result<Source, SourceError> {
    let names: Vec<&str> = other.iter().map(|(key, _)| *key).collect();
    let set = |keys: &mut GgufKeys| {
        for (key, value) in other {
            keys.u32(key, *value);
        }
    };
    remade(name, "qwen35-d-F16.gguf", &names, set, None)
}

/// Queries and their gates are rows of one matrix, and so are their biases.
#[test]
fn biases_of_queries_come_with_those_of_their_gates() {
    let with = |len| remade("biased", "qwen35-d-F16.gguf", &[], |_| {}, Some(("blk.0.attn_q.bias", len)));
    let plain = with_keys("plain", &[]).unwrap();
    let (width, dim) = (plain.config().q_width(), plain.config().head_dim);
    let text = with(width).err().unwrap().to_string();
    assert!(text.contains("blk.0.attn_q.bias") && text.contains(&(2 * width).to_string()), "{text}");
    let whole = with(2 * width).unwrap();
    let of = |projection| whole.vector(Part::Bias(0, projection)).unwrap().unwrap();
    let (query, gate) = (of(Projection::Query), of(Projection::AttentionGate));
    assert_eq!((query.len(), gate.len()), (width, width));
    assert_eq!((query[0], gate[0], query[dim]), (0.0, dim as f32, 2.0 * dim as f32));
}

/// A transform mixes inputs, so it cannot be undone by moving columns.
#[test]
fn folded_outputs_whose_heads_are_tiled_are_refused() {
    let key = "prism.hadamard.gdn_v_grouped";
    let made = "qwen35-j-folded32-PQ2_0.gguf";
    let with = |grouped: bool| {
        remade(
            "tiled",
            made,
            &[key],
            |keys| {
                keys.bool(key, grouped);
            },
            None,
        )
    };
    with(true).unwrap();
    let text = with(false).err().unwrap().to_string();
    assert!(text.contains(key) && text.contains("ssm_out"), "{text}");
}

#[test]
fn a_list_of_kinds_may_go_on_with_the_blocks_that_draft_tokens() {
    let kinds = |source: &Source| source.config().recurrent.as_ref().unwrap().blocks.clone();
    assert_eq!(kinds(&with_keys("listed", &[]).unwrap()), [false, true, true]);
    // The last block drafts tokens: llama.cpp has as many items as blocks, those among them.
    let drafts = with_keys("drafting", &[("qwen35.nextn_predict_layers", 1)]).unwrap();
    assert_eq!((drafts.config().layers, kinds(&drafts)), (2, vec![false, true]));
    let more = with_keys("four", &[("qwen35.block_count", 4)]).err().unwrap().to_string();
    assert!(more.contains("kinds of layers") && more.contains("expected 4"), "{more}");
}

#[test]
fn no_value_heads_are_refused_by_their_key() {
    let text = with_keys("headless", &[("qwen35.ssm.time_step_rank", 0)]).err().unwrap().to_string();
    assert!(text.contains("ssm.time_step_rank") && text.contains("1 value head or more"), "{text}");
}

/// A contract in a file of its own is not passed over.
#[test]
fn a_directory_with_a_contract_beside_it_is_refused() {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/oracle-made/dense-qwen35-f-bf16");
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hybrid-beside");
    std::fs::create_dir_all(&place).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(made.join(file), place.join(file)).unwrap();
    }
    let contract = place.join("hadamard.json");
    let _ = std::fs::remove_file(&contract);
    let open = || Source::new(Checkpoint::open(&place, &Default::default()).unwrap());
    open().unwrap();
    std::fs::write(&contract, "{}").unwrap();
    let text = open().err().unwrap().to_string();
    assert!(text.contains("hadamard.json") && text.contains("GGUF"), "{text}");
}
