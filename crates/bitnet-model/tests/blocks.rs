//! Blocks of integers: what the kernels make of them is what `bitnet-format` says they are, and products are those of the floats.

#![allow(clippy::unwrap_used, reason = "tests stop where their data cannot be made")]

use std::sync::Arc;

use bitnet_core::{HybridMemoryPool, ThreadPool, tensor::DenseMatrix};
use bitnet_format::TensorType;
use bitnet_kernels::{BlockType, Kernel, available};
use bitnet_model::{
    Batch, Cpu, Device, Job, KvShape, MatrixForm, Part, Pass, Pending, Projection, Table, Weight,
};
use bitnet_quant::Activations;

const TYPES: [(TensorType, BlockType); 13] = [
    (TensorType::Q4_0, BlockType::Q4_0),
    (TensorType::Q4_1, BlockType::Q4_1),
    (TensorType::Q5_0, BlockType::Q5_0),
    (TensorType::Q5_1, BlockType::Q5_1),
    (TensorType::Q8_0, BlockType::Q8_0),
    (TensorType::Iq4Nl, BlockType::Iq4Nl),
    (TensorType::Mxfp4, BlockType::Mxfp4),
    (TensorType::Q2K, BlockType::Q2K),
    (TensorType::Q3K, BlockType::Q3K),
    (TensorType::Q4K, BlockType::Q4K),
    (TensorType::Q5K, BlockType::Q5K),
    (TensorType::Q6K, BlockType::Q6K),
    (TensorType::Iq4Xs, BlockType::Iq4Xs),
];
const ROWS: usize = 37;
const COLS: usize = 768;

/// Bytes of any codes and any scales but infinite ones.
fn random(ty: TensorType, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let bytes = (0..ty.byte_len(ROWS, COLS).unwrap()).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8 & 0xbf
    });
    bytes.collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The weights, as `bitnet-format` decodes them.
fn weights(table: &Table) -> Vec<f32> {
    let mut wide = vec![0.0; ROWS * COLS];
    wide.chunks_exact_mut(COLS).enumerate().for_each(|(row, out)| table.row_to_f32(row, out));
    wide
}

#[test]
fn kernels_make_the_weights_that_the_format_says() {
    for (ty, block) in TYPES {
        assert_eq!(ty.block(), Some(block.size()), "{ty}");
        for seed in 1..=4 {
            let bytes = random(ty, seed);
            let want = weights(&Table::from_blocks("w", ty, [ROWS, COLS], bytes.clone().into()).unwrap());
            for kernel in available() {
                let mut got = vec![0.0; ROWS * COLS];
                kernel.widen_blocks(block, &bytes, &mut got);
                assert_eq!(bits(&got), bits(&want), "{ty} on {}", kernel.name());
            }
        }
    }
    assert_eq!(TYPES.map(|(_, block)| block), BlockType::ALL);
}

fn cpu(kernel: &'static Kernel) -> Cpu {
    Cpu::new(kernel, Arc::new(ThreadPool::new(2)), HybridMemoryPool::new()).rows_per_chunk(16)
}

/// Products of `table` with `tokens` rows.
fn product(cpu: &Cpu, table: Table, tokens: usize) -> Vec<f32> {
    let part = Part::Weight(0, Projection::Query);
    let matrix = cpu.matrix(part, "w", Weight::Table(table), MatrixForm::Strips).unwrap();
    // The rows of a table are a way to put numbers into a buffer of the device.
    let values: Vec<f32> = (0..tokens * COLS).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
    let values = Table::Dense(DenseMatrix::from_f32(tokens, COLS, &values).unwrap());
    let values = cpu.matrix(Part::Embedding, "x", Weight::Table(values), MatrixForm::Strips).unwrap();
    let mut x = cpu.rows(tokens, COLS).unwrap();
    let ids: Vec<u32> = (0..tokens as u32).collect();
    let mut pages = cpu.pages(KvShape { layers: 1, heads: 1, head_dim: 8 }).unwrap();
    let mut pass = cpu.begin(Batch { ids: &ids, ..Batch::default() }, &mut pages, None).unwrap();
    pass.embed(&values, &mut x);
    let (codes, mut out) = (cpu.codes(tokens, COLS).unwrap(), cpu.rows(tokens, ROWS).unwrap());
    let jobs = &mut [Job { weight: &matrix, bias: None, out: &mut out }];
    pass.project(&x, &codes, Activations::Float, tokens, jobs);
    pass.submit().unwrap().wait().unwrap();
    cpu.read(&out, tokens).to_vec()
}

/// For one token, whose weights never leave the registers, for several, and for trits, which the kernels do not know as blocks.
#[test]
fn products_of_blocks_are_those_of_their_floats() {
    for ty in TYPES.map(|(ty, _)| ty).into_iter().chain([TensorType::Tq2_0]) {
        let blocks = Table::from_blocks("w", ty, [ROWS, COLS], random(ty, 7).into()).unwrap();
        let floats = Table::Dense(DenseMatrix::from_f32(ROWS, COLS, &weights(&blocks)).unwrap());
        for tokens in [1, 2, 7] {
            let want = product(&cpu(bitnet_kernels::by_name("scalar").unwrap()), floats.clone(), tokens);
            for kernel in available() {
                let got = product(&cpu(kernel), blocks.clone(), tokens);
                assert_eq!(bits(&got), bits(&want), "{ty}, {tokens} tokens, {}", kernel.name());
            }
        }
    }
}
