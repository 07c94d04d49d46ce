//! Every decoder and encoder against bytes and values that others made (see `testdata/oracle`): exact.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use bitnet_format::{Checkpoint, OpenOptions, TensorType, encode, hf_packed_to_ternary, recognize_ternary};
use bitnet_quant::{Granularity, Scales, TernaryMatrix};
use common::{Array, RawGguf, npz, safetensors, tensor, testdata};

/// A GGUF file of one tensor "t" of `rows` by `cols`.
fn gguf(rows: usize, cols: usize, ty: u32, bytes: &[u8]) -> Checkpoint {
    let entry = tensor("t", &[cols as u64, rows as u64], ty, 0);
    let raw = RawGguf::new(vec![entry], bytes.to_vec()).bytes();
    Checkpoint::from_bytes(raw.into(), &OpenOptions::default()).unwrap()
}

fn open(path: &str) -> Checkpoint {
    Checkpoint::open(testdata("oracle").join(path), &OpenOptions::default()).unwrap()
}

fn matrix(array: &Array) -> (usize, usize) {
    let cols = *array.shape.last().unwrap();
    (array.f32s().len() / cols, cols)
}

/// The values as an F32 tensor, looked at for trits.
fn recognized(array: &Array) -> TernaryMatrix {
    let (rows, cols) = matrix(array);
    let file = gguf(rows, cols, 0, &array.bytes);
    recognize_ternary(&file.tensor("t").unwrap()).unwrap().expect("ternary values")
}

fn weights(matrix: &TernaryMatrix) -> Vec<f32> {
    let mut out = vec![0.0; matrix.rows() * matrix.cols()];
    out.chunks_exact_mut(matrix.cols()).enumerate().for_each(|(row, out)| matrix.row_to_f32(row, out));
    out
}

fn trits(matrix: &TernaryMatrix) -> &[u8] {
    matrix.codes()
}

#[test]
fn block_types_decode_to_the_values_of_ggml() {
    let blocks = npz("oracle/gguf-blocks/blocks.npz");
    let cases = [
        ("Q4_0", 2),
        ("Q8_0", 8),
        ("Q4_K", 12),
        ("Q6_K", 14),
        ("TQ1_0", 34),
        ("TQ2_0", 35),
        ("float.Q4_0", 2),
        ("float.Q8_0", 8),
        ("float.BF16", 30),
        ("float.F16", 1),
        ("float.TQ1_0", 34),
        ("float.TQ2_0", 35),
    ];
    for (name, ty) in cases {
        let expected = &blocks[&format!("{name}.f32")];
        let (rows, cols) = matrix(expected);
        let file = gguf(rows, cols, ty, &blocks[&format!("{name}.bytes")].bytes);
        assert_eq!(file.tensor("t").unwrap().to_f32().unwrap(), expected.f32s(), "{name}");
    }
}

#[test]
fn dense_block_types_decode_to_the_bits_of_the_gguf_package() {
    let blocks = npz("oracle-made/dense-blocks/blocks.npz");
    let cases = [
        ("Q4_1", 3, TensorType::Q4_1),
        ("Q5_0", 6, TensorType::Q5_0),
        ("Q5_1", 7, TensorType::Q5_1),
        ("Q2_K", 10, TensorType::Q2K),
        ("Q3_K", 11, TensorType::Q3K),
        ("Q5_K", 13, TensorType::Q5K),
        ("IQ4_NL", 20, TensorType::Iq4Nl),
        ("IQ4_XS", 23, TensorType::Iq4Xs),
        ("MXFP4", 39, TensorType::Mxfp4),
    ];
    assert_eq!(blocks.len(), 2 * cases.len());
    for (name, id, ty) in cases {
        let expected = &blocks[&format!("{name}.f32")];
        let (rows, cols) = matrix(expected);
        let file = gguf(rows, cols, id, &blocks[&format!("{name}.bytes")].bytes);
        let view = file.tensor("t").unwrap();
        assert_eq!(view.info().ty(), ty);
        let (read, expected) = (view.to_f32().unwrap(), expected.f32s());
        let differs = read.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differs, None, "{name}");
        assert_eq!(read.len(), expected.len());
        assert_eq!(ty.to_string(), name);
    }
}

#[test]
fn tq_encoders_write_the_bytes_of_ggml() {
    let blocks = npz("oracle/gguf-blocks/blocks.npz");
    let source = recognized(&blocks["ternary.src"]);
    assert_eq!(encode::encode_tq1_0(&source).unwrap().bytes, blocks["TQ1_0.bytes"].u8s());
    assert_eq!(encode::encode_tq2_0(&source).unwrap().bytes, blocks["TQ2_0.bytes"].u8s());
}

