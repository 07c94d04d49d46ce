//! Reading and checking a header.

use bitnet_core::SharedBytes;

use super::{
    cursor::Cursor,
    geometry::{self, Entry},
    metadata::GgufMetadata,
};
use crate::{FormatErrorKind as Kind, OpenOptions, TensorInfo};

/// The first four bytes of every GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Where data starts when the file does not say: on a multiple of this.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml's names are 64 bytes with the closing zero.
pub(crate) const MAX_NAME: u64 = 63;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// A checked header: its tensors' byte ranges lie inside the file and do not overlap.
pub(crate) struct Gguf {
    pub(crate) metadata: GgufMetadata,
    /// The tensors in the order of their data.
    pub(crate) tensors: Vec<TensorInfo>,
}

/// Reads and checks the header of a file; its tensors are said to be in shard number `shard`.
pub(crate) fn parse(bytes: &SharedBytes, options: &OpenOptions, shard: usize) -> Result<Gguf, Kind> {
    let mut cursor = Cursor::new(bytes, 0);
    cursor.range(MAGIC.len() as u64, "the magic")?;
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        // A big-endian file has its version, a small number, in the upper bytes.
        let swapped = (1..=0xffff).contains(&version.swap_bytes());
        return Err(if swapped { Kind::BigEndian } else { Kind::GgufVersion { version } });
    }
    let tensors = cursor.u64("the number of tensors")?;
    let keys = cursor.u64("the number of metadata keys")?;
    let metadata = GgufMetadata::parse(bytes, &mut cursor, keys)?;
    let alignment = alignment(&metadata)?;
    let mut entries = read_entries(&mut cursor, tensors, alignment)?;
    check_names(&entries)?;
    let start = (cursor.position() as u64).checked_next_multiple_of(alignment);
    let start = start.filter(|_| !entries.is_empty()).unwrap_or(cursor.position() as u64);
    set_rooms(&mut entries, (bytes.len() as u64).saturating_sub(start))?;
    let data = bytes.get(start as usize..).unwrap_or_default();
    let decisions = geometry::decide(&entries, data, alignment, options.i2s_64)?;
    let info = |(entry, decision): (Entry, geometry::Decision)| {
        let from = (start + entry.offset) as usize;
        TensorInfo::new(entry.name, decision.ty, entry.shape, shard, from..from + decision.bytes as usize)
    };
    Ok(Gguf { metadata, tensors: entries.into_iter().zip(decisions).map(info).collect() })
}

fn alignment(metadata: &GgufMetadata) -> Result<u64, Kind> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    let Some(alignment) = value.as_u64() else {
        let (key, expected) = ("general.alignment".into(), "a non-negative integer");
        return Err(Kind::KeyType { key, expected, got: value.describe() });
    };
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(Kind::Alignment { alignment });
    }
    Ok(alignment)
}

/// The tensors' entries, sorted by offset; rooms are not known yet.
fn read_entries(cursor: &mut Cursor<'_>, count: u64, alignment: u64) -> Result<Vec<Entry>, Kind> {
    // A name's length, the number of dimensions, one dimension, type and offset.
    let count = cursor.check_count(count, 32, "tensors")?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(read_entry(cursor, alignment)?);
    }
    entries.sort_by_key(|e| e.offset);
    Ok(entries)
}

fn read_entry(cursor: &mut Cursor<'_>, alignment: u64) -> Result<Entry, Kind> {
    let range = cursor.string("a tensor's name")?;
    if range.len() as u64 > MAX_NAME {
        let len = range.len() as u64;
        return Err(Kind::NameLength { what: "tensor name", len, limit: MAX_NAME });
    }
    let name = cursor.text(range, "a tensor's name")?;
    let n_dims = cursor.u32(&name)?;
    if !(1..=4).contains(&n_dims) {
        let expected = "one to four dimensions (the number is shown)";
        return Err(Kind::Shape { tensor: name, shape: vec![n_dims.into()], expected });
    }
    let mut dims = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        dims.push(cursor.u64(&name)?);
    }
    // ggml writes the contiguous dimension first.
    dims.reverse();
    let shape = shape(&name, &dims)?;
    let id = cursor.u32(&name)?;
    let offset = cursor.u64(&name)?;
    if !offset.is_multiple_of(alignment) {
        return Err(Kind::Misaligned { tensor: name, offset, alignment });
    }
    Ok(Entry { name, shape, id, offset, room: 0 })
}

/// Dimensions whose product, and its bytes in any type, can be reckoned with.
fn shape(name: &str, dims: &[u64]) -> Result<Vec<usize>, Kind> {
    if dims.contains(&0) {
        let expected = "no dimension of 0";
        return Err(Kind::Shape { tensor: name.into(), shape: dims.to_vec(), expected });
    }
    let product = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n <= i64::MAX as u64 / 8);
    let fit = dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    match (product, fit) {
        (Some(_), Ok(shape)) => Ok(shape),
        _ => Err(Kind::Overflow { what: format!("tensor {name:?} of shape {dims:?}") }),
    }
}

fn check_names(entries: &[Entry]) -> Result<(), Kind> {
    let mut names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|w| w[0] == w[1]) {
        Some(pair) => Err(Kind::DuplicateTensor { tensor: pair[0].into() }),
        None => Ok(()),
    }
}

/// The bytes from each tensor to the next, or to the end of the `len` bytes of data.
fn set_rooms(entries: &mut [Entry], len: u64) -> Result<(), Kind> {
    for i in 0..entries.len() {
        let end = entries.get(i + 1).map_or(len, |next| next.offset.min(len));
        let entry = &mut entries[i];
        if entry.offset >= len {
            let end = entry.offset.saturating_add(1);
            return Err(Kind::OutsideFile { tensor: entry.name.clone(), end, len });
        }
        entry.room = end - entry.offset;
    }
    Ok(())
}
