//! Rows of floats, and of the block types that embeddings and heads come in, to f32.
//!
//! Source: `dequantize_row_*` of ggml's `ggml-quants.c`; the order of multiplications is theirs, so results are
//! equal to the last bit.

use half::{bf16, f16};

use crate::TensorType;

use super::{
    parts::{UNEQUAL_STEPS, half_at, looked_up},
    super_blocks,
};

/// Decodes one row; `false` when the type is none of this module's. `row` and `out` are of matching lengths.
pub(crate) fn dequantize(ty: TensorType, row: &[u8], out: &mut [f32]) -> bool {
    match ty {
        TensorType::F32 => each::<4>(row, out, f32::from_le_bytes),
        TensorType::F16 => each::<2>(row, out, |b| f16::from_le_bytes(b).to_f32()),
        TensorType::Bf16 => each::<2>(row, out, |b| bf16::from_le_bytes(b).to_f32()),
        TensorType::Q4_0 => blocks(row, out, q4_0),
        TensorType::Q4_1 => blocks(row, out, q4_1),
        TensorType::Q5_0 => blocks(row, out, q5_0),
        TensorType::Q5_1 => blocks(row, out, q5_1),
        TensorType::Q8_0 => blocks(row, out, q8_0),
        TensorType::Iq4Nl => blocks(row, out, iq4_nl),
        TensorType::Mxfp4 => blocks(row, out, mxfp4),
        TensorType::Q2K => blocks(row, out, super_blocks::q2_k),
        TensorType::Q3K => blocks(row, out, super_blocks::q3_k),
        TensorType::Q4K => blocks(row, out, super_blocks::q4_k),
        TensorType::Q5K => blocks(row, out, super_blocks::q5_k),
        TensorType::Q6K => blocks(row, out, super_blocks::q6_k),
        TensorType::Iq4Xs => blocks(row, out, super_blocks::iq4_xs),
        _ => return false,
    }
    true
}

fn each<const N: usize>(row: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    row.as_chunks::<N>().0.iter().zip(out).for_each(|(bytes, out)| *out = decode(*bytes));
}

fn blocks<const BYTES: usize, const WEIGHTS: usize>(
    row: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; WEIGHTS]),
) {
    let (blocks, outs) = (row.as_chunks::<BYTES>().0, out.as_chunks_mut::<WEIGHTS>().0);
    blocks.iter().zip(outs).for_each(|(block, out)| decode(block, out));
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, b) in block[2..].iter().enumerate() {
        out[j] = f32::from((b & 15) as i8 - 8) * d;
        out[16 + j] = f32::from((b >> 4) as i8 - 8) * d;
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, least) = (half_at(block, 0), half_at(block, 2));
    for (j, b) in block[4..].iter().enumerate() {
        out[j] = d * f32::from(b & 15) + least;
        out[16 + j] = d * f32::from(b >> 4) + least;
    }
}

/// The 5-bit code of weight `j` of 32: four bits in the nibbles of `low`, the fifth in bit `j` of `high`.
fn five_bits(low: &[u8], high: &[u8], j: usize) -> u8 {
    let nibble = low[j % 16] >> (j / 16 * 4) & 15;
    nibble | (high[j / 8] >> (j % 8) & 1) << 4
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(five_bits(&block[6..], &block[2..6], j) as i8 - 16);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, least) = (half_at(block, 0), half_at(block, 2));
    for (j, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(five_bits(&block[8..], &block[4..8], j)) + least;
    }
}

/// Twice the floats of one sign, two exponent and one fraction bit.
const HALF_FLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    looked_up(&block[2..], &UNEQUAL_STEPS, half_at(block, 0), out);
}

/// The scale is an exponent alone; halved, since the table's entries are doubled.
fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let half_scale = match block[0] {
        // Subnormal.
        e @ 0..2 => f32::from_bits(0x0020_0000 << e),
        e => f32::from_bits(u32::from(e - 1) << 23),
    };
    looked_up(&block[1..], &HALF_FLOATS, half_scale, out);
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    block[2..].iter().zip(out).for_each(|(&b, out)| *out = f32::from(b as i8) * d);
}
