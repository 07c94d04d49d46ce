//! Blocks of integers: products are those of the floats that they stand for.

#![allow(clippy::unwrap_used, reason = "tests stop where their data cannot be made")]

use std::sync::Arc;

use bitnet_core::{HybridMemoryPool, ThreadPool, tensor::DenseMatrix};
use bitnet_cpu::Cpu;
use bitnet_device::{Batch, Device, Job, KvShape, Pass, Pending, SequenceShape};
use bitnet_kernels::{BlockType, Kernel, available};
use bitnet_model::{MatrixForm, Part, Projection, Table, Weight};
use bitnet_quant::Activations;

const ROWS: usize = 37;
const COLS: usize = 768;

/// Bytes of any codes and any scales but infinite ones.
fn random(ty: BlockType, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let (weights, size) = ty.size();
    let bytes = (0..ROWS * COLS / weights * size).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8 & 0xbf
    });
    bytes.collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The weights, which are those that `bitnet-format` decodes (`bitnet-source/tests/blocks.rs`).
fn weights(table: &Table) -> Vec<f32> {
    let mut wide = vec![0.0; ROWS * COLS];
    wide.chunks_exact_mut(COLS).enumerate().for_each(|(row, out)| table.row_to_f32(row, out));
    wide
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
    let kv = KvShape { layers: 1, heads: 1, head_dim: 8 };
    let shape = SequenceShape { kv, recurrent: None };
    let mut pages = cpu.pages(shape, 1).unwrap();
    let mut pass = cpu.begin(Batch { ids: &ids, ..Batch::default() }, &mut pages, None).unwrap();
    pass.embed(&values, &mut x);
    let (codes, mut out) = (cpu.codes(tokens, COLS).unwrap(), cpu.rows(tokens, ROWS).unwrap());
    let jobs = &mut [Job { weight: &matrix, bias: None, out: &mut out }];
    pass.project(&x, &codes, Activations::Float, tokens, jobs);
    pass.submit().unwrap().wait().unwrap();
    cpu.read(&out, tokens).to_vec()
}

/// For one token, whose weights never leave the registers, and for several.
#[test]
fn products_of_blocks_are_those_of_their_floats() {
    for ty in BlockType::ALL {
        let blocks = Table::blocks("w", ty, [ROWS, COLS], random(ty, 7).into()).unwrap();
        let floats = Table::Dense(DenseMatrix::from_f32(ROWS, COLS, &weights(&blocks)).unwrap());
        for tokens in [1, 2, 7] {
            let want = product(&cpu(bitnet_kernels::by_name("scalar").unwrap()), floats.clone(), tokens);
            for kernel in available() {
                let got = product(&cpu(kernel), blocks.clone(), tokens);
                assert_eq!(bits(&got), bits(&want), "{ty:?}, {tokens} tokens, {}", kernel.name());
            }
        }
    }
}
