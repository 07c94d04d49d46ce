//! Products of ggml's blocks: bit-equal on every kernel, and equal to lane sums of the weights that the blocks stand for.
//!
//! What the weights are is `bitnet-format`'s to say; `bitnet-source`, which sees both, holds these to those.

#![allow(clippy::unwrap_used, reason = "tests stop where their data cannot be made")]

use bitnet_core::{tensor::Values, threads::ColumnsMut};
use bitnet_kernels::{BlockType, Blocks, available};
use proptest::prelude::*;

mod support;
use support::{bits, dot, on_all};

/// Bytes of whole blocks. Where a block has a binary16 scale it is whatever the bytes are, infinite and no number among them.
fn bytes(len: usize, seed: u64, tame: bool) -> Vec<u8> {
    let mut state = seed | 1;
    let random = (0..len).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    // Without the highest exponents no product overflows.
    random.map(|byte| if tame { byte & 0xbf } else { byte }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_lane_sums_of_the_weights(rows in 1usize..38, blocks in 1usize..6, seed in any::<u64>(), tame in any::<bool>()) {
        for ty in BlockType::ALL {
            let (weights, size) = ty.size();
            let blocks = if weights == 32 { 3 * blocks } else { blocks };
            let cols = blocks * weights;
            let stored = bytes(rows * blocks * size, seed, tame);
            let wide = on_all("widened blocks", |k| {
                let mut out = vec![0.0; rows * cols];
                k.widen_blocks(ty, &stored, &mut out);
                out
            });
            let x: Vec<f32> = (0..cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
            let w = Blocks { ty, cols, bytes: &stored };
            prop_assert_eq!(w.rows(), rows);
            let want: Vec<f32> = wide.chunks_exact(cols).map(|row| dot(row, &x)).collect();
            for first in [0, rows / 2] {
                let got = on_all("blocks times a vector", |k| {
                    let mut out = vec![0.0; rows - first];
                    k.block_vector(w, &x, first, &mut ColumnsMut::whole(&mut out, rows - first));
                    out
                });
                prop_assert_eq!(bits(&got), bits(&want[first..]), "{:?} from row {}", ty, first);
            }
            let ids: Vec<u32> = (0..rows as u32).rev().step_by(2).collect();
            let got = on_all("some rows of blocks", |k| {
                let mut out = vec![0.0; ids.len()];
                k.block_rows(w, &x, &ids, &mut out);
                out
            });
            let want: Vec<f32> = ids.iter().map(|&id| want[id as usize]).collect();
            prop_assert_eq!(bits(&got), bits(&want), "{:?}", ty);
        }
    }
}

/// Every code beside every scale's bits, in the types whose scale is one binary16: what a shortcut through tables would lose.
#[test]
fn every_scale_widens_to_the_products_that_are_written_down() {
    for kernel in available() {
        for scale in 0..=u16::MAX {
            let d = half::f16::from_bits(scale).to_f32();
            let mut block = [0; 34];
            block[..2].copy_from_slice(&scale.to_le_bytes());
            for (i, code) in block[2..].iter_mut().enumerate() {
                *code = (i * 8 + usize::from(scale) % 8) as u8;
            }
            let mut out = [0.0; 32];
            kernel.widen_blocks(BlockType::Q8_0, &block, &mut out);
            let want: Vec<f32> = block[2..].iter().map(|&code| f32::from(code as i8) * d).collect();
            assert_eq!(bits(&out), bits(&want), "Q8_0 of scale {scale:04x} on {}", kernel.name());
            kernel.widen_blocks(BlockType::Q4_0, &block[..18], &mut out);
            let low = block[2..18].iter().map(|&code| f32::from((code & 15) as i8 - 8) * d);
            let high = block[2..18].iter().map(|&code| f32::from((code >> 4) as i8 - 8) * d);
            let want: Vec<f32> = low.chain(high).collect();
            assert_eq!(bits(&out), bits(&want), "Q4_0 of scale {scale:04x} on {}", kernel.name());
        }
    }
}

/// Every binary16 as an element of a dense matrix.
#[test]
fn every_half_widens_alike() {
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let got = on_all("halves", |k| {
        let mut out = vec![0.0; halves.len()];
        k.widen(Values::F16(&halves), &mut out);
        out
    });
    assert_eq!(bits(&got), bits(&halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>()));
}

#[test]
fn no_rows_are_no_work() {
    let block = [1; 18];
    let w = Blocks { ty: BlockType::Q4_0, cols: 32, bytes: &block };
    on_all("no rows", |k| {
        k.block_rows(w, &[1.0; 32], &[], &mut []);
        Vec::new()
    });
}

#[test]
#[should_panic(expected = "more outputs than rows")]
fn rows_that_are_not_there_are_refused() {
    let w = Blocks { ty: BlockType::Q4_0, cols: 32, bytes: &[1; 36] };
    let kernel = bitnet_kernels::by_name("scalar").unwrap();
    kernel.block_vector(w, &[1.0; 32], 1, &mut ColumnsMut::whole(&mut [0.0; 2], 2));
}