#[test]
fn tq_blocks_are_ternary_with_their_scales() {
    let blocks = npz("oracle/gguf-blocks/blocks.npz");
    for (name, ty) in [("TQ1_0", 34), ("TQ2_0", 35)] {
        let expected = &blocks[&format!("{name}.f32")];
        let (rows, cols) = matrix(expected);
        let file = gguf(rows, cols, ty, &blocks[&format!("{name}.bytes")].bytes);
        let ternary = file.tensor("t").unwrap().to_ternary().unwrap();
        assert_eq!(weights(&ternary), expected.f32s(), "{name}");
    }
}

#[test]
fn q2_0_in_both_groups_is_what_llama_cpp_reads_and_writes() {
    let blocks = npz("oracle/q2_0-blocks/blocks.npz");
    for (name, group, bytes_of_block) in [("Q2_0", 64, 18), ("g128", 128, 34)] {
        let (bytes, expected) = (&blocks[&format!("{name}.bytes")], &blocks[&format!("{name}.f32")]);
        let rows = bytes.bytes.len() / bytes_of_block;
        let file = gguf(rows, group, 42, &bytes.bytes);
        let view = file.tensor("t").unwrap();
        assert_eq!(view.info().ty(), TensorType::Q2_0 { group }, "{name}");
        assert_eq!(view.to_f32().unwrap(), expected.f32s(), "{name}");
    }
    let (source, bytes) = (recognized(&blocks["ternary.src"]), blocks["ternary.bytes"].u8s());
    assert_eq!(encode::encode_q2_0(&source, 64).unwrap().bytes, bytes);
    let file = gguf(source.rows(), source.cols(), 42, bytes);
    let read = file.tensor("t").unwrap().to_ternary().unwrap();
    assert_eq!(trits(&read), trits(&source));
}

#[test]
fn code_three_of_q2_0_is_a_value_but_no_trit() {
    let blocks = npz("oracle/q2_0-blocks/blocks.npz");
    let bytes = blocks["Q2_0.bytes"].u8s();
    let file = gguf(bytes.len() / 18, 64, 42, bytes);
    let error = file.tensor("t").unwrap().to_ternary().unwrap_err().to_string();
    // Those of groups with a scale, which are counted here once more.
    let threes = |block: &[u8]| -> u32 {
        let of = |b: &u8| (b & (b >> 1) & 0x55).count_ones();
        if (block[0], block[1] & 0x7f) == (0, 0) { 0 } else { block[2..].iter().map(of).sum() }
    };
    let count: u32 = bytes.chunks_exact(18).map(threes).sum();
    let told = format!("tensor \"t\": {count} of its weights are +2 (code 3; the first at row 1, column 3)");
    assert!(count > 500 && error.contains(&told), "{error}");
}

#[test]
fn ik_llama_row_scaled_types_hold_their_source() {
    let read = |name: &str| std::fs::read(testdata("oracle/ik-bn").join(name)).unwrap();
    let source: Vec<f32> =
        read("n512_src.f32").as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let halves: Vec<f32> = source.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect();
    let cases = [
        ("n512_iq1_bn.bin", 134, TensorType::Iq1Bn, &halves),
        ("n512_iq2_bn.bin", 135, TensorType::Iq2Bn, &source),
        ("n512_iq2_bn_r4.bin", 335, TensorType::Iq2BnR4, &source),
    ];
    for (name, id, ty, expected) in cases {
        let file = gguf(8, 512, id, &read(name));
        let view = file.tensor("t").unwrap();
        assert_eq!(view.info().ty(), ty);
        assert_eq!(&view.to_f32().unwrap(), expected, "{name}");
        assert_eq!(&weights(&view.to_ternary().unwrap()), expected, "{name}");
    }
}

#[test]
fn hugging_face_packing_is_that_of_transformers() {
    let vectors = npz("oracle/elementwise/elementwise.npz");
    for layer in 0..4 {
        let (packed, ternary) = (&vectors[&format!("{layer}.packed")], &vectors[&format!("{layer}.ternary")]);
        let (rows, cols) = (ternary.shape[0], ternary.shape[1]);
        let values: Vec<i8> = ternary.u8s().iter().map(|&b| b as i8).collect();
        let expected = TernaryMatrix::from_trits(rows, cols, &values, Scales::Tensor(0.5)).unwrap();
        let header = format!(
            r#"{{"__metadata__":{{"bitnet.format":"1","bitnet.config":"{{}}"}},"w":{{"dtype":"U8","shape":[{},{cols}],"data_offsets":[0,{}]}}}}"#,
            packed.shape[0],
            packed.bytes.len(),
        );
        let bytes = safetensors(header, packed.u8s());
        let file = Checkpoint::from_bytes(bytes.into(), &OpenOptions::default()).unwrap();
        let view = file.tensor("w").unwrap();
        assert_eq!(hf_packed_to_ternary(&view, rows, 0.5).unwrap(), expected, "layer {layer}");
        match encode::encode_hf_packed(&expected) {
            Ok(encoded) => assert_eq!(encoded.bytes, packed.u8s(), "layer {layer}"),
            Err(error) => assert!(!rows.is_multiple_of(4), "{error}"),
        }
    }
}

