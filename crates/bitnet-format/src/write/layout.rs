//! Where tensors go, and what has been written of them.

use std::collections::BTreeMap;

use crate::{
    FormatError, FormatErrorKind as Kind, TensorType,
    digest::{self, Digest},
    gguf::matrix,
};

use super::atomic::AtomicFile;

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The tensor's name in the file.
    pub name: String,
    /// How the tensor's elements are stored.
    pub ty: TensorType,
    /// Row-major, the contiguous dimension last.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor that is to be written.
    pub fn new(name: impl Into<String>, ty: TensorType, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), ty, shape: shape.into() }
    }

    /// Bytes that type and shape take.
    pub(super) fn byte_len(&self) -> Result<u64, FormatError> {
        let len = matrix(&self.shape).and_then(|(rows, cols)| self.ty.byte_len(rows, cols));
        len.map(|n| n as u64).ok_or_else(|| {
            let expected = "a shape that the type can hold in whole blocks";
            let shape = self.shape.iter().map(|&d| d as u64).collect();
            Kind::Shape { tensor: self.name.clone(), shape, expected }.into()
        })
    }
}

/// Bytes promised and bytes written, by tensor.
pub(super) struct Progress {
    tensors: BTreeMap<String, Extent>,
    end: u64,
}

/// What [`Progress::digests`] gives: names in order, and the digest of each.
pub(super) type Digests<'a> = Vec<(&'a str, [u8; digest::LEN])>;

struct Extent {
    start: u64,
    len: u64,
    written: u64,
    /// Of what was written, where the file keeps digests.
    digest: Option<Digest>,
}

impl Progress {
    /// Tensors by name with start (in the file) and length; the file ends at `end`.
    pub(super) fn new(
        tensors: impl IntoIterator<Item = (String, u64, u64)>,
        end: u64,
    ) -> Result<Self, FormatError> {
        let mut map = BTreeMap::new();
        for (name, start, len) in tensors {
            if map.insert(name.clone(), Extent { start, len, written: 0, digest: None }).is_some() {
                return Err(Kind::DuplicateTensor { tensor: name }.into());
            }
        }
        Ok(Self { tensors: map, end })
    }

    /// From here on a digest of each tensor is kept.
    pub(super) fn keep_digests(&mut self) {
        self.tensors.values_mut().for_each(|e| e.digest = Some(Digest::new()));
    }

    /// The digests of what was written.
    pub(super) fn digests(&self) -> Digests<'_> {
        let digests = self.tensors.iter().map(|(name, e)| Some((name.as_str(), e.digest.as_ref()?.finish())));
        digests.flatten().collect()
    }

    /// Appends `bytes` to the tensor `name`; tensors may come in any order and in any number of pieces.
    pub(super) fn append(
        &mut self,
        file: &mut AtomicFile,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), FormatError> {
        let at = |kind: Kind, file: &AtomicFile| FormatError::from(kind).at(file.path());
        let Some(extent) = self.tensors.get_mut(name) else {
            return Err(at(Kind::NoTensor { tensor: name.into() }, file));
        };
        let got = extent.written + bytes.len() as u64;
        if got > extent.len {
            return Err(at(Kind::Written { tensor: name.into(), expected: extent.len, got }, file));
        }
        file.write_at(extent.start + extent.written, bytes)?;
        extent.written = got;
        if let Some(digest) = &mut extent.digest {
            digest.add(bytes);
        }
        Ok(())
    }

    /// Completes the file, if every tensor is there.
    pub(super) fn finish(self, file: AtomicFile) -> Result<u64, FormatError> {
        if let Some((name, e)) = self.tensors.iter().find(|(_, e)| e.written != e.len) {
            let kind = Kind::Written { tensor: name.clone(), expected: e.len, got: e.written };
            return Err(FormatError::from(kind).at(file.path()));
        }
        file.finish_at(self.end)?;
        Ok(self.end)
    }
}
