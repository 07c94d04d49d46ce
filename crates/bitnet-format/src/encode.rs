//! Ternary matrices as the bytes of other formats. Trits are always kept exactly; what a format cannot hold is
//! refused, and what it rounds (f16 scales) is reported.

use std::ops::Range;

use bitnet_quant::{Scales, TernaryMatrix};
use half::f16;

use crate::blocks::gather::{ZEROS, unplane};

/// A tensor's bytes in some format.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The tensor's bytes as the format has them.
    pub bytes: Vec<u8>,
    /// The largest relative error of a scale that was rounded to f16; 0 when none was.
    pub max_scale_loss: f32,
}

/// Why a matrix does not fit a format.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The rows are no whole number of blocks.
    #[error(
        "{format} stores rows in blocks of {block} weights, and {cols} columns are no whole number of them"
    )]
    Columns {
        /// The name of the format.
        format: &'static str,
        /// Weights in one block of the format.
        block: usize,
        /// Columns of the matrix, which must be whole blocks.
        cols: usize,
    },
    /// The number of rows is not one that the format can hold.
    #[error("{format} packs {block} rows into one, and {rows} rows are no whole number of them")]
    Rows {
        /// The name of the format.
        format: &'static str,
        /// Rows that the format packs together.
        block: usize,
        /// Rows of the matrix, which must be a multiple of these.
        rows: usize,
    },
    /// The format has one scale for all weights, the matrix several.
    #[error("{format} has one scale for the whole matrix, and this one has a scale per {granularity}")]
    OneScale {
        /// The name of the format.
        format: &'static str,
        /// What each scale of the matrix is for.
        granularity: String,
    },
    /// Weights of one block have different scales.
    #[error(
        "{format} has one scale per {block} weights, and row {row} has several within columns {first} to {last}"
    )]
    BlockScale {
        /// The name of the format.
        format: &'static str,
        /// Weights in one block of the format.
        block: usize,
        /// The row of the block, counted from 0.
        row: usize,
        /// The first column of the block.
        first: usize,
        /// The last column of the block.
        last: usize,
    },
    /// A weight of 0 where a format has signs only.
    #[error("{format} has no zeros, and the weight at row {row}, column {col} is 0")]
    Zero {
        /// The name of the format.
        format: &'static str,
        /// The row of the weight, counted from 0.
        row: usize,
        /// The column of the weight, counted from 0.
        col: usize,
    },
    /// A scale that is infinite or zero as f16.
    #[error("{format} stores scales as f16, which cannot hold {scale:e} (row {row})")]
    ScaleRange {
        /// The name of the format.
        format: &'static str,
        /// The scale that the format cannot hold.
        scale: f32,
        /// The row that the scale belongs to.
        row: usize,
    },
}

/// I2_S of bitnet.cpp on x86: blocks of 128, then the scale, then 28 bytes of zero.
///
/// # Errors
/// When the columns are no multiple of 128, or there is more than one scale.
pub fn encode_i2_s(matrix: &TernaryMatrix) -> Result<Encoded, EncodeError> {
    let scale = one_scale(matrix, "I2_S")?;
    whole_blocks(matrix, "I2_S", 128)?;
    let mut bytes = vec![0u8; matrix.codes().len() + 32];
    // Four planes of 32 weights, the first in the top bits.
    for (codes, out) in matrix.codes().as_chunks::<32>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        (0..4).for_each(|l| unplane(&codes[8 * l..8 * l + 8], 6 - 2 * l as u32, out));
    }
    bytes[matrix.codes().len()..][..4].copy_from_slice(&scale.to_le_bytes());
    Ok(Encoded { bytes, max_scale_loss: 0.0 })
}

/// TQ2_0 of ggml: two bits a weight, an f16 scale per 256.
///
/// # Errors
/// When the columns are no multiple of 256, a block has several scales, or f16 cannot hold one.
pub fn encode_tq2_0(matrix: &TernaryMatrix) -> Result<Encoded, EncodeError> {
    blocks(matrix, "TQ2_0", 256, |codes, scale, bytes| {
        let start = bytes.len();
        bytes.resize(start + 64, 0);
        for (half, out) in bytes[start..].as_chunks_mut::<32>().0.iter_mut().enumerate() {
            (0..4).for_each(|l| unplane(&codes[32 * half + 8 * l..][..8], 2 * l as u32, out));
        }
        bytes.extend(scale);
    })
}

