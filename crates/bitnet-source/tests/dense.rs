//! Models of floats are read as they are, whatever order a converter has put their rows in.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, TensorSpec, TensorType};
use bitnet_model::{Config, Part, Projection, Weight};
use bitnet_source::{Source, family::gguf};

fn open(path: &Path) -> Source {
    Source::new(Checkpoint::open(path, &Default::default()).unwrap()).unwrap()
}

fn llama() -> Source {
    open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made/dense-llama-f16")))
}

fn rows(source: &Source, part: Part) -> Vec<Vec<f32>> {
    let Weight::Table(table) = source.weight(part).unwrap() else { panic!("{part:?} is no table") };
    let mut row = vec![0.0; table.cols()];
    let mut read = |r| {
        table.row_to_f32(r, &mut row);
        row.clone()
    };
    (0..table.rows()).map(&mut read).collect()
}

/// The same model as llama.cpp's converter writes it: rows of queries and keys interleaved.
fn gguf_of(source: &Source, path: &Path) {
    let c: &Config = source.config();
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", "llama");
    let sizes = [
        ("embedding_length", c.hidden),
        ("feed_forward_length", c.ffn),
        ("block_count", c.layers),
        ("attention.head_count", c.heads),
        ("attention.head_count_kv", c.kv_heads),
        ("context_length", c.context),
    ];
    for (key, value) in sizes {
        keys.u32(&format!("llama.{key}"), value as u32);
    }
    keys.f32("llama.attention.layer_norm_rms_epsilon", c.norm_eps);
    let mut tensors = Vec::new();
    for part in source.matrices() {
        let mut all = rows(source, part);
        let heads = match part {
            Part::Weight(_, Projection::Query) => c.heads,
            Part::Weight(_, Projection::Key) => c.kv_heads,
            _ => 0,
        };
        if heads > 0 {
            all = gguf::interleaved_order(heads, c.head_dim).into_iter().map(|r| all[r].clone()).collect();
        }
        tensors.push((gguf::name(part), vec![all.len(), all[0].len()], all.concat()));
    }
    for part in source.vectors() {
        let values = source.vector(part).unwrap().unwrap();
        tensors.push((gguf::name(part), vec![values.len()], values));
    }
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, shape, _)| TensorSpec::new(name, TensorType::F32, shape.clone()))
        .collect();
    let _ = std::fs::remove_file(path);
    let mut writer = GgufWriter::create(path, &keys, &specs).unwrap();
    for (name, _, values) in &tensors {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn interleaved_rows_of_floats_come_back_in_the_models_order() {
    let source = llama();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dense-llama.gguf");
    gguf_of(&source, &path);
    let read = open(&path);
    assert!(!read.config().trained_int8, "dense projections come from no training with int8");
    for part in source.matrices() {
        assert_eq!(rows(&source, part), rows(&read, part), "{part:?}");
    }
}
