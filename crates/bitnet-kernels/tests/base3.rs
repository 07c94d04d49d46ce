//! Weights in base 3 against two bits: equality, on every kernel.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_core::{HybridMemoryPool, ThreadPool, threads::ColumnsMut};
use bitnet_kernels::available;
use bitnet_quant::{Activations, PackedBase3, PackedTernary, QuantizedRows, Scales, TernaryMatrix};
use proptest::prelude::*;

/// All three products of one matrix on every kernel.
fn check(rows: usize, cols: usize, tokens: usize, trits: &[i8], x: &[f32], width: usize) {
    let (pool, threads) = (HybridMemoryPool::new(), ThreadPool::new(1));
    let scales = Scales::Row((0..rows).map(|r| 0.01 * r as f32 - 0.3).collect());
    let matrix = TernaryMatrix::from_trits(rows, cols, trits, scales).unwrap();
    let packed = PackedTernary::pack(&matrix, &pool, &threads).unwrap();
    let base3 = PackedBase3::new(&packed, &pool, &threads).unwrap();
    let mut quantized = QuantizedRows::new(&pool, tokens, cols).unwrap();
    x.chunks(cols).enumerate().for_each(|(t, x)| quantized.quantize_token(t, x));
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for kernel in available() {
        let mut want = vec![f32::NAN; tokens * rows];
        let form = Activations::Int8PerToken;
        kernel.matmul(&packed, &quantized, form, 0, &mut ColumnsMut::whole(&mut want, rows));
        let mut got = vec![f32::NAN; tokens * rows];
        ThreadPool::new(2).for_each_columns_mut(&mut got, rows, 16 * width, |_, mut out| {
            kernel.matmul_base3(&base3, &quantized, &mut out);
        });
        assert_eq!(bits(&got), bits(&want), "{}", kernel.name());
        got.fill(f32::NAN);
        ThreadPool::new(2).for_each_columns_mut(&mut got, rows, 16 * width, |_, mut out| {
            let mut scratch = vec![0; PackedTernary::byte_len(out.width(), cols).unwrap()];
            kernel.matmul_base3_tiled(&base3, &quantized, &mut scratch, &mut out);
        });
        assert_eq!(bits(&got), bits(&want), "{} in tiles", kernel.name());
    }
}

/// Every one of the 243 bytes, in every lane and place of a block.
#[test]
fn all_codes_are_exact() {
    let (rows, cols) = (16, 243 * 20);
    // Row r, column 20 b + 4 p + c holds digit p of code (b + r + 5 c) % 243.
    let trit = |i: usize| {
        let (row, col) = (i / cols, i % cols);
        let code = (col / 20 + row + 5 * (col % 4)) % 243;
        (code / 3usize.pow((col % 20 / 4) as u32) % 3) as i8 - 1
    };
    let trits: Vec<i8> = (0..rows * cols).map(trit).collect();
    // One block of columns at a time, so that no error can make up for another.
    for block in 0..243 {
        let x: Vec<f32> =
            (0..cols).map(|col| if col / 20 == block { (col % 20) as f32 - 9.3 } else { 0.0 }).collect();
        check(rows, cols, 1, &trits, &x, 1);
    }
}

#[test]
fn the_longest_rows_of_extremes_are_exact() {
    for (trit, value) in [(1, 3.5), (1, -3.5), (-1, 3.5)] {
        check(17, 28_672, 1, &vec![trit; 17 * 28_672], &vec![value; 28_672], 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn base_three_gives_the_product_of_two_bits(
        rows in 1usize..70,
        cols in prop_oneof![Just(1usize), Just(20), Just(40), Just(64), Just(80), Just(2560), 1usize..500],
        tokens in 1usize..6,
        width in 1usize..4,
        seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut random = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (state >> 40) as usize };
        let trits: Vec<i8> = (0..rows * cols).map(|_| (random() % 3) as i8 - 1).collect();
        let x: Vec<f32> = (0..tokens * cols).map(|_| random() as f32 / 1e6 - 8.0).collect();
        check(rows, cols, tokens, &trits, &x, width);
    }
}