/// TQ1_0 of ggml: five trits a byte, an f16 scale per 256.
///
/// # Errors
/// As [`encode_tq2_0`].
pub fn encode_tq1_0(matrix: &TernaryMatrix) -> Result<Encoded, EncodeError> {
    blocks(matrix, "TQ1_0", 256, |codes, scale, bytes| {
        base3(codes, [(0, 32, 5), (160, 16, 5), (240, 4, 4)], bytes);
        bytes.extend(scale);
    })
}

/// PTQ1_0 of PrismML's llama.cpp: five trits a byte, an f16 scale per 128.
///
/// # Errors
/// As [`encode_tq2_0`], with blocks of 128.
pub fn encode_ptq1_0(matrix: &TernaryMatrix) -> Result<Encoded, EncodeError> {
    blocks(matrix, "PTQ1_0", 128, |codes, scale, bytes| {
        base3(codes, [(0, 16, 5), (80, 8, 5), (120, 2, 4)], bytes);
        bytes.extend(scale);
    })
}

/// For each run of (first weight, bytes, digits): byte m of a run of `len` holds weights m, len + m, ... as base-3 digits, the
/// first most significant.
fn base3(codes: &[u8], runs: [(usize, usize, usize); 3], bytes: &mut Vec<u8>) {
    let code = |e: usize| u16::from(codes[e / 4] >> (2 * (e % 4)) & 3);
    for (first, len, digits) in runs {
        for m in 0..len {
            let padded = (0..5).map(|n| if n < digits { code(first + len * n + m) } else { 0 });
            let value = padded.fold(0, |v, digit| 3 * v + digit);
            bytes.push((value * 256).div_ceil(243) as u8);
        }
    }
}

/// Q1_0 of PrismML's llama.cpp: a bit for each sign, an f16 scale per 128. A block of zeros alone has a scale of 0.
///
/// # Errors
/// As [`encode_tq2_0`] with blocks of 128, and when a weight is 0 beside others that are not.
pub fn encode_q1_0(matrix: &TernaryMatrix) -> Result<Encoded, EncodeError> {
    let zero = |row: usize| {
        let blocks = matrix.row_codes(row).chunks(32).enumerate();
        let mut mixed = blocks.filter(|(_, codes)| codes.iter().any(|&c| c != ZEROS));
        mixed.find_map(|(i, codes)| Some((row, 128 * i + first_zero(codes)?)))
    };
    whole_blocks(matrix, "Q1_0", 128)?;
    if let Some((row, col)) = (0..matrix.rows()).find_map(zero) {
        return Err(EncodeError::Zero { format: "Q1_0", row, col });
    }
    blocks(matrix, "Q1_0", 128, |codes, scale, bytes| {
        bytes.extend(scale);
        let bit = |e: usize| codes[e / 4] >> (2 * (e % 4) + 1) & 1;
        bytes.extend((0..16).map(|m| (0..8).fold(0, |byte, n| byte | bit(8 * m + n) << n)));
    })
}

/// Where the first code of trit 0 is.
fn first_zero(codes: &[u8]) -> Option<usize> {
    (0..4 * codes.len()).find(|e| codes[e / 4] >> (2 * (e % 4)) & 3 == 1)
}

/// Q2_0: codes in plain order with an f16 scale per `group` of 64 (ggml) or 128 (an earlier variant).
///
/// # Errors
/// As [`encode_tq2_0`], with blocks of `group`.
pub fn encode_q2_0(matrix: &TernaryMatrix, group: usize) -> Result<Encoded, EncodeError> {
    blocks(matrix, "Q2_0", group, |codes, scale, bytes| {
        bytes.extend(scale);
        bytes.extend(codes);
    })
}

