//! Digests of what a `.bitnet` file holds, so that a byte that changed on a disk or a wire is found, and by name.
//!
//! The writer adds a tensor of 16 bytes a row: the digest of the header, length and text, then those of all tensors in the
//! order of their names. Its name begins as filler's do, so readers that do not know it pass over it. The digest is XXH3 with
//! 128 bits, which runs at the speed of memory: it finds accidents. Against somebody who means harm no digest inside the
//! file helps, whatever its kind, since they would write it anew.

use bitnet_core::SharedBytes;
use twox_hash::XxHash3_128;

use crate::{FormatErrorKind as Kind, TensorInfo, TensorType, bitnet_keys};

/// Bytes of a digest: 128 bits.
pub(crate) const LEN: usize = 16;

/// A digest of bytes that come in pieces.
pub(crate) struct Digest(XxHash3_128);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(XxHash3_128::new())
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn finish(&self) -> [u8; LEN] {
        self.0.finish_128().to_le_bytes()
    }
}

/// The digest of `bytes`, all at once.
pub(crate) fn of(bytes: &[u8]) -> [u8; LEN] {
    XxHash3_128::oneshot(bytes).to_le_bytes()
}

/// The digests among the tensors of the file `bytes`, when it has them; its header is checked at once.
pub(crate) fn find(bytes: &SharedBytes, tensors: &[TensorInfo]) -> Result<Option<TensorInfo>, Kind> {
    let Some(info) = tensors.iter().find(|t| t.name() == bitnet_keys::DIGESTS) else { return Ok(None) };
    let visible = tensors.iter().filter(|t| !t.name().starts_with(bitnet_keys::FILLER)).count();
    if info.ty() != TensorType::U8 || info.shape() != [visible + 1, LEN] {
        let shape = info.shape().iter().map(|&d| d as u64).collect();
        let expected = "a digest of 16 bytes for the header and each tensor";
        return Err(Kind::Shape { tensor: info.name().into(), shape, expected });
    }
    let damaged = || Kind::Damaged { what: "its header" };
    let header_len = bytes.first_chunk::<8>().map_or(0, |len| u64::from_le_bytes(*len)).saturating_add(8);
    let header = usize::try_from(header_len).ok().and_then(|len| bytes.get(..len));
    match header.zip(row(bytes, info, 0)) {
        Some((header, expected)) if of(header) == expected => Ok(Some(info.clone())),
        _ => Err(damaged()),
    }
}

/// Row `row` of the digests `info` of the file `bytes`.
pub(crate) fn row<'a>(bytes: &'a [u8], info: &TensorInfo, row: usize) -> Option<&'a [u8]> {
    bytes.get(info.range())?.get(row * LEN..(row + 1) * LEN)
}
