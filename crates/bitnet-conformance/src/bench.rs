//! One operation at a time on a device: numbers in, numbers out.

use bitnet_core::{DType, tensor::DenseMatrix};
use bitnet_decoder::DecoderError;
use bitnet_device::{Batch, Device, DeviceError, KvShape, Pass, Pending, SequenceShape};
use bitnet_model::{MatrixForm, ModelError, Part, Table, Weight};

/// Numbers that follow from `seed`, of many sizes and both signs, some of them 0.
pub(crate) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let x = (i as u64 + 1).wrapping_mul(seed as u64 * 2 + 0x9E37_79B9_7F4A_7C15).rotate_left(23);
            let x = (x.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            match i % 11 {
                3 => 0.0,
                5 => x * 40.0,
                7 => x * 1e-3,
                _ => x,
            }
        })
        .collect()
}

/// A matrix of those floats.
pub(crate) fn dense(rows: usize, cols: usize, values: &[f32]) -> Result<Weight, ModelError> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(Weight::Table(Table::Dense(DenseMatrix::new(DType::F32, rows, cols, bytes.into())?)))
}

/// Rows on a device that hold `values`. They get there as rows of an embedding: devices have no other way in.
pub(crate) fn upload<D: Device>(device: &D, values: &[f32], width: usize) -> Result<D::Rows, DecoderError> {
    let tokens = values.len() / width;
    let table = device.matrix(Part::Embedding, "rows", dense(tokens, width, values)?, MatrixForm::Strips)?;
    let ids: Vec<u32> = (0..tokens as u32).collect();
    let mut rows = device.rows(tokens, width)?;
    run(device, &ids, |pass| pass.embed(&table, &mut rows))?;
    Ok(rows)
}

/// Runs operations that read no keys and values in a pass over `ids`.
pub(crate) fn run<D: Device>(
    device: &D,
    ids: &[u32],
    work: impl FnOnce(&mut D::Pass<'_>),
) -> Result<(), DecoderError> {
    let kv = KvShape { layers: 1, heads: 1, head_dim: 8 };
    let mut pages = device.pages(SequenceShape { kv, recurrent: None }, 1)?;
    let mut pass = device.begin(Batch { ids, ..Batch::default() }, &mut pages, None)?;
    work(&mut pass);
    pass.submit()?.wait()?;
    Ok(())
}

/// What `count` rows of a device hold.
pub(crate) fn download<D: Device>(
    device: &D,
    rows: &mut D::Rows,
    count: usize,
) -> Result<Vec<f32>, DeviceError> {
    let failed = |error: DecoderError| DeviceError::Failed { operation: "fetch", reason: error.to_string() };
    run(device, &[], |pass| pass.fetch(rows, count)).map_err(failed)?;
    Ok(device.read(rows, count).to_vec())
}
