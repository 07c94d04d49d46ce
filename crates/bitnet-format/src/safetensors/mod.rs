//! The safetensors container: a JSON header, then the bytes.
//!
//! Source: the format description in huggingface/safetensors. Rules kept: no duplicate names, no overlap, no bytes
//! that belong to no tensor, ranges equal to what dtype and shape take, a header of at most 100 MB.

mod header;

use std::{collections::BTreeMap, ops::Range};

use bitnet_core::SharedBytes;

use crate::{FormatErrorKind as Kind, TensorInfo, TensorType};
use header::{Entry, Header};

/// As in the original implementation.
const MAX_HEADER: u64 = 100_000_000;
/// More dimensions than any tensor has.
const MAX_DIMS: usize = 8;

/// A checked header: its tensors' byte ranges lie inside the file and tile it.
pub(crate) struct Safetensors {
    /// The strings under `__metadata__`.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The tensors in the order of their data.
    pub(crate) tensors: Vec<TensorInfo>,
}

/// Whether the bytes can be a safetensors file: a possible header length, then an opening brace.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.len() > 8 && bytes[8] == b'{'
}

/// Reads and checks the header of a file; its tensors are said to be in shard number `shard`.
pub(crate) fn parse(bytes: &SharedBytes, shard: usize) -> Result<Safetensors, Kind> {
    let have = bytes.len() as u64;
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Kind::Truncated { what: "the header's length".into(), need: 8, have });
    };
    let len = u64::from_le_bytes(*length);
    if len > MAX_HEADER {
        return Err(Kind::HeaderLength { len, limit: MAX_HEADER });
    }
    let Some((text, data)) = rest.split_at_checked(len as usize) else {
        return Err(Kind::Truncated { what: "the header".into(), need: len, have: have - 8 });
    };
    // Copied before it is checked: a mapped file may change in between.
    let text = String::from_utf8(text.to_vec()).map_err(|_| Kind::NotUtf8 { what: "the header".into() })?;
    let Header { metadata, entries } = serde_json::from_str(&text)
        .map_err(|error| Kind::Json { what: "the header".into(), message: error.to_string() })?;
    let tensors = check(entries, len as usize + 8, data.len() as u64, shard)?;
    Ok(Safetensors { metadata: metadata.unwrap_or_default(), tensors })
}

/// Turns entries into tensors whose data start at byte `base` of the file and take `len` bytes together.
fn check(
    entries: Vec<(String, Entry)>,
    base: usize,
    len: u64,
    shard: usize,
) -> Result<Vec<TensorInfo>, Kind> {
    check_names(&entries)?;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let (ty, shape) = check_entry(&name, &entry, len)?;
        let Range { start, end } = entry.range();
        tensors.push(TensorInfo::new(name, ty, shape, shard, base + start as usize..base + end as usize));
    }
    // An empty tensor stands before a full one that starts where it does.
    tensors.sort_by_key(|t| (t.range().start, t.range().end));
    let mut at = base;
    let mut last: Option<&TensorInfo> = None;
    for tensor in &tensors {
        let Range { start, end } = tensor.range();
        if let Some(last) = last.filter(|_| start < at) {
            let (first, second) = (last.name().to_owned(), tensor.name().to_owned());
            let gap = (start - last.range().start) as u64;
            return Err(Kind::Overlap { first, second, bytes: last.byte_len() as u64, gap });
        }
        if start > at {
            return Err(Kind::Hole { offset: (at - base) as u64, bytes: (start - at) as u64 });
        }
        (at, last) = (end, Some(tensor));
    }
    let used = (at - base) as u64;
    if used != len {
        return Err(Kind::Hole { offset: used, bytes: len - used });
    }
    Ok(tensors)
}

fn check_names(entries: &[(String, Entry)]) -> Result<(), Kind> {
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|w| w[0] == w[1]) {
        Some(pair) => Err(Kind::DuplicateTensor { tensor: pair[0].into() }),
        None => Ok(()),
    }
}

fn check_entry(name: &str, entry: &Entry, len: u64) -> Result<(TensorType, Vec<usize>), Kind> {
    let tensor = || name.to_owned();
    let ty = parse_dtype(&entry.dtype)
        .ok_or_else(|| Kind::Dtype { tensor: tensor(), dtype: entry.dtype.chars().take(40).collect() })?;
    if entry.shape.len() > MAX_DIMS {
        let shape = entry.shape[..MAX_DIMS].to_vec();
        return Err(Kind::Shape {
            tensor: tensor(),
            shape,
            expected: "at most eight dimensions (the first are shown)",
        });
    }
    let Range { start, end } = entry.range();
    if end > len || start > end {
        return Err(Kind::OutsideFile { tensor: tensor(), end: end.max(start), len });
    }
    let overflow = || Kind::Overflow { what: format!("tensor {name:?} of shape {:?}", entry.shape) };
    let size = ty.block().map_or(1, |(_, bytes)| bytes as u64);
    let expected = entry.shape.iter().try_fold(size, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
    if expected != end - start {
        let (dtype, shape) = (entry.dtype.clone(), entry.shape.clone());
        return Err(Kind::ByteLength { tensor: tensor(), dtype, shape, expected, got: end - start });
    }
    let shape: Option<Vec<usize>> = entry.shape.iter().map(|&d| d.try_into().ok()).collect();
    Ok((ty, shape.filter(|s| crate::gguf::matrix(s).is_some()).ok_or_else(overflow)?))
}

/// The format's names of element types, and ours.
const DTYPES: [(&str, TensorType); 15] = [
    ("F64", TensorType::F64),
    ("F32", TensorType::F32),
    ("F16", TensorType::F16),
    ("BF16", TensorType::Bf16),
    ("F8_E4M3", TensorType::F8E4M3),
    ("F8_E5M2", TensorType::F8E5M2),
    ("I64", TensorType::I64),
    ("I32", TensorType::I32),
    ("I16", TensorType::I16),
    ("I8", TensorType::I8),
    ("U64", TensorType::U64),
    ("U32", TensorType::U32),
    ("U16", TensorType::U16),
    ("U8", TensorType::U8),
    ("BOOL", TensorType::Bool),
];

fn parse_dtype(name: &str) -> Option<TensorType> {
    DTYPES.iter().find(|(n, _)| *n == name).map(|(_, ty)| *ty)
}

/// The format's name for a type, if it has one.
pub(crate) fn dtype_name(ty: TensorType) -> Option<&'static str> {
    DTYPES.iter().find(|(_, t)| *t == ty).map(|(name, _)| *name)
}
