//! The bytes of a matrix in each target.

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_format::{
    TensorType,
    encode::{
        EncodeError, Encoded, encode_hf_packed, encode_i2_s, encode_ptq1_0, encode_q1_0, encode_q2_0,
        encode_tq1_0, encode_tq2_0,
    },
};
use bitnet_quant::{PackedTernary, QuantError, Scales, TernaryMatrix};
use half::{bf16, f16};

use crate::{Target, matrix::Matrix};

/// The largest relative error of a scale of `matrix` in `target`, or why it does not fit.
pub(crate) fn loss(matrix: &TernaryMatrix, target: Target) -> Result<f32, EncodeError> {
    match target {
        Target::HfMaster | Target::Bitnet => Ok(0.0),
        Target::HfPacked => encode_hf_packed(matrix).map(|e| e.max_scale_loss),
        _ => match target.gguf() {
            Some((ty, _)) => blocks(matrix, ty).map(|e| e.max_scale_loss),
            None => Ok(0.0),
        },
    }
}

/// The matrix as blocks of the GGUF type `ty`.
pub(crate) fn blocks(matrix: &TernaryMatrix, ty: TensorType) -> Result<Encoded, EncodeError> {
    match ty {
        TensorType::Tq1_0 => encode_tq1_0(matrix),
        TensorType::Tq2_0 => encode_tq2_0(matrix),
        TensorType::Q2_0 { group } => encode_q2_0(matrix, group),
        TensorType::Ptq1_0 => encode_ptq1_0(matrix),
        TensorType::Q1_0 => encode_q1_0(matrix),
        _ => encode_i2_s(matrix),
    }
}

/// Splits a scale into one that f16 holds and a factor, whose f32 product is exactly `scale`.
///
/// The first is `scale` rounded to f16, so that a reader which ignores the factor is off by no more than 2^-10.
/// A factor of at most 1 always reaches `scale`: its products lie closer together than f32 numbers around `scale`.
pub(crate) fn split_scale(scale: f32) -> Option<(f32, f32)> {
    let nearest = f16::from_f32(scale);
    let above = f16::from_bits(nearest.to_bits().checked_add(1)?);
    for stored in [nearest, above].map(f16::to_f32).into_iter().filter(|s| s.is_normal()) {
        let guess = scale / stored;
        let around = [guess, guess.next_up(), guess.next_down()];
        if let Some(factor) = around.into_iter().find(|f| stored * f == scale) {
            return Some((stored, factor));
        }
    }
    None
}

/// The strips and the scales of the `.bitnet` file.
pub(crate) fn strips(
    matrix: &TernaryMatrix,
    pool: &HybridMemoryPool,
    threads: &ThreadPool,
) -> Result<(PackedTernary, Vec<u8>), QuantError> {
    let packed = PackedTernary::pack(matrix, pool, threads)?;
    let scales = floats(matrix.scales().values());
    Ok((packed, scales))
}

/// f32 numbers as a file's bytes, little-endian.
pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Numbers as bytes of `ty`: F32, F16 or BF16.
pub(crate) fn floats_as(values: &[f32], ty: TensorType, out: &mut Vec<u8>) {
    match ty {
        TensorType::F16 => out.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
        TensorType::Bf16 => out.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
        _ => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
    }
}

/// The values of a matrix as `ty`, some rows at a time.
pub(crate) fn stream_floats<E>(
    matrix: &Matrix,
    ty: TensorType,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    /// Large enough that writing costs few calls.
    const CHUNK: usize = 1 << 20;
    let [rows, cols] = matrix.shape();
    let (mut row, mut bytes) = (vec![0.0; cols], Vec::with_capacity(CHUNK + 4 * cols));
    for r in 0..rows {
        matrix.row_to_f32(r, &mut row);
        floats_as(&row, ty, &mut bytes);
        if bytes.len() >= CHUNK {
            sink(&bytes)?;
            bytes.clear();
        }
    }
    sink(&bytes)
}

/// The matrix with `scale` for all of it.
pub(crate) fn with_one_scale(matrix: TernaryMatrix, scale: f32) -> Result<TernaryMatrix, QuantError> {
    matrix.with_scales(Scales::Tensor(scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_scale_is_its_f16_times_a_factor(mantissa in 0u32..1 << 23, exponent in 113u32..142) {
            // Everything that f16 holds with all its bits, from 2^-14 to 2^15.
            let scale = f32::from_bits(exponent << 23 | mantissa);
            let (stored, factor) = split_scale(scale).unwrap();
            prop_assert_eq!(stored * factor, scale);
            prop_assert_eq!(f16::from_f32(stored).to_f32(), stored);
            prop_assert!((factor - 1.0).abs() <= 1.0 / 1024.0);
        }
    }
}