/// The U8 tensor `[rows / 4, cols]` of packed Hugging Face models. The scale, which is a tensor of its own there,
/// is not in it.
///
/// # Errors
/// When the rows are no multiple of 4 (transformers would unpack them to more), or there is more than one scale.
pub fn encode_hf_packed(matrix: &TernaryMatrix) -> Result<Encoded, EncodeError> {
    one_scale(matrix, "the packed form of Hugging Face models")?;
    let (rows, cols) = (matrix.rows(), matrix.cols());
    if !rows.is_multiple_of(4) {
        let format = "the packed form of Hugging Face models";
        return Err(EncodeError::Rows { format, block: 4, rows });
    }
    let packed_rows = rows / 4;
    let mut bytes = vec![0u8; packed_rows * cols];
    for row in 0..rows {
        let out = &mut bytes[row % packed_rows * cols..][..cols];
        unplane(matrix.row_codes(row), (row / packed_rows * 2) as u32, out);
    }
    Ok(Encoded { bytes, max_scale_loss: 0.0 })
}

fn whole_blocks(matrix: &TernaryMatrix, format: &'static str, block: usize) -> Result<(), EncodeError> {
    let cols = matrix.cols();
    if cols.is_multiple_of(block) { Ok(()) } else { Err(EncodeError::Columns { format, block, cols }) }
}

fn one_scale(matrix: &TernaryMatrix, format: &'static str) -> Result<f32, EncodeError> {
    // Equal scales of rows or groups are one scale.
    match matrix.scales().clone().coarsest(matrix.cols()) {
        Scales::Tensor(scale) => Ok(scale),
        Scales::Row(_) => Err(EncodeError::OneScale { format, granularity: "row".into() }),
        Scales::Group { size, .. } => {
            Err(EncodeError::OneScale { format, granularity: format!("group of {size}") })
        }
    }
}

/// Calls `write` with the codes and the f16 scale of each block, row by row.
fn blocks(
    matrix: &TernaryMatrix,
    format: &'static str,
    block: usize,
    mut write: impl FnMut(&[u8], [u8; 2], &mut Vec<u8>),
) -> Result<Encoded, EncodeError> {
    if block == 0 || !block.is_multiple_of(4) {
        return Err(EncodeError::Columns { format, block, cols: matrix.cols() });
    }
    whole_blocks(matrix, format, block)?;
    let mut out = Encoded { bytes: Vec::with_capacity(matrix.codes().len() * 5 / 4), max_scale_loss: 0.0 };
    for row in 0..matrix.rows() {
        for (i, codes) in matrix.row_codes(row).chunks_exact(block / 4).enumerate() {
            let columns = i * block..(i + 1) * block;
            let Some(scale) = block_scale(matrix, row, columns.clone(), codes) else {
                let (first, last) = (columns.start, columns.end - 1);
                return Err(EncodeError::BlockScale { format, block, row, first, last });
            };
            let stored = f16::from_f32(scale);
            if !stored.is_finite() || scale != 0.0 && stored.to_f32() == 0.0 {
                return Err(EncodeError::ScaleRange { format, scale, row });
            }
            if scale != 0.0 {
                out.max_scale_loss = out.max_scale_loss.max(((stored.to_f32() - scale) / scale).abs());
            }
            write(codes, stored.to_le_bytes(), &mut out.bytes);
        }
    }
    Ok(out)
}

/// The one scale of a block's nonzero weights; 0 when all are zero, `None` when there are several.
fn block_scale(matrix: &TernaryMatrix, row: usize, columns: Range<usize>, codes: &[u8]) -> Option<f32> {
    let size = match matrix.scales() {
        _ if codes.iter().all(|&c| c == ZEROS) => return Some(0.0),
        Scales::Tensor(_) | Scales::Row(_) => return Some(matrix.scale(row, columns.start)),
        Scales::Group { size, .. } if columns.start / size == (columns.end - 1) / size => {
            return Some(matrix.scale(row, columns.start));
        }
        Scales::Group { size, .. } => *size,
    };
    let nonzero = |j: &usize| codes[(j - columns.start) / 4] >> (2 * ((j - columns.start) % 4)) & 3 != 1;
    let mut groups: Vec<usize> = columns.clone().filter(nonzero).map(|j| j / size).collect();
    groups.dedup();
    let first = matrix.scale(row, groups.first()? * size);
    groups.iter().all(|g| matrix.scale(row, g * size) == first).then_some(first)
}