/// Names of one matrix in GGUF and Hugging Face models.
const MATRICES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn pairs(layers: usize) -> impl Iterator<Item = (String, String)> {
    (0..layers).flat_map(|i| {
        MATRICES.map(|(g, h)| (format!("blk.{i}.{g}.weight"), format!("model.layers.{i}.{h}.weight")))
    })
}

#[test]
fn gguf_files_of_other_programs_hold_the_trits_of_the_packed_model() {
    let packed = open("bitnet-a-offline-packed");
    for (file, ty) in [
        ("gguf/bitnet-a-I2_S.gguf", TensorType::I2S),
        ("gguf/bitnet-a-I2_S-embdQ6_K.gguf", TensorType::I2S),
        ("gguf/bitnet-a-TQ1_0.gguf", TensorType::Tq1_0),
    ] {
        let gguf = open(file);
        for (theirs, ours) in pairs(4) {
            let view = gguf.tensor(&theirs).unwrap();
            assert_eq!(view.info().ty(), ty, "{theirs}");
            let read = view.to_ternary().unwrap();
            let scale = packed.tensor(&format!("{ours}_scale")).unwrap().to_f32().unwrap()[0];
            let expected = hf_packed_to_ternary(&packed.tensor(&ours).unwrap(), read.rows(), scale).unwrap();
            assert_eq!(trits(&read), trits(&expected), "{file}: {theirs}");
            let Scales::Tensor(read) = *read.scales() else { panic!("{theirs}: {:?}", read.scales()) };
            // The packed model rounds it to bf16, TQ types to f16.
            assert!((read / scale - 1.0).abs() < 1.0 / 128.0, "{file}: {theirs}: {read} {scale}");
        }
    }
}

#[test]
fn i2_s_bytes_are_written_as_llama_quantize_writes_them() {
    let gguf = open("gguf/bitnet-a-I2_S.gguf");
    for (name, _) in pairs(4) {
        let view = gguf.tensor(&name).unwrap();
        let ternary = view.to_ternary().unwrap();
        let encoded = encode::encode_i2_s(&ternary).unwrap();
        // All but the 28 bytes of padding, in which llama-quantize leaves what was in its buffer.
        let used = encoded.bytes.len() - 28;
        assert_eq!(encoded.bytes[..used], view.bytes()[..used], "{name}");
        assert_eq!(view.to_f32().unwrap(), weights(&ternary), "{name}");
    }
}

#[test]
fn two_ternary_files_of_one_model_agree() {
    let (blocks, unit) =
        (open("gguf/bitnet-c-embdQ8_0-TQ2_0.gguf"), open("gguf/bitnet-c-TQ1_0-scaletensors.gguf"));
    for (name, _) in pairs(2) {
        let read = |file: &Checkpoint| file.tensor(&name).unwrap().to_ternary().unwrap();
        let (a, b) = (read(&blocks), read(&unit));
        assert_eq!(trits(&a), trits(&b), "{name}");
        assert_eq!(b.scales(), &Scales::Tensor(1.0), "{name}");
    }
}

#[test]
fn group_scaled_models_are_recognized_and_equal_their_gguf() {
    for (directory, file, group) in [
        ("qwen3-a-ternary-g64", "gguf/qwen3-a-ternary-g64-Q2_0.gguf", 64),
        ("qwen3-b-ternary-g128", "gguf/qwen3-b-ternary-g128-Q2_0g128.gguf", 128),
    ] {
        let (floats, gguf) = (open(directory), open(file));
        let embedding = ("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned());
        for (theirs, ours) in pairs(2).chain([embedding]) {
            let view = gguf.tensor(&theirs).unwrap();
            assert_eq!(view.info().ty(), TensorType::Q2_0 { group }, "{theirs}");
            let read = view.to_ternary().unwrap();
            let found = recognize_ternary(&floats.tensor(&ours).unwrap()).unwrap().expect("ternary");
            assert_eq!(found.scales().granularity(), Granularity::Group(group), "{ours}");
            assert_eq!(found, read, "{theirs}");
            let encoded = encode::encode_q2_0(&found, group).unwrap();
            assert_eq!(encoded.bytes, view.bytes(), "{theirs}");
            assert_eq!(encoded.max_scale_loss, 0.0);
        }
    }
}

#[test]
fn dense_masters_are_not_taken_for_ternary() {
    let master = open("bitnet-a-online-bf16");
    for (_, name) in pairs(4) {
        assert_eq!(recognize_ternary(&master.tensor(&name).unwrap()).unwrap(), None, "{name}");
    }
}
