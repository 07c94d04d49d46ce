//! Rows of floats, and of the block types that embeddings and heads come in, to f32.
//!
//! Source: `dequantize_row_*` of ggml's `ggml-quants.c`; the order of multiplications is theirs, so results are
//! equal to the last bit.

use half::{bf16, f16};

use crate::TensorType;

/// Decodes one row; `false` when the type is none of this module's. `row` and `out` are of matching lengths.
pub(crate) fn dequantize(ty: TensorType, row: &[u8], out: &mut [f32]) -> bool {
    match ty {
        TensorType::F32 => each::<4>(row, out, f32::from_le_bytes),
        TensorType::F16 => each::<2>(row, out, |b| f16::from_le_bytes(b).to_f32()),
        TensorType::Bf16 => each::<2>(row, out, |b| bf16::from_le_bytes(b).to_f32()),
        TensorType::Q4_0 => blocks::<18, 32>(row, out, q4_0),
        TensorType::Q8_0 => blocks::<34, 32>(row, out, q8_0),
        TensorType::Q4K => blocks::<144, 256>(row, out, q4_k),
        TensorType::Q6K => blocks::<210, 256>(row, out, q6_k),
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

/// The f16 at byte `at`.
pub(crate) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, b) in block[2..].iter().enumerate() {
        out[j] = f32::from((b & 15) as i8 - 8) * d;
        out[16 + j] = f32::from((b >> 4) as i8 - 8) * d;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    block[2..].iter().zip(out).for_each(|(&b, out)| *out = f32::from(b as i8) * d);
}

/// Eight sub-blocks of 32 with 6-bit scales and minima, spread over twelve bytes.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (sc, codes) = (&block[4..16], &block[16..]);
    let scale_and_min = |j: usize| match j {
        0..4 => (sc[j] & 63, sc[j + 4] & 63),
        _ => (sc[j + 4] & 15 | (sc[j - 4] >> 6) << 4, sc[j + 4] >> 4 | (sc[j] >> 6) << 4),
    };
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(j);
        let (scale, min) = (d * f32::from(scale), d_min * f32::from(min));
        let codes = &codes[j / 2 * 32..][..32];
        for (out, b) in out.iter_mut().zip(codes) {
            *out = scale * f32::from(b >> (j % 2 * 4) & 15) - min;
        }
    }
}

/// Two halves of 128; four low bits here, two high bits there, sixteen scales.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
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
