//! What is written is what is read: encoders, writers, and what they refuse.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use bitnet_core::ThreadPool;
use bitnet_format::{
    Checkpoint, FormatErrorKind, GgufKeys, GgufWriter, Metadata, OpenOptions, SafetensorsWriter, TensorSpec,
    TensorType, bitnet_keys,
    encode::{self, EncodeError, Encoded},
    hf_packed_to_ternary, recognize_ternary,
};
use bitnet_quant::{Granularity, Scales, TernaryMatrix};
use proptest::prelude::*;

/// A matrix of trits from a seed, with scales that f16 holds exactly.
fn ternary(rows: usize, cols: usize, granularity: Granularity, seed: u64) -> TernaryMatrix {
    let mut state = seed | 1;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let trits: Vec<i8> = (0..rows * cols).map(|_| (next() % 3) as i8 - 1).collect();
    let count = Scales::count(granularity, rows, cols).unwrap();
    let values: Vec<f32> = (0..count).map(|_| (1 + next() % 1024) as f32 / 1024.0).collect();
    let scales = match granularity {
        Granularity::Tensor => Scales::Tensor(values[0]),
        Granularity::Row => Scales::Row(values),
        Granularity::Group(size) => Scales::Group { size, scales: values },
    };
    TernaryMatrix::from_trits(rows, cols, &trits, scales).unwrap()
}

/// Writes one tensor "w" to a GGUF file and opens it.
fn through_gguf(ty: TensorType, rows: usize, cols: usize, bytes: &[u8]) -> Checkpoint {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    let mut keys = GgufKeys::new();
    keys.str("general.architecture", "test");
    let specs = [TensorSpec::new("w", ty, [rows, cols]), TensorSpec::new("end", TensorType::F32, [8])];
    let mut writer = GgufWriter::create(&path, &keys, &specs).unwrap();
    writer.write("end", &[0; 32]).unwrap();
    // In two pieces, after what follows them.
    let (first, second) = bytes.split_at(bytes.len() / 3);
    writer.write("w", first).unwrap();
    writer.write("w", second).unwrap();
    assert_eq!(writer.finish().unwrap(), fs::metadata(&path).unwrap().len());
    Checkpoint::open(&path, &OpenOptions::default()).unwrap()
}

fn weights(matrix: &TernaryMatrix) -> Vec<f32> {
    let mut out = vec![0.0; matrix.rows() * matrix.cols()];
    out.chunks_exact_mut(matrix.cols()).enumerate().for_each(|(row, out)| matrix.row_to_f32(row, out));
    out
}

/// Writes, reads, and compares trits, weights, and the parallel and floating ways of reading.
fn check(ty: TensorType, source: &TernaryMatrix, encoded: Encoded) {
    let file = through_gguf(ty, source.rows(), source.cols(), &encoded.bytes);
    let view = file.tensor("w").unwrap();
    assert_eq!(view.info().ty(), ty);
    assert_eq!(view.info().shape(), [source.rows(), source.cols()]);
    let read = view.to_ternary().unwrap();
    assert_eq!(weights(&read), weights(source));
    assert_eq!(view.to_f32().unwrap(), weights(source));
    assert_eq!(view.to_ternary_on(&ThreadPool::new(3)).unwrap(), read);
}

