//! Writing safetensors files, ours and Hugging Face's.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, json};

use crate::{FormatError, FormatErrorKind as Kind, TensorType, bitnet_keys, digest, safetensors::dtype_name};

use super::{
    atomic::AtomicFile,
    layout::{Progress, TensorSpec},
};

/// The data section, and every tensor that can be, starts on a multiple of this.
const ALIGNMENT: u64 = 64;

/// Writes a safetensors file: all names first, then bytes in any order, then [`SafetensorsWriter::finish`].
///
/// Tensors whose sizes are multiples of 64 bytes stand first, so that each starts on such a multiple; the others
/// follow, the widest elements first. When the metadata make the file a `.bitnet` file ([`bitnet_keys::FORMAT`]), filler
/// tensors put every tensor on a multiple of 64, and a tensor of digests is added ([`bitnet_keys::DIGESTS`]).
pub struct SafetensorsWriter {
    file: AtomicFile,
    progress: Progress,
    /// Of the header, where the file keeps digests.
    header: Option<[u8; digest::LEN]>,
}

impl SafetensorsWriter {
    /// Begins a file that will be at `path` when it is finished.
    ///
    /// # Errors
    /// When two tensors have one name, a type is not one of the format, or the disk refuses.
    pub fn create(
        path: &Path,
        metadata: &BTreeMap<String, String>,
        tensors: &[TensorSpec],
    ) -> Result<Self, FormatError> {
        let at = |e: FormatError| e.at(path);
        let ours = metadata.contains_key(bitnet_keys::FORMAT);
        let mut tensors = tensors.to_vec();
        if ours {
            let shape = [tensors.len() + 1, digest::LEN];
            tensors.push(TensorSpec::new(bitnet_keys::DIGESTS, TensorType::U8, shape));
        }
        let placed = place(&tensors, ours).map_err(at)?;
        let header = header(metadata, &placed).map_err(at)?;
        let base = header.len() as u64;
        let end = base + placed.last().map_or(0, |p| p.start + p.len);
        // Filler is zeros, which a file that was never written there has.
        let is_filler = |name: &str| name.starts_with(bitnet_keys::FILLER) && name != bitnet_keys::DIGESTS;
        let real = placed.iter().filter(|p| !is_filler(&p.spec.name));
        let extents = real.map(|p| (p.spec.name.clone(), base + p.start, p.len));
        let mut progress = Progress::new(extents, end).map_err(at)?;
        if ours {
            progress.keep_digests();
        }
        let mut file = AtomicFile::create(path)?;
        file.write_at(0, &header)?;
        Ok(Self { file, progress, header: ours.then(|| digest::of(&header)) })
    }

    /// Appends bytes to a tensor.
    ///
    /// # Errors
    /// When the tensor was not announced, or gets more bytes than it takes, or the disk refuses.
    pub fn write(&mut self, tensor: &str, bytes: &[u8]) -> Result<(), FormatError> {
        self.progress.append(&mut self.file, tensor, bytes)
    }

    /// Brings the file to the disk under its name; returns its size in bytes.
    ///
    /// # Errors
    /// When a tensor is incomplete (then no file appears), or the disk refuses.
    pub fn finish(mut self) -> Result<u64, FormatError> {
        if let Some(header) = self.header {
            let digests = self.progress.digests();
            let of_tensors = digests.iter().filter(|(name, _)| *name != bitnet_keys::DIGESTS);
            let rows: Vec<_> = std::iter::once(header).chain(of_tensors.map(|(_, digest)| *digest)).collect();
            self.progress.append(&mut self.file, bitnet_keys::DIGESTS, rows.as_flattened())?;
        }
        self.progress.finish(self.file)
    }
}

/// A tensor and its place in the data section.
struct Placed {
    spec: TensorSpec,
    start: u64,
    len: u64,
}

fn place(tensors: &[TensorSpec], fill: bool) -> Result<Vec<Placed>, FormatError> {
    let sized =
        tensors.iter().map(|spec| Ok((spec, spec.byte_len()?))).collect::<Result<Vec<_>, FormatError>>()?;
    let (whole, odd): (Vec<_>, Vec<_>) =
        sized.into_iter().partition(|(_, len)| len.is_multiple_of(ALIGNMENT));
    let mut odd = odd;
    odd.sort_by_key(|(spec, _)| std::cmp::Reverse(spec.ty.block().map_or(1, |(_, bytes)| bytes)));
    let mut placed: Vec<Placed> = Vec::with_capacity(tensors.len());
    let mut at = 0u64;
    for (spec, len) in whole.into_iter().chain(odd) {
        let gap = at.next_multiple_of(ALIGNMENT) - at;
        if fill && gap > 0 {
            let name = format!("{}{}", bitnet_keys::FILLER, placed.len());
            placed.push(Placed {
                spec: TensorSpec::new(name, TensorType::U8, [gap as usize]),
                start: at,
                len: gap,
            });
            at += gap;
        }
        placed.push(Placed { spec: spec.clone(), start: at, len });
        let overflow = || FormatError::from(Kind::Overflow { what: "the file".into() });
        at = at.checked_add(len).filter(|&n| n < u64::MAX / 2).ok_or_else(overflow)?;
    }
    Ok(placed)
}

/// The length and the JSON text, padded so that data start on a multiple of [`ALIGNMENT`].
fn header(metadata: &BTreeMap<String, String>, placed: &[Placed]) -> Result<Vec<u8>, FormatError> {
    let mut map = Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".into(), json!(metadata));
    }
    for p in placed {
        let name = &p.spec.name;
        let dtype = dtype_name(p.spec.ty).ok_or_else(|| {
            let advice = "safetensors files cannot hold this type";
            FormatError::from(Kind::Unreadable { tensor: name.clone(), ty: p.spec.ty, advice })
        })?;
        let entry =
            json!({ "dtype": dtype, "shape": p.spec.shape, "data_offsets": [p.start, p.start + p.len] });
        if map.insert(name.clone(), entry).is_some() {
            return Err(Kind::DuplicateTensor { tensor: name.clone() }.into());
        }
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    let len = (text.len() as u64 + 8).next_multiple_of(ALIGNMENT) - 8;
    text.resize(len as usize, b' ');
    Ok([&len.to_le_bytes()[..], &text].concat())
}
