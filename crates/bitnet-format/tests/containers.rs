//! Directories, shards, split files and metadata, as they should be.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use std::fs;

use bitnet_format::{
    Checkpoint, FormatErrorKind, HfMetadata, Metadata, OpenOptions, TensorType, TensorView, TextSource,
};
use common::{RawGguf, key, string, tensor, testdata};

fn open(path: &str) -> Checkpoint {
    Checkpoint::open(testdata(path), &OpenOptions::default()).unwrap()
}

fn hugging_face(checkpoint: &Checkpoint) -> &HfMetadata {
    let Metadata::HuggingFace(metadata) = checkpoint.metadata() else { panic!("{checkpoint:?}") };
    metadata
}

#[test]
fn a_directory_gives_its_texts_and_tensors() {
    let model = open("oracle/bitnet-a-offline-packed");
    let metadata = hugging_face(&model);
    assert_eq!(metadata.config["hidden_size"], 256);
    assert!(metadata.generation_config.as_ref().unwrap().is_object());
    let template =
        fs::read_to_string(testdata("oracle/bitnet-a-offline-packed/chat_template.jinja")).unwrap();
    assert_eq!(metadata.chat_template.as_ref(), Some(&template));
    let Some(tokenizer @ TextSource::File(_)) = &metadata.tokenizer_json else { panic!("no tokenizer") };
    assert!(tokenizer.read().unwrap().contains("\"model\""));
    let info = model.info("model.layers.0.mlp.down_proj.weight").unwrap();
    assert_eq!((info.ty(), info.shape(), info.byte_len()), (TensorType::U8, &[64, 512][..], 64 * 512));
    let missing = model.tensor("model.layers.9.mlp.down_proj.weight").unwrap_err();
    assert!(matches!(missing.kind(), FormatErrorKind::NoTensor { .. }), "{missing}");
}

#[test]
fn shards_are_one_model() {
    let model = open("oracle-made/bitnet-d-offline-packed-3shards");
    assert_eq!(model.files().len(), 3);
    let shards: Vec<usize> = model.tensors().map(|t| t.shard()).collect();
    assert!((0..3).all(|s| shards.contains(&s)));
    for info in model.tensors() {
        assert_eq!(model.tensor(info.name()).unwrap().bytes().len(), info.byte_len(), "{}", info.name());
    }
}

#[test]
fn a_file_in_a_directory_is_found_and_a_lone_one_takes_its_config() {
    let model = open("oracle/qwen3-a-ternary-g64/model.safetensors");
    assert_eq!(hugging_face(&model).config["model_type"], "qwen3");
    let directory = tempfile::tempdir().unwrap();
    fs::copy(testdata("seeds/all-types.gguf"), directory.path().join("m.gguf")).unwrap();
    // A directory named like a model is none.
    fs::create_dir(directory.path().join("n.gguf")).unwrap();
    let found = Checkpoint::open(directory.path(), &OpenOptions::default()).unwrap();
    assert!(matches!(found.metadata(), Metadata::Gguf(_)), "{found:?}");
}

#[test]
fn the_parts_of_a_split_file_are_one_model() {
    let directory = tempfile::tempdir().unwrap();
    for (number, name) in [(0u16, "a"), (1, "b"), (2, "c")] {
        let mut raw = RawGguf::new(vec![tensor(name, &[8], 0, 0)], vec![number as u8; 32]);
        raw.keys.push(key("split.no", 2, number.to_le_bytes()));
        raw.keys.push(key("split.count", 2, 3u16.to_le_bytes()));
        raw.keys.push(key("split.tensors.count", 5, 3i32.to_le_bytes()));
        fs::write(directory.path().join(format!("m-{:05}-of-00003.gguf", number + 1)), raw.bytes()).unwrap();
    }
    let model =
        Checkpoint::open(directory.path().join("m-00001-of-00003.gguf"), &OpenOptions::default()).unwrap();
    let bytes: Vec<_> = ["a", "b", "c"].map(|n| model.tensor(n).unwrap().bytes()[0]).into();
    assert_eq!(bytes, [0, 1, 2]);
}

