//! The packing of Hugging Face models: four rows in one row of bytes.
//!
//! Source: `pack_weights` and `unpack_weights` of transformers' `integrations/bitnet.py`. With `R = ceil(out / 4)`, bits
//! `2i..2i + 2` of byte `[r, c]` are the code of row `i * R + r`, column `c`.

use bitnet_quant::{Scales, TernaryMatrix};

use crate::{FormatError, TensorType, TensorView, blocks::gather::plane};

/// Unpacks a U8 tensor `[ceil(rows / 4), cols]` to its first `rows` rows, with `scale` (already in the sense that a weight is
/// trit *times* scale).
///
/// # Errors
/// When the tensor is not U8 of that shape, a code is 3, or the scale is not finite.
pub fn hf_packed_to_ternary(
    view: &TensorView<'_>,
    rows: usize,
    scale: f32,
) -> Result<TernaryMatrix, FormatError> {
    let info = view.info();
    if info.ty() != TensorType::U8 || info.shape().len() != 2 {
        return Err(view.unreadable("packed trits of a Hugging Face model are a two-dimensional U8 tensor"));
    }
    let (packed_rows, cols) = (info.rows(), info.cols());
    if rows.div_ceil(4) != packed_rows || cols == 0 {
        let expected = format!("{} to {}", (packed_rows * 4).saturating_sub(3), packed_rows * 4);
        return Err(view.argument("the number of rows packed four to one", rows, expected));
    }
    view.check_bytes()?;
    let stride = cols.div_ceil(4);
    let mut codes = vec![0; rows * stride];
    for (row, codes) in codes.chunks_exact_mut(stride).enumerate() {
        let (shift, packed) = (row / packed_rows * 2, row % packed_rows);
        plane(&view.bytes()[packed * cols..][..cols], shift as u32, codes);
    }
    TernaryMatrix::new(rows, cols, codes, Scales::Tensor(scale)).map_err(|e| view.quant(e))
}