#[test]
fn a_block_of_128_alone_is_told_from_two_of_64() {
    let source = ternary(1, 128, Granularity::Tensor, 3);
    check(TensorType::Q2_0 { group: 128 }, &source, encode::encode_q2_0(&source, 128).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ternary_types_keep_every_weight(rows in 1usize..9, blocks in 1usize..4, seed: u64, grain in 0usize..3) {
        let cols = 256 * blocks;
        let granularity = [Granularity::Tensor, Granularity::Row, Granularity::Group(256)][grain];
        let source = ternary(rows, cols, granularity, seed);
        check(TensorType::Tq1_0, &source, encode::encode_tq1_0(&source).unwrap());
        check(TensorType::Tq2_0, &source, encode::encode_tq2_0(&source).unwrap());
        let one = ternary(rows, cols, Granularity::Tensor, seed);
        check(TensorType::I2S, &one, encode::encode_i2_s(&one).unwrap());
        // Tensors of a few rows can be of the same padded size in both groups; these are not.
        let groups = ternary(rows + 16, cols, Granularity::Group(64), seed);
        check(TensorType::Q2_0 { group: 64 }, &groups, encode::encode_q2_0(&groups, 64).unwrap());
        let wide = ternary(rows + 16, cols, Granularity::Group(128), seed);
        check(TensorType::Q2_0 { group: 128 }, &wide, encode::encode_q2_0(&wide, 128).unwrap());
        check(TensorType::Ptq1_0, &wide, encode::encode_ptq1_0(&wide).unwrap());
        let signs: Vec<i8> = wide.codes().iter().flat_map(|c| [0, 2, 4, 6].map(|s| (c >> s & 2) as i8 - 1)).collect();
        let signs = TernaryMatrix::from_trits(rows + 16, cols, &signs, wide.scales().clone()).unwrap();
        check(TensorType::Q1_0, &signs, encode::encode_q1_0(&signs).unwrap());
    }

    #[test]
    fn packed_rows_keep_every_trit(rows in 1usize..9, cols in 1usize..70, seed: u64) {
        let source = ternary(4 * rows, cols, Granularity::Tensor, seed);
        let bytes = encode::encode_hf_packed(&source).unwrap().bytes;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.bitnet");
        let file = write_bitnet(&path, &[("w", TensorType::U8, vec![rows, cols], bytes)]);
        let view = file.tensor("w").unwrap();
        let scale = source.scales().values()[0];
        prop_assert_eq!(hf_packed_to_ternary(&view, 4 * rows, scale).unwrap(), source);
        // transformers pads the last rows of a matrix whose rows are no multiple of four.
        let fewer = hf_packed_to_ternary(&view, 4 * rows - 3, scale).unwrap();
        prop_assert_eq!(fewer.rows(), 4 * rows - 3);
        prop_assert!(hf_packed_to_ternary(&view, 4 * rows + 1, scale).is_err());
    }

    #[test]
    fn exact_trits_are_found_in_floats(rows in 1usize..6, parts in 1usize..5, grain in 0usize..4, seed: u64) {
        let cols = 96 * parts;
        let candidates = [Granularity::Tensor, Granularity::Row, Granularity::Group(32), Granularity::Group(96)];
        let source = ternary(rows, cols, candidates[grain], seed);
        let floats: Vec<u8> = weights(&source).iter().flat_map(|w| w.to_le_bytes()).collect();
        let file = through_gguf(TensorType::F32, rows, cols, &floats);
        let found = recognize_ternary(&file.tensor("w").unwrap()).unwrap().expect("ternary");
        prop_assert_eq!(weights(&found), weights(&source));
        prop_assert!(found.scales().values().len() <= source.scales().values().len());
    }
}

/// Writes a `.bitnet` file of these tensors and opens it.
fn write_bitnet(path: &Path, tensors: &[(&str, TensorType, Vec<usize>, Vec<u8>)]) -> Checkpoint {
    let metadata = BTreeMap::from([
        (bitnet_keys::FORMAT.to_owned(), bitnet_keys::VERSION.to_owned()),
        (bitnet_keys::CONFIG.to_owned(), r#"{"hidden_size":7}"#.to_owned()),
        (bitnet_keys::TOKENIZER.to_owned(), "{\"a\":\"\u{1f600}\"}".to_owned()),
    ]);
    let specs: Vec<_> =
        tensors.iter().map(|(n, ty, shape, _)| TensorSpec::new(*n, *ty, shape.clone())).collect();
    let mut writer = SafetensorsWriter::create(path, &metadata, &specs).unwrap();
    tensors.iter().for_each(|(name, _, _, bytes)| writer.write(name, bytes).unwrap());
    writer.finish().unwrap();
    Checkpoint::open(path, &OpenOptions::default()).unwrap()
}

#[test]
fn our_file_starts_every_tensor_on_a_multiple_of_64() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.bitnet");
    let tensors = [
        ("a", TensorType::U8, vec![3, 5], (0..15).collect::<Vec<u8>>()),
        ("b", TensorType::F32, vec![3], (15..27).collect()),
        ("c", TensorType::Bf16, vec![32], (27..91).collect()),
        ("d", TensorType::U8, vec![1], vec![91]),
    ];
    let file = write_bitnet(&path, &tensors);
    assert_eq!(file.tensors().len(), 4, "fillers are hidden");
    for (name, ty, shape, bytes) in &tensors {
        let view = file.tensor(name).unwrap();
        assert_eq!((view.info().ty(), view.info().shape(), view.bytes()), (*ty, &shape[..], &bytes[..]));
        assert_eq!(view.bytes().as_ptr().align_offset(64), 0, "{name}");
    }
    let Metadata::Bitnet(metadata) = file.metadata() else { panic!("not ours") };
    assert_eq!(metadata.hf.config["hidden_size"], 7);
    assert_eq!(metadata.hf.tokenizer_json.as_ref().unwrap().read().unwrap(), "{\"a\":\"\u{1f600}\"}");
}

#[test]
fn plain_safetensors_have_no_filler() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), "{}").unwrap();
    let path = directory.path().join("model.safetensors");
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let specs = [
        TensorSpec::new("scale", TensorType::Bf16, [1]),
        TensorSpec::new("weight", TensorType::U8, [8, 16]),
        TensorSpec::new("norm", TensorType::F32, [3]),
    ];
    let mut writer = SafetensorsWriter::create(&path, &metadata, &specs).unwrap();
    specs.iter().zip([2, 128, 12]).for_each(|(s, n)| writer.write(&s.name, &vec![7; n]).unwrap());
    writer.finish().unwrap();
    let file = Checkpoint::open(directory.path(), &OpenOptions::default()).unwrap();
    let names: Vec<_> = file.tensors().map(|t| (t.name(), t.range().start % 64)).collect();
    assert_eq!(names, [("weight", 0), ("norm", 0), ("scale", 12)]);
}