#[test]
fn keys_of_a_real_header_have_their_types() {
    let model = open("oracle/gguf/bitnet-a-I2_S.gguf");
    let Metadata::Gguf(keys) = model.metadata() else { panic!("no GGUF") };
    assert_eq!(keys.architecture().unwrap(), "bitnet-b1.58");
    assert_eq!(keys.u64("bitnet-b1.58.embedding_length").unwrap(), 256);
    assert_eq!(keys.f32("bitnet-b1.58.attention.layer_norm_rms_epsilon").unwrap(), 1e-5);
    assert!(keys.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(keys.strings("tokenizer.ggml.tokens").unwrap().len(), 2048);
    assert_eq!(keys.opt_i64s("tokenizer.ggml.token_type").unwrap().unwrap().len(), 2048);
    assert_eq!(keys.opt_str("no.such.key").unwrap(), None);
    let missing = keys.u64("no.such.key").unwrap_err().to_string();
    assert_eq!(missing, "the metadata key \"no.such.key\" is missing");
    let wrong = keys.u64("general.architecture").unwrap_err().to_string();
    assert!(
        wrong.contains("should be a non-negative integer, but is the string \"bitnet-b1.58\""),
        "{wrong}"
    );
}

#[test]
fn version_2_has_the_layout_of_version_3() {
    let mut raw = RawGguf::new(vec![tensor("t", &[8], 0, 0)], vec![7; 32]);
    raw.version = 2;
    raw.keys.push(key("general.name", 8, string("two")));
    let model = Checkpoint::from_bytes(raw.bytes().into(), &OpenOptions::default()).unwrap();
    assert_eq!(model.tensor("t").unwrap().bytes(), [7; 32]);
}

#[test]
fn a_view_of_the_wrong_bytes_gives_errors() {
    let model = open("seeds/all-types.gguf");
    for info in model.tensors() {
        let view = TensorView::from_parts(info, vec![0x15; info.byte_len() - 1].into());
        assert!(view.to_f32().is_err() && view.to_ternary().is_err() && view.to_dense().is_err(), "{info:?}");
        let mut row = vec![0; info.cols().div_ceil(4)];
        assert!(view.ternary_row(0, &mut row).is_err() && view.ternary_scales().is_err(), "{info:?}");
        let right = model.view(info).unwrap();
        assert!(right.dequantize_row(info.rows(), &mut vec![0.0; info.cols()]).is_err(), "{info:?}");
        assert!(right.dequantize_row(0, &mut vec![0.0; info.cols() + 1]).is_err(), "{info:?}");
    }
}

#[test]
fn misaligned_floats_are_copied_to_where_they_can_be_read() {
    // One odd byte in front: what follows starts on no multiple of two.
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[1,25]}}"#;
    let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let file = common::safetensors(header, &[&[9][..], &values].concat());
    let metadata = hugging_face(&open("oracle/bitnet-a-offline-packed")).clone();
    let model = Checkpoint::from_safetensors(vec![file.into()], metadata).unwrap();
    let dense = model.tensor("b").unwrap().to_dense().unwrap();
    let mut row = [0.0; 3];
    dense.row_to_f32(1, &mut row);
    assert_eq!(row, [3.0, 4.0, 5.0]);
}

/// Part `number` (from 1) of a split model, with one tensor.
fn part(number: u16, count: u16) -> Vec<u8> {
    let values: Vec<u8> = [f32::from(number); 8].iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut raw = RawGguf::new(vec![tensor(format!("t{number}"), &[8], 0, 0)], values);
    raw.keys.push(key("split.no", 2, (number - 1).to_le_bytes()));
    raw.keys.push(key("split.count", 2, count.to_le_bytes()));
    raw.keys.push(key(format!("only.in.{number}"), 7, [1]));
    raw.bytes()
}

#[test]
fn a_split_model_is_one_by_any_part_and_by_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let at = |number: u16| folder.path().join(format!("m-{number:05}-of-00003.gguf"));
    (1..=3).for_each(|number| fs::write(at(number), part(number, 3)).unwrap());
    for path in [folder.path().to_owned(), at(1), at(2), at(3)] {
        let model = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(model.files().len(), 3);
        for number in 1..=3u8 {
            let values = model.tensor(&format!("t{number}")).unwrap().to_f32().unwrap();
            assert_eq!(values, [f32::from(number); 8], "{}", path.display());
        }
        let Metadata::Gguf(keys) = model.metadata() else { panic!("{model:?}") };
        assert!(keys.get("only.in.1").is_some() && keys.get("only.in.2").is_none());
    }
    // Another file beside them is another model.
    fs::write(folder.path().join("a.gguf"), part(1, 1)).unwrap();
    let said = Checkpoint::open(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(said.contains("name one of them (a.gguf, m-00001-of-00003.gguf and its 3 parts)"), "{said}");
    fs::remove_file(folder.path().join("a.gguf")).unwrap();
    fs::remove_file(at(2)).unwrap();
    for path in [folder.path().to_owned(), at(1), at(3)] {
        let said = Checkpoint::open(&path, &OpenOptions::default()).unwrap_err().to_string();
        assert!(said.contains("the shard \"m-00002-of-00003.gguf\" is missing"), "{said}");
    }
}

#[test]
fn texts_are_read_as_python_writes_and_opens_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("config.json", "\u{feff}{\"hidden_size\": 8,\r\n \"limit\": [Infinity, -Infinity]}\r\n");
    write("generation_config.json", "\u{feff}{\"x\": NaN}");
    write("tokenizer_config.json", "{\"model_max_length\": Infinity}");
    write("tokenizer.json", "\u{feff}{\"added_tokens\": [], \"score\": -Infinity}");
    write("chat_template.jinja", "\u{feff}a\r\nb\rc\n");
    let read = HfMetadata::read(folder.path()).unwrap();
    assert_eq!(read.config["hidden_size"], 8);
    assert_eq!(read.config["limit"][1], "-Infinity");
    assert_eq!(read.generation_config.unwrap()["x"], "NaN");
    assert_eq!(read.tokenizer_config.unwrap()["model_max_length"], "Infinity");
    assert_eq!(
        read.tokenizer_json.unwrap().read().unwrap(),
        "{\"added_tokens\": [], \"score\": \"-Infinity\"}"
    );
    assert_eq!(read.chat_template.as_deref(), Some("a\nb\nc\n"));
    for (name, text, expected) in [
        (
            "tokenizer_config.json",
            "{\"a\": 1, \"a\": 1}",
            "tokenizer_config.json: the key \"a\" stands twice",
        ),
        ("generation_config.json", "{\"a\": ten}", "generation_config.json: expected ident"),
        ("config.json", "{\"a\": ten}", "at line 1 column 8, in \"{\\\"a\\\": ten}\""),
    ] {
        write(name, text);
        let said = HfMetadata::read(folder.path()).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
        write(name, "{}");
    }
}
