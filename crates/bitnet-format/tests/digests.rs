//! A `.bitnet` file in which a byte has changed: found, and by name.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use bitnet_format::{
    Checkpoint, FormatError, FormatErrorKind, OpenOptions, SafetensorsWriter, TensorSpec, TensorType,
    bitnet_keys,
};

fn open(path: &Path) -> Result<Checkpoint, FormatError> {
    Checkpoint::open(path, &OpenOptions::default())
}

/// Three tensors, written in pieces and in another order than their names'.
fn write(path: &Path) {
    let entries =
        [(bitnet_keys::FORMAT, bitnet_keys::VERSION), (bitnet_keys::CONFIG, "{\"hidden_size\": 8}")];
    let metadata: BTreeMap<_, _> = entries.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let specs =
        [("c", 64), ("a", 7), ("b", 1000)].map(|(name, len)| TensorSpec::new(name, TensorType::U8, [len]));
    let mut writer = SafetensorsWriter::create(path, &metadata, &specs).unwrap();
    writer.write("b", &[1; 999]).unwrap();
    writer.write("a", &[2; 7]).unwrap();
    writer.write("c", &[3; 64]).unwrap();
    writer.write("b", &[4]).unwrap();
    writer.finish().unwrap();
}

#[test]
fn every_flipped_bit_of_a_tensor_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.bitnet");
    write(&path);
    let whole = fs::read(&path).unwrap();
    let model = open(&path).unwrap();
    assert_eq!(model.damaged(), Some(vec![]));
    assert_eq!(model.tensors().len(), 3);
    let places: Vec<_> = model.tensors().map(|t| (t.name().to_owned(), t.range())).collect();
    drop(model);
    for (name, range) in places {
        for at in [range.start, range.end - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let damaged = Checkpoint::from_bytes(bytes.into(), &OpenOptions::default()).unwrap();
            assert_eq!(damaged.damaged(), Some(vec![&*name]), "byte {at}");
        }
    }
}

#[test]
fn a_changed_header_is_refused_when_the_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.bitnet");
    write(&path);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|w| w == b"hidden_size").unwrap();
    bytes[at] = b'H';
    fs::write(&path, bytes).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error.kind(), FormatErrorKind::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("m.bitnet: its header is not what was written"), "{error}");
}

#[test]
fn files_without_digests_open_and_say_so() {
    let old = Checkpoint::open(common::testdata("seeds/ours.bitnet"), &OpenOptions::default()).unwrap();
    assert_eq!(old.damaged(), None);
    let gguf = Checkpoint::open(common::testdata("seeds/i2_s.gguf"), &OpenOptions::default()).unwrap();
    assert_eq!(gguf.damaged(), None);
}

#[test]
fn digests_of_another_number_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.bitnet");
    let header = r#"{"__metadata__":{"bitnet.format":"1","bitnet.config":"{}"},"bitnet.filler.digests":{"dtype":"U8","shape":[2,16],"data_offsets":[0,32]}}"#;
    fs::write(&path, common::safetensors(header, &[0; 32])).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error.kind(), FormatErrorKind::Shape { .. }), "{error}");
}
