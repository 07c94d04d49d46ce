//! Sums of two ternary matrices: as the engine multiplies them, and as our own file stores them.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_cpu::Cpu;
use bitnet_device::{Batch, Device, Job, KvShape, Pass, Pending, SequenceShape};
use bitnet_format::{Checkpoint, SafetensorsWriter, TensorSpec, TensorType, bitnet_keys};
use bitnet_model::{MatrixForm, Part, Projection, Weight};
use bitnet_quant::{Activations, Granularity, PackedTernary, Scales, TernaryMatrix};
use bitnet_source::{
    Source,
    family::bitnet_file::{self, Entry, Form},
};

const PART: Part = Part::Weight(0, Projection::Query);

/// Trits that look random, with a scale per row or per 32 columns.
fn matrix(rows: usize, cols: usize, seed: u32, groups: bool) -> TernaryMatrix {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let trits: Vec<i8> = (0..rows * cols).map(|_| (next() % 3) as i8 - 1).collect();
    let mut scales = |n: usize| (0..n).map(|_| 0.01 + (next() % 100) as f32 / 1000.0).collect();
    let scales = match groups {
        true => Scales::Group { size: 32, scales: scales(rows * cols.div_ceil(32)) },
        false => Scales::Row(scales(rows)),
    };
    TernaryMatrix::from_trits(rows, cols, &trits, scales).unwrap()
}

fn cpu(threads: usize) -> Cpu {
    let kernel = bitnet_kernels::select(None).unwrap();
    Cpu::new(kernel, Arc::new(ThreadPool::new(threads)), HybridMemoryPool::new()).rows_per_chunk(16)
}

