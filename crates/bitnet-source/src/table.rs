//! Tables of floats from tensors.

use bitnet_core::SharedBytes;
use bitnet_format::{TensorType, TensorView};
use bitnet_kernels::BlockType;
use bitnet_model::Table;

use crate::error::SourceError;

/// The table in `view`, without copying.
///
/// # Errors
/// When the tensor's type cannot be read as floats.
pub fn table(view: &TensorView<'_>) -> Result<Table, SourceError> {
    let info = view.info();
    if info.ty().is_float() {
        return Ok(Table::Dense(view.to_dense()?));
    }
    // One row proves that the type is readable and its rows have their bytes.
    view.dequantize_row(0, &mut vec![0.0; info.cols()])?;
    block_table(info.name(), info.ty(), [info.rows(), info.cols()], view.shared())
}

/// The table of `[rows, cols]` in blocks of type `ty`, which errors call `name`.
///
/// # Errors
/// When they are no blocks of integers, or the bytes are not those of such a table.
pub fn block_table(
    name: &str,
    ty: TensorType,
    shape: [usize; 2],
    bytes: SharedBytes,
) -> Result<Table, SourceError> {
    let blocks = block_type(ty).ok_or_else(|| SourceError::config(name, "blocks of integers", ty))?;
    Ok(Table::blocks(name, blocks, shape, bytes)?)
}

/// What the kernels call blocks of type `ty`; `None` for trits, which are read as such, and for what is no blocks.
fn block_type(ty: TensorType) -> Option<BlockType> {
    Some(match ty {
        TensorType::Q4_0 => BlockType::Q4_0,
        TensorType::Q4_1 => BlockType::Q4_1,
        TensorType::Q5_0 => BlockType::Q5_0,
        TensorType::Q5_1 => BlockType::Q5_1,
        TensorType::Q8_0 => BlockType::Q8_0,
        TensorType::Iq4Nl => BlockType::Iq4Nl,
        TensorType::Mxfp4 => BlockType::Mxfp4,
        TensorType::Q2K => BlockType::Q2K,
        TensorType::Q3K => BlockType::Q3K,
        TensorType::Q4K => BlockType::Q4K,
        TensorType::Q5K => BlockType::Q5K,
        TensorType::Q6K => BlockType::Q6K,
        TensorType::Iq4Xs => BlockType::Iq4Xs,
        _ => return None,
    })
}
