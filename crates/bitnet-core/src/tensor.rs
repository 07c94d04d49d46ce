//! Dense matrices of floats over shared bytes: embeddings, heads, norms and unquantized projections.

use half::{bf16, f16};

use crate::{Error, SharedBytes};

/// How an element of a dense matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32, four bytes.
    F32,
    /// IEEE 754 binary16, two bytes.
    F16,
    /// The upper half of a binary32 (bfloat16), two bytes.
    Bf16,
}

impl DType {
    /// Bytes of one element: 4 or 2.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A row-major matrix `[rows, cols]` of little-endian floats.
#[derive(Clone, Debug)]
pub struct DenseMatrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: SharedBytes,
}

impl DenseMatrix {
    /// A view of `bytes` as `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the number of bytes is not that of the shape, or they do not start on an
    /// element boundary of memory.
    pub fn new(dtype: DType, rows: usize, cols: usize, bytes: SharedBytes) -> Result<Self, Error> {
        let want = rows.checked_mul(cols).and_then(|n| n.checked_mul(dtype.size()));
        if want != Some(bytes.len()) {
            return Err(Error::Mismatch {
                what: format!("dense {dtype:?} matrix [{rows}, {cols}]"),
                expected: want.map_or("a size that fits in memory".into(), |n| format!("{n} bytes")),
                got: format!("{} bytes", bytes.len()),
            });
        }
        if bytes.as_ptr().align_offset(dtype.size()) != 0 && !bytes.is_empty() {
            return Err(Error::Mismatch {
                what: format!("dense {dtype:?} matrix [{rows}, {cols}]"),
                expected: format!("an address that is a multiple of {}", dtype.size()),
                got: "an unaligned one".into(),
            });
        }
        Ok(Self { dtype, rows, cols, bytes })
    }

    /// A matrix that owns `values`, row by row.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when there are not `rows * cols` values.
    pub fn from_f32(rows: usize, cols: usize, values: &[f32]) -> Result<Self, Error> {
        // A byte vector need not be aligned for f32, so the words themselves are the owner.
        struct Words(Vec<f32>);
        impl AsRef<[u8]> for Words {
            fn as_ref(&self) -> &[u8] {
                bytemuck::must_cast_slice(&self.0)
            }
        }
        Self::new(DType::F32, rows, cols, SharedBytes::new(std::sync::Arc::new(Words(values.to_vec()))))
    }

    /// How the elements of this matrix are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows of the matrix, its outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, its inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes of all elements, row-major, without padding.
    pub fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// The elements as a slice of their type, row-major.
    pub fn values(&self) -> Values<'_> {
        match self.dtype {
            // The constructor checked length and alignment, so these casts cannot fail.
            DType::F32 => Values::F32(bytemuck::cast_slice(&self.bytes)),
            DType::F16 => Values::F16(bytemuck::cast_slice(&self.bytes)),
            DType::Bf16 => Values::Bf16(bytemuck::cast_slice(&self.bytes)),
        }
    }

    /// Row `row` widened to f32 (exact for every dtype) into `out`, `out.len() == cols`.
    ///
    /// # Panics
    /// When `row` or the length of `out` is outside the shape.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        let range = row * self.cols..(row + 1) * self.cols;
        assert_eq!(out.len(), self.cols);
        match self.values() {
            Values::F32(v) => out.copy_from_slice(&v[range]),
            Values::F16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, x)| *o = x.to_f32()),
            Values::Bf16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, x)| *o = x.to_f32()),
        }
    }
}

/// The elements of a [`DenseMatrix`], by type.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Elements of binary32, row-major.
    F32(&'a [f32]),
    /// Elements of binary16, row-major.
    F16(&'a [f16]),
    /// Elements of bfloat16, row-major.
    Bf16(&'a [bf16]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_widen_exactly() {
        let halves: Vec<u8> =
            [1.5f32, -2.0, 65504.0, 6e-8].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let matrix = DenseMatrix::new(DType::F16, 2, 2, halves.into()).unwrap();
        let mut row = [0.0; 2];
        matrix.row_to_f32(1, &mut row);
        assert_eq!(row, [65504.0, f16::from_f32(6e-8).to_f32()]);
    }

    #[test]
    fn sizes_must_agree() {
        let error = DenseMatrix::new(DType::Bf16, 3, 5, vec![0; 29].into()).unwrap_err();
        assert!(error.to_string().contains("30 bytes"), "{error}");
        assert!(DenseMatrix::new(DType::F32, usize::MAX, 2, vec![].into()).is_err());
    }
}