/// Products of `weight` with `tokens` rows.
fn product(cpu: &Cpu, weight: Weight, tokens: usize, form: Activations) -> Vec<f32> {
    let [rows, cols] = weight.shape();
    let matrix = cpu.matrix(PART, "w", weight, MatrixForm::Strips).unwrap();
    assert!(cpu.is_ternary(&matrix));
    // The rows of a table are a way to put numbers into a buffer of the device.
    let values: Vec<f32> = (0..tokens * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
    let table = bitnet_core::tensor::DenseMatrix::from_f32(tokens, cols, &values).unwrap();
    let table = cpu
        .matrix(Part::Embedding, "x", Weight::Table(bitnet_model::Table::Dense(table)), MatrixForm::Strips)
        .unwrap();
    let mut x = cpu.rows(tokens, cols).unwrap();
    let ids: Vec<u32> = (0..tokens as u32).collect();
    let kv = KvShape { layers: 1, heads: 1, head_dim: 8 };
    let shape = SequenceShape { kv, recurrent: None };
    let mut pages = cpu.pages(shape, 1).unwrap();
    let mut pass = cpu.begin(Batch { ids: &ids, ..Batch::default() }, &mut pages, None).unwrap();
    pass.embed(&table, &mut x);
    let mut codes = cpu.codes(tokens, cols).unwrap();
    if form != Activations::Float {
        pass.quantize(&x, tokens, form, &mut codes);
    }
    let mut out = cpu.rows(tokens, rows).unwrap();
    pass.project(&x, &codes, form, tokens, &mut [Job { weight: &matrix, bias: None, out: &mut out }]);
    pass.submit().unwrap().wait().unwrap();
    cpu.read(&out, tokens).to_vec()
}

#[test]
fn the_product_is_the_sum_of_both_products() {
    for (rows, cols) in [(5, 32), (40, 96), (130, 64)] {
        let (a, b) = (matrix(rows, cols, 1, true), matrix(rows, cols, 2, false));
        for (threads, tokens) in [(1, 1), (1, 7), (3, 1), (3, 20)] {
            for form in [Activations::Int8PerToken, Activations::Int8PerBlock, Activations::Float] {
                let cpu = cpu(threads);
                let of = |m: &TernaryMatrix| product(&cpu, Weight::Ternary(m.clone()), tokens, form);
                let want: Vec<f32> = of(&a).iter().zip(of(&b)).map(|(x, y)| x + y).collect();
                let both = Weight::planes(Weight::Ternary(a.clone()), Weight::Ternary(b.clone())).unwrap();
                let got = product(&cpu, both, tokens, form);
                assert_eq!(got, want, "{rows} x {cols}, {tokens} tokens, {threads} threads, {form:?}");
            }
        }
    }
}

#[test]
fn planes_are_two_matrices_of_trits_of_one_shape() {
    let of = |rows| Weight::Ternary(matrix(rows, 32, 1, true));
    assert!(Weight::planes(of(4), of(5)).is_none());
    let pair = || Weight::planes(of(4), of(4)).unwrap();
    assert!(Weight::planes(pair(), of(4)).is_none(), "a sum of sums");
}

fn llama() -> Source {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made/dense-llama-f16");
    Source::new(Checkpoint::open(path, &Default::default()).unwrap()).unwrap()
}

/// A `.bitnet` copy of the small float model, in which one projection is stored as `entry` with `tensors`.
fn write(
    path: &Path,
    part: Part,
    entry: &str,
    tensors: &[(String, TensorType, Vec<usize>, Vec<u8>)],
) -> Result<Source, bitnet_source::SourceError> {
    let source = llama();
    let config = std::fs::read_to_string(source.checkpoint().path().join("config.json")).unwrap();
    let mut metadata = BTreeMap::from([
        (bitnet_keys::FORMAT.to_owned(), bitnet_keys::VERSION.to_owned()),
        (bitnet_keys::CONFIG.to_owned(), config),
    ]);
    metadata.insert(bitnet_file::key(&source.name(part)), entry.to_owned());
    let mut all = tensors.to_vec();
    for other in source.matrices().chain(source.vectors()).filter(|&p| p != part) {
        let view = source.checkpoint().tensor(&source.name(other)).unwrap();
        let info = view.info();
        all.push((info.name().to_owned(), info.ty(), info.shape().to_vec(), view.bytes().to_vec()));
    }
    let specs: Vec<TensorSpec> =
        all.iter().map(|(name, ty, shape, _)| TensorSpec::new(name, *ty, shape.clone())).collect();
    let _ = std::fs::remove_file(path);
    let mut writer = SafetensorsWriter::create(path, &metadata, &specs).unwrap();
    all.iter().for_each(|(name, _, _, bytes)| writer.write(name, bytes).unwrap());
    writer.finish().unwrap();
    Source::new(Checkpoint::open(path, &Default::default())?)
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.bitnet"))
}

/// The two tensors of a plane.
fn plane(name: &str, m: &TernaryMatrix) -> [(String, TensorType, Vec<usize>, Vec<u8>); 2] {
    let packed = PackedTernary::pack(m, &HybridMemoryPool::new(), &ThreadPool::new(1)).unwrap();
    let count = m.rows().div_ceil(PackedTernary::STRIP);
    let shape = vec![count, packed.bytes().len() / count];
    let scales = m.scales().values();
    let bytes = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    [
        (bitnet_file::strips_name(name), TensorType::U8, shape, packed.bytes().to_vec()),
        (bitnet_file::scales_name(name), TensorType::F32, vec![scales.len()], bytes),
    ]
}

#[test]
fn planes_are_read_back_and_damage_is_named() {
    let name = llama().name(PART);
    let [rows, cols] = [32, 32];
    let (a, b) = (matrix(rows, cols, 3, true), matrix(rows, cols, 4, false));
    let tensors = [plane(&name, &a), plane(&bitnet_file::second_name(&name), &b)].concat();
    let form = Form::Planes([Granularity::Group(32), Granularity::Row]);
    let entry = Entry { rows, cols, form }.to_text();
    let path = temporary("planes");
    let source = write(&path, PART, &entry, &tensors).unwrap();
    assert_eq!(source.stored_as(PART), "t2 strips, two planes");
    let Weight::Planes(planes) = source.weight(PART).unwrap() else { panic!("no planes") };
    for (read, wrote) in planes.iter().zip([&a, &b]) {
        let Weight::Packed(read) = read else { panic!("not packed") };
        assert_eq!(&read.unpack().unwrap(), wrote);
    }
    // A second plane that is not there, too few scales, a code of 3, an entry that says nothing.
    let missing = write(&path, PART, &entry, &tensors[..2]).and_then(|s| s.weight(PART)).unwrap_err();
    assert!(missing.to_string().contains("second.t2"), "{missing}");
    let mut few = tensors.clone();
    few[3].2 = vec![rows - 1];
    few[3].3.truncate(4 * (rows - 1));
    let few = write(&path, PART, &entry, &few).and_then(|s| s.weight(PART)).unwrap_err();
    assert!(few.to_string().contains(&bitnet_file::second_name(&name)), "{few}");
    let mut code = tensors.clone();
    code[2].3[0] = 0xff;
    let code = write(&path, PART, &entry, &code).and_then(|s| s.weight(PART)).unwrap_err();
    assert!(code.to_string().contains("is 3"), "{code}");
    for text in ["32 32", "32 32 group:0", "32 32 q3_k", "32 32 row row row", "x"] {
        let odd = write(&path, PART, text, &tensors).err().unwrap();
        assert!(odd.to_string().contains("bitnet.matrix."), "{text}: {odd}");
    }
    let shape = write(&path, PART, "32 48 group:32 row", &tensors).err().unwrap();
    assert!(shape.to_string().contains("expected shape"), "{shape}");
}

#[test]
fn blocks_are_read_back_and_other_sizes_are_named() {
    let part = Part::Weight(0, Projection::Gate);
    let name = bitnet_file::blocks_name(&llama().name(part), TensorType::Q8_0);
    // Each row is one block: the scale 0.5 as f16, and codes.
    let block: Vec<u8> = [0x00, 0x38].into_iter().chain((0..32).map(|i| (i as i8 - 16) as u8)).collect();
    let bytes = block.repeat(48);
    let path = temporary("blocks");
    let tensor = |shape: Vec<usize>, bytes: Vec<u8>| vec![(name.clone(), TensorType::U8, shape, bytes)];
    let source = write(&path, part, "48 32 q8_0", &tensor(vec![48, 34], bytes.clone())).unwrap();
    assert_eq!(source.stored_as(part), "Q8_0");
    let Weight::Table(table) = source.weight(part).unwrap() else { panic!("no table") };
    let mut row = [0.0; 32];
    table.row_to_f32(47, &mut row);
    assert_eq!((row[0], row[31]), (-8.0, 7.5));
    let short = tensor(vec![47, 34], bytes[34..].to_vec());
    let short = write(&path, part, "48 32 q8_0", &short).and_then(|s| s.weight(part)).unwrap_err();
    assert!(short.to_string().contains("1632 bytes"), "{short}");
    // Blocks of four bits under the name of eight.
    let other = write(&path, part, "48 32 q4_0", &tensor(vec![48, 34], bytes)).and_then(|s| s.weight(part));
    assert!(other.unwrap_err().to_string().contains("q4_0"), "the tensor has another name");
}

/// The name of a tensor of the embedding, which the tests call x.
fn whole(name: &str) -> String {
    name.replacen('x', "model.embed_tokens.weight", 1)
}

/// The metadata of a file whose embedding is `entry`.
fn claims(entry: Entry) -> BTreeMap<String, String> {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": entry.cols, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 32, "vocab_size": entry.rows,
    });
    [
        (bitnet_keys::FORMAT.to_owned(), bitnet_keys::VERSION.to_owned()),
        (bitnet_keys::CONFIG.to_owned(), config.to_string()),
        (bitnet_file::key("model.embed_tokens.weight"), entry.to_text()),
    ]
    .into()
}

