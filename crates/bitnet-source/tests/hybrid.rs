//! The keys of GGUF files of hybrids, on a file that other software's values belong to.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, Metadata, TensorSpec};
use bitnet_source::{Source, SourceError};

/// A hybrid of three blocks whose kinds are a list: attention, then two recurrent ones. Some of its keys have other values.
fn with_keys(name: &str, other: &[(&str, u32)]) -> Result<Source, SourceError> {
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made/gguf/qwen35-d-F16.gguf");
    let file = Checkpoint::open(Path::new(made), &Default::default()).unwrap();
    let Metadata::Gguf(metadata) = file.metadata() else { unreachable!() };
    let mut keys = GgufKeys::new();
    for (key, value) in metadata.iter().filter(|(key, _)| other.iter().all(|(o, _)| o != key)) {
        keys.copy(key, &value);
    }
    for (key, value) in other {
        keys.u32(key, *value);
    }
    let specs: Vec<TensorSpec> =
        file.tensors().map(|t| TensorSpec::new(t.name(), t.ty(), t.shape().to_vec())).collect();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hybrid-{name}.gguf"));
    let _ = std::fs::remove_file(&path);
    let mut writer = GgufWriter::create(&path, &keys, &specs).unwrap();
    for spec in file.tensors() {
        writer.write(spec.name(), file.tensor(spec.name()).unwrap().bytes()).unwrap();
    }
    writer.finish().unwrap();
    Source::new(Checkpoint::open(&path, &Default::default()).unwrap())
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