#[test]
fn an_unfinished_file_leaves_nothing_and_the_old_one_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    fs::write(&path, "old").unwrap();
    let specs = [TensorSpec::new("w", TensorType::F32, [8])];
    let mut writer = GgufWriter::create(&path, &GgufKeys::new(), &specs).unwrap();
    writer.write("w", &[0; 16]).unwrap();
    let unknown = writer.write("v", &[0]).unwrap_err();
    assert!(matches!(unknown.kind(), FormatErrorKind::NoTensor { .. }), "{unknown}");
    let long = writer.write("w", &[0; 17]).unwrap_err();
    assert!(matches!(long.kind(), FormatErrorKind::Written { expected: 32, got: 33, .. }), "{long}");
    let short = writer.finish().unwrap_err();
    assert!(matches!(short.kind(), FormatErrorKind::Written { expected: 32, got: 16, .. }), "{short}");
    drop(GgufWriter::create(&path, &GgufKeys::new(), &specs).unwrap());
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["m.gguf"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn keys_of_every_type_are_copied_to_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.gguf");
    let file = Checkpoint::open(common::testdata("seeds/all-types.gguf"), &OpenOptions::default()).unwrap();
    let Metadata::Gguf(from) = file.metadata() else { panic!("no GGUF") };
    let mut keys = GgufKeys::new();
    from.iter().for_each(|(key, value)| _ = keys.copy(key, &value));
    GgufWriter::create(&copy, &keys, &[]).unwrap().finish().unwrap();
    let read = Checkpoint::open(&copy, &OpenOptions::default()).unwrap();
    let Metadata::Gguf(to) = read.metadata() else { panic!("no GGUF") };
    assert_eq!(to.iter().collect::<Vec<_>>(), from.iter().collect::<Vec<_>>());
    assert_eq!(to.iter().count(), 13);
    assert_eq!(to.strings("tokens").unwrap(), [&b"a b"[..], b"c"]);
}

#[test]
fn what_a_format_cannot_hold_is_refused_with_the_reason() {
    let rows = ternary(4, 256, Granularity::Row, 1);
    let odd = ternary(3, 192, Granularity::Tensor, 1);
    let fine = ternary(2, 256, Granularity::Group(32), 1);
    let refused = |result: Result<Encoded, EncodeError>, reason: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error:?} lacks {reason:?}");
    };
    refused(
        encode::encode_i2_s(&rows),
        "I2_S has one scale for the whole matrix, and this one has a scale per row",
    );
    refused(encode::encode_i2_s(&odd), "blocks of 128 weights, and 192 columns");
    refused(encode::encode_tq1_0(&odd), "TQ1_0 stores rows in blocks of 256 weights");
    refused(encode::encode_tq2_0(&fine), "row 0 has several within columns 0 to 255");
    refused(encode::encode_q2_0(&fine, 64), "one scale per 64 weights");
    refused(encode::encode_hf_packed(&odd), "packs 4 rows into one, and 3 rows");
    refused(encode::encode_hf_packed(&fine), "a scale per group of 32");
    let large = rows.clone().with_scales(Scales::Tensor(1e6)).unwrap();
    refused(encode::encode_tq2_0(&large), "f16, which cannot hold 1e6 (row 0)");
    let small = rows.with_scales(Scales::Tensor(1e-9)).unwrap();
    refused(encode::encode_tq2_0(&small), "f16, which cannot hold 1e-9");
}

#[test]
fn rounding_a_scale_to_f16_is_reported() {
    let matrix = ternary(2, 256, Granularity::Tensor, 3).with_scales(Scales::Tensor(0.1)).unwrap();
    let loss = encode::encode_tq2_0(&matrix).unwrap().max_scale_loss;
    let expected = (half::f16::from_f32(0.1).to_f32() - 0.1) / 0.1;
    assert_eq!(loss, expected.abs());
    assert!(loss > 0.0 && loss < 1.0 / 2048.0);
}

#[test]
fn minus_zero_is_zero_and_what_is_no_number_is_refused() {
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut values = [0.5f32; 64];
    values[3] = -0.0;
    values[4] = -0.5;
    let file = through_gguf(TensorType::F32, 2, 32, &floats(&values));
    let found = recognize_ternary(&file.tensor("w").unwrap()).unwrap().unwrap();
    let mut trits = [0; 32];
    found.row_trits(0, &mut trits);
    assert_eq!((trits[2], trits[3], trits[4]), (1, 0, -1));
    assert_eq!(found.scales(), &Scales::Tensor(0.5));
    for bad in [f32::NAN, f32::INFINITY] {
        values[40] = bad;
        let file = through_gguf(TensorType::F32, 2, 32, &floats(&values));
        let error = recognize_ternary(&file.tensor("w").unwrap()).unwrap_err().to_string();
        assert!(error.contains("tensor \"w\": the weight at row 1, column 8 is"), "{error}");
    }
}