/// An entry of the metadata is a claim until its tensors are there with the bytes of its shape: nothing is made for it before.
#[test]
fn an_entry_without_its_bytes_is_refused_when_the_file_is_opened() {
    let entry = |rows, cols, form| Entry { rows, cols, form };
    let row = Granularity::Row;
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("claims.bitnet");
    let strips = PackedTernary::byte_len(16, 32).unwrap();
    let q8 = TensorType::Q8_0.byte_len(16, 32).unwrap();
    type Tensors = Vec<(&'static str, TensorType, usize)>;
    let cases: [(Entry, Tensors, &str); 6] = [
        (entry(1 << 17, 1 << 17, Form::Trits(row)), vec![], "x.t2"),
        (entry(16, 32, Form::Trits(row)), vec![("x.t2", TensorType::U8, strips)], "x.scales"),
        (
            entry(16, 32, Form::Trits(row)),
            vec![("x.t2", TensorType::U8, strips - 64), ("x.scales", TensorType::F32, 16)],
            "x.t2",
        ),
        (
            entry(16, 32, Form::Trits(row)),
            vec![("x.t2", TensorType::U8, strips), ("x.scales", TensorType::F32, 15)],
            "x.scales",
        ),
        (
            entry(16, 32, Form::Planes([row, row])),
            vec![("x.t2", TensorType::U8, strips), ("x.scales", TensorType::F32, 16)],
            "x.second.t2",
        ),
        (entry(16, 32, Form::Blocks(TensorType::Q8_0)), vec![("x.q8_0", TensorType::U8, q8 - 1)], "x.q8_0"),
    ];
    for (entry, tensors, part) in cases {
        let _ = std::fs::remove_file(&path);
        let specs: Vec<TensorSpec> =
            tensors.iter().map(|(name, ty, len)| TensorSpec::new(whole(name), *ty, [*len])).collect();
        let mut writer = SafetensorsWriter::create(&path, &claims(entry), &specs).unwrap();
        for spec in &specs {
            writer.write(&spec.name, &vec![0; spec.ty.byte_len(1, spec.shape[0]).unwrap()]).unwrap();
        }
        writer.finish().unwrap();
        let error = match Source::new(Checkpoint::open(&path, &Default::default()).unwrap()) {
            Ok(_) => panic!("{part} was believed"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(&format!("'{}'", whole(part))), "{part}: {error}");
    }
}
