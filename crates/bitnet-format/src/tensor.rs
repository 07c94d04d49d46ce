//! What a file says of a tensor, and the view of its bytes.

use std::{fmt, ops::Range, path::Path};

use bitnet_core::{
    SharedBytes,
    tensor::{DType, DenseMatrix},
};

use crate::{FormatError, FormatErrorKind as Kind, TensorType, gguf::matrix};

/// Name, type and shape of a tensor, and where its bytes are.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: String,
    ty: TensorType,
    shape: Vec<usize>,
    shard: usize,
    range: Range<usize>,
}

impl TensorInfo {
    pub(crate) fn new(
        name: String,
        ty: TensorType,
        shape: Vec<usize>,
        shard: usize,
        range: Range<usize>,
    ) -> Self {
        Self { name, ty, shape, shard, range }
    }

    /// Of a matrix that fills some bytes of its own; `None` when no number of bytes is right for it.
    pub fn of_bytes(name: &str, ty: TensorType, shape: [usize; 2]) -> Option<Self> {
        let len = ty.byte_len(shape[0], shape[1])?;
        Some(Self::new(name.to_owned(), ty, shape.to_vec(), 0, 0..len))
    }

    /// The tensor's name as the file has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the tensor's elements are stored.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Row-major, the contiguous dimension last: `[out, in]` for a matrix. GGUF's own order is the reverse.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Product of all dimensions but the last; 1 for a vector.
    pub fn rows(&self) -> usize {
        matrix(&self.shape).map_or(0, |(rows, _)| rows)
    }

    /// The last dimension; 1 for a scalar.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes that the tensor takes in the file.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }

    /// Number of the file it is in, for models of several files.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Where its bytes are in that file.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// A tensor and its bytes, as they stand in the mapped file.
#[derive(Clone)]
pub struct TensorView<'a> {
    info: &'a TensorInfo,
    bytes: SharedBytes,
    /// Of the file, for errors; empty for bytes in memory.
    path: &'a Path,
}

impl<'a> TensorView<'a> {
    /// The view of `info` in the file at `path`, whose bytes are `file`.
    pub(crate) fn new(info: &'a TensorInfo, file: &SharedBytes, path: &'a Path) -> Result<Self, FormatError> {
        let bytes = file.slice(info.range()).ok_or_else(|| Kind::OutsideFile {
            tensor: info.name.clone(),
            end: info.range.end as u64,
            len: file.len() as u64,
        })?;
        Ok(Self { info, bytes, path })
    }

    /// A view of bytes that were taken from the tensor `info` describes ([`TensorView::shared`]) and kept beyond its
    /// checkpoint. Reading checks every length, so other bytes give errors.
    pub fn from_parts(info: &'a TensorInfo, bytes: SharedBytes) -> Self {
        Self { info, bytes, path: Path::new("") }
    }

    /// The tensor's name, type and shape.
    pub fn info(&self) -> &'a TensorInfo {
        self.info
    }

    /// The bytes, as the file has them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be held beyond the checkpoint: the map lives as long as any of them.
    pub fn shared(&self) -> SharedBytes {
        self.bytes.clone()
    }

    /// An F32, F16 or BF16 tensor as a matrix `[rows, cols]` over the mapped bytes. Only bytes that do not start
    /// on an element's boundary, as odd headers cause, are copied.
    ///
    /// # Errors
    /// [`FormatErrorKind::Unreadable`](crate::FormatErrorKind::Unreadable) for other types.
    pub fn to_dense(&self) -> Result<DenseMatrix, FormatError> {
        let dtype = match self.info.ty {
            TensorType::F32 => DType::F32,
            TensorType::F16 => DType::F16,
            TensorType::Bf16 => DType::Bf16,
            _ => return Err(self.unreadable("only F32, F16 and BF16 tensors are dense floats")),
        };
        let aligned = self.bytes.as_ptr().align_offset(dtype.size()) == 0;
        let bytes = if aligned { self.shared() } else { SharedBytes::aligned(&[&self.bytes]) };
        DenseMatrix::new(dtype, self.info.rows(), self.info.cols(), bytes).map_err(|_| {
            // Type, shape and bytes were matched when the file was opened.
            Kind::Overflow { what: format!("tensor {:?} of shape {:?}", self.info.name, self.info.shape) }
                .into()
        })
    }

    /// `kind` as an error that names the tensor's file.
    pub(crate) fn error(&self, kind: Kind) -> FormatError {
        let error = FormatError::from(kind);
        if self.path.as_os_str().is_empty() { error } else { error.at(self.path) }
    }

    pub(crate) fn unreadable(&self, advice: &'static str) -> FormatError {
        self.error(Kind::Unreadable { tensor: self.info.name.clone(), ty: self.info.ty, advice })
    }

    pub(crate) fn argument(&self, what: &'static str, got: usize, expected: String) -> FormatError {
        self.error(Kind::Argument { tensor: self.info.name.clone(), what, got, expected })
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorView({:?}, {}, {:?})", self.info.name, self.info.ty, self.info.shape)
    }
}
