//! Writing safetensors files, ours and Hugging Face's.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, json};

use crate::{FormatError, FormatErrorKind as Kind, TensorType, safetensors::dtype_name};

use super::{
    atomic::AtomicFile,
    bitnet_keys,
    layout::{Progress, TensorSpec},
};

/// The data section, and every tensor that can be, starts on a multiple of this.
const ALIGNMENT: u64 = 64;

/// Writes a safetensors file: all names first, then bytes in any order, then [`SafetensorsWriter::finish`].
///
/// Tensors whose sizes are multiples of 64 bytes stand first, so that each starts on such a multiple; the others
/// follow, the widest elements first. When the metadata make the file a `.bitnet` file ([`bitnet_keys::FORMAT`]), filler
/// tensors put every tensor on a multiple of 64.
pub struct SafetensorsWriter {
    file: AtomicFile,
    progress: Progress,
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
        let placed = place(tensors, metadata.contains_key(bitnet_keys::FORMAT)).map_err(at)?;
        let header = header(metadata, &placed).map_err(at)?;
        let base = header.len() as u64;
        let end = base + placed.last().map_or(0, |p| p.start + p.len);
        // Filler is zeros, which a file that was never written there has.
        let real = placed.iter().filter(|p| !p.spec.name.starts_with(bitnet_keys::FILLER));
        let extents = real.map(|p| (p.spec.name.clone(), base + p.start, p.len));
        let progress = Progress::new(extents, end).map_err(at)?;
        let mut file = AtomicFile::create(path)?;
        file.write_at(0, &header)?;
        Ok(Self { file, progress })
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
    pub fn finish(self) -> Result<u64, FormatError> {
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
