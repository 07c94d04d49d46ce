//! Blocks of 256 weights whose parts have scales of their own, to f32.
//!
//! Source: `dequantize_row_*` of ggml's `ggml-quants.c`; the order of multiplications is theirs, so results are
//! equal to the last bit.

use super::parts::{UNEQUAL_STEPS, half_at, looked_up};

/// Sixteen parts of 16; scale and minimum of each in one byte, two-bit codes.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, d_min) = (half_at(block, 80), half_at(block, 82));
    for (part, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, min) = (scales[part] & 15, scales[part] >> 4);
        let (scale, min) = (d * f32::from(scale), d_min * f32::from(min));
        let (codes, shift) = two_bits(codes, part);
        for (out, b) in out.iter_mut().zip(codes) {
            *out = scale * f32::from(b >> shift & 3) - min;
        }
    }
}

/// Sixteen parts of 16 with 6-bit scales; where the bit of `high` is missing, the code is less by 4.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (part, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[part % 8] >> (part / 8 * 4) & 15;
        let scale = low | (scales[8 + part % 4] >> (part / 4 * 2) & 3) << 4;
        let scale = d * f32::from(scale as i8 - 32);
        let (codes, shift) = two_bits(codes, part);
        for (l, (out, b)) in out.iter_mut().zip(codes).enumerate() {
            let missing = !(high[part % 2 * 16 + l] >> (part / 2)) & 1;
            *out = scale * f32::from((b >> shift & 3) as i8 - 4 * missing as i8);
        }
    }
}

/// The bytes with the two-bit codes of a part of 16, and where in each byte they are: 128 weights lie in 32 bytes.
fn two_bits(codes: &[u8], part: usize) -> (&[u8], usize) {
    (&codes[part / 8 * 32 + part % 2 * 16..][..16], part % 8 / 2 * 2)
}

/// Scale and minimum of part `j` of 8, in six bits each, spread over twelve bytes.
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => (packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4),
    };
    (scale.into(), min.into())
}

/// Eight parts of 32 with a 6-bit scale and a 6-bit minimum each; four-bit codes.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (packed, codes) = (&block[4..16], &block[16..]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(packed, j);
        let (scale, min) = (d * scale, d_min * min);
        for (out, b) in out.iter_mut().zip(&codes[j / 2 * 32..][..32]) {
            *out = scale * f32::from(b >> (j % 2 * 4) & 15) - min;
        }
    }
}

/// As [`q4_k`], with a fifth bit of weight `l` of part `j` in bit `j` of byte `l`.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (packed, high, codes) = (&block[4..16], &block[16..48], &block[48..]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(packed, j);
        let (scale, min) = (d * scale, d_min * min);
        for ((out, b), high) in out.iter_mut().zip(&codes[j / 2 * 32..][..32]).zip(high) {
            let code = b >> (j % 2 * 4) & 15 | (high >> j & 1) << 4;
            *out = scale * f32::from(code) - min;
        }
    }
}

/// Two halves of 128; four low bits here, two high bits there, sixteen scales.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
        let scales = &block[192 + 8 * half..][..8];
        for quarter in 0..4 {
            let low = &low[quarter % 2 * 32..][..32];
            for l in 0..32 {
                let code = low[l] >> (quarter / 2 * 4) & 15 | (high[l] >> (2 * quarter) & 3) << 4;
                let scale = scales[l / 16 + 2 * quarter] as i8;
                out[32 * quarter + l] = d * f32::from(scale) * f32::from(code as i8 - 32);
            }
        }
    }
}

/// Eight parts of 32; four bits of each scale in nibbles, two more in a word.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let (high, low, codes) = (u16::from_le_bytes([block[2], block[3]]), &block[4..8], &block[8..]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = low[j / 2] >> (j % 2 * 4) & 15 | ((high >> (2 * j) & 3) as u8) << 4;
        let scale = d * f32::from(scale as i8 - 32);
        looked_up(&codes[16 * j..][..16], &UNEQUAL_STEPS, scale, out);
    }
}
