//! Blocks of integers: what the kernels and tables make of them is what `bitnet-format` says they are.

#![allow(clippy::unwrap_used, reason = "tests stop where their data cannot be made")]

use bitnet_format::{TensorInfo, TensorType, TensorView};
use bitnet_kernels::{BlockType, available};
use bitnet_source::block_table;

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

/// The weights, row by row.
fn weights(mut row_to_f32: impl FnMut(usize, &mut [f32])) -> Vec<f32> {
    let mut wide = vec![0.0; ROWS * COLS];
    wide.chunks_exact_mut(COLS).enumerate().for_each(|(row, out)| row_to_f32(row, out));
    wide
}

#[test]
fn kernels_make_the_weights_that_the_format_says() {
    for (ty, block) in TYPES {
        assert_eq!(ty.block(), Some(block.size()), "{ty}");
        for seed in 1..=4 {
            let bytes = random(ty, seed);
            let info = TensorInfo::of_bytes("w", ty, [ROWS, COLS]).unwrap();
            let view = TensorView::from_parts(&info, bytes.clone().into());
            let want = weights(|row, out| view.dequantize_row(row, out).unwrap());
            let table = block_table("w", ty, [ROWS, COLS], bytes.clone().into()).unwrap();
            assert_eq!(bits(&weights(|row, out| table.row_to_f32(row, out))), bits(&want), "{ty} in a table");
            for kernel in available() {
                let mut got = vec![0.0; ROWS * COLS];
                kernel.widen_blocks(block, &bytes, &mut got);
                assert_eq!(bits(&got), bits(&want), "{ty} on {}", kernel.name());
            }
        }
    }
    assert_eq!(TYPES.map(|(_, block)| block), BlockType::ALL);
}
