//! Which type a GGUF tensor has: its number is a hint, its bytes decide.
//!
//! Numbers 36 to 42 and those above 100 mean different things in different forks and are reused; no header field
//! tells which fork wrote a file. The number of bytes up to the next tensor does, and where it does not, the bytes.

use super::order::{self, Order};
use crate::{FormatErrorKind as Kind, TensorType};

/// What the header says of a tensor, and the room its bytes have.
pub(super) struct Entry {
    pub(super) name: String,
    /// Row-major: the contiguous dimension last.
    pub(super) shape: Vec<usize>,
    pub(super) id: u32,
    /// Where its bytes start, counted from the data section.
    pub(super) offset: u64,
    /// Bytes up to the next tensor or the end of the file.
    pub(super) room: u64,
}

/// The type that a tensor turns out to have, and the bytes it takes.
#[derive(Clone, Copy)]
pub(super) struct Decision {
    pub(super) ty: TensorType,
    pub(super) bytes: u64,
}

/// The types this crate knows under a number.
fn candidates(id: u32, i2s_64: bool) -> &'static [TensorType] {
    use TensorType as T;
    match id {
        0 => &[T::F32],
        1 => &[T::F16],
        2 => &[T::Q4_0],
        3 => &[T::Q4_1],
        6 => &[T::Q5_0],
        7 => &[T::Q5_1],
        8 => &[T::Q8_0],
        10 => &[T::Q2K],
        11 => &[T::Q3K],
        12 => &[T::Q4K],
        13 => &[T::Q5K],
        14 => &[T::Q6K],
        20 => &[T::Iq4Nl],
        23 => &[T::Iq4Xs],
        24 => &[T::I8],
        25 => &[T::I16],
        26 => &[T::I32],
        27 => &[T::I64],
        28 => &[T::F64],
        30 => &[T::Bf16],
        34 => &[T::Tq1_0],
        35 => &[T::Tq2_0],
        36 if i2s_64 => &[T::I2S64],
        36 => &[T::I2S],
        38 => &[T::Tl1],
        39 => &[T::Tl2, T::Mxfp4],
        41 => &[T::Q1_0],
        // Of the two orders of fields in blocks of 128, see `tell_orders`.
        42 => &[T::Q2_0 { group: 64 }, T::Q2_0 { group: 128 }],
        134 => &[T::Iq1Bn],
        135 => &[T::Iq2Bn],
        // PQ2_0, as PrismML calls what it wrote under 42 before.
        142 => &[T::Q2_0 { group: 128 }],
        143 => &[T::Ptq1_0],
        335 => &[T::Iq2BnR4],
        _ => &[],
    }
}

/// Weights and bytes of a block of the types that share a number with one of ours.
fn rival_block(id: u32) -> Option<(usize, u64)> {
    match id {
        36 => Some((32, 18)),   // IQ4_NL_4_4
        40 => Some((64, 36)),   // NVFP4
        142 => Some((256, 66)), // IQ2_TN
        143 => Some((256, 54)), // IQ1_TN
        _ => None,
    }
}

/// Whether several projects use the number.
fn is_contested(id: u32) -> bool {
    (31..=33).contains(&id) || id >= 36
}

/// Rows and columns of a row-major shape: the last dimension, and all others together. `None` on overflow.
pub(crate) fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    let (cols, rest) = shape.split_last().map_or((1, &[] as &[usize]), |(c, r)| (*c, r));
    let rows = rest.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    rows.checked_mul(cols).map(|_| (rows, cols))
}

/// Types and sizes of all entries of one file, which are sorted by offset; `data` is its data section, in which all of them lie.
pub(super) fn decide(
    entries: &[Entry],
    data: &[u8],
    alignment: u64,
    i2s_64: bool,
) -> Result<Vec<Decision>, Kind> {
    let mut decisions = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        decisions.push(decide_alone(entry, entries.get(i + 1), alignment, i2s_64)?);
    }
    // What one tensor's size leaves open, the others of the same number may settle: a file has one writer.
    let mut agreed = std::collections::BTreeMap::new();
    for (entry, decision) in entries.iter().zip(&decisions).filter(|(_, d)| !unknown(d)) {
        let slot = agreed.entry(entry.id).or_insert(Some(decision.ty));
        if *slot != Some(decision.ty) {
            *slot = None;
        }
    }
    for (i, (entry, decision)) in
        entries.iter().zip(&mut decisions).enumerate().filter(|(_, (_, d))| unknown(d))
    {
        let Some(Some(ty)) = agreed.get(&entry.id) else { continue };
        let last = i + 1 == entries.len();
        let fitting = |&bytes: &u64| fits(bytes, entry, last, alignment) || last && bytes <= entry.room;
        if let Some(bytes) = size(*ty, entry).filter(fitting) {
            *decision = Decision { ty: *ty, bytes };
        }
    }
    tell_orders(entries, data, &mut decisions);
    Ok(decisions)
}

/// Blocks of 128 under number 42 have their scale in front or behind, which makes no difference to their size.
fn tell_orders(entries: &[Entry], data: &[u8], decisions: &mut [Decision]) {
    let is_open = |(entry, d): &(&Entry, &mut Decision)| {
        entry.id == 42 && matches!(d.ty, TensorType::Q2_0 { group: 128 })
    };
    let bytes_of = |(entry, decision): (&Entry, &mut Decision)| {
        data.get(entry.offset as usize..)?.get(..decision.bytes as usize)
    };
    let open = entries.iter().zip(&mut *decisions).filter(is_open);
    let ty = match order::of(open.filter_map(bytes_of)) {
        Order::ScaleFirst => return,
        Order::ScaleLast => Some(TensorType::Tq2_0G128),
        Order::Unknown => None,
    };
    for (entry, decision) in entries.iter().zip(&mut *decisions).filter(is_open) {
        match ty {
            Some(ty) => decision.ty = ty,
            None => *decision = Decision { ty: TensorType::Unknown(entry.id), bytes: entry.room },
        }
    }
}

fn unknown(decision: &Decision) -> bool {
    matches!(decision.ty, TensorType::Unknown(_))
}

fn size(ty: TensorType, entry: &Entry) -> Option<u64> {
    let (rows, cols) = matrix(&entry.shape)?;
    ty.byte_len(rows, cols).map(|n| n as u64)
}

/// Whether `bytes` are what the room was made for.
fn fits(bytes: u64, entry: &Entry, last: bool, alignment: u64) -> bool {
    let padded = bytes.checked_next_multiple_of(alignment);
    padded == Some(entry.room) || last && bytes == entry.room
}

fn decide_alone(entry: &Entry, next: Option<&Entry>, alignment: u64, i2s_64: bool) -> Result<Decision, Kind> {
    let last = next.is_none();
    let unknown = Decision { ty: TensorType::Unknown(entry.id), bytes: entry.room };
    let known = candidates(entry.id, i2s_64);
    let sized: Vec<(TensorType, u64)> = known.iter().filter_map(|&ty| Some((ty, size(ty, entry)?))).collect();
    let mut matching = sized.iter().filter(|(_, bytes)| fits(*bytes, entry, last, alignment));
    let rival = rival_bytes(entry).is_some_and(|bytes| fits(bytes, entry, last, alignment));
    match (matching.next(), matching.next(), rival) {
        (Some(&(ty, bytes)), None, false) => return Ok(Decision { ty, bytes }),
        (Some(_), _, _) | (None, _, true) => return Ok(unknown),
        (None, _, false) => {}
    }
    if known.is_empty() {
        return Ok(unknown);
    }
    let Some(&(ty, least)) = sized.iter().min_by_key(|(_, bytes)| *bytes) else {
        // The shape does not divide into the type's blocks.
        return if is_contested(entry.id) { Ok(unknown) } else { Err(mislabelled(entry, known[0], 0)) };
    };
    if least > entry.room {
        return Err(too_short(entry, next, least));
    }
    match (is_contested(entry.id), last) {
        (true, _) => Ok(unknown),
        // Bytes appended to a file harm nobody.
        (false, true) => Ok(Decision { ty, bytes: least }),
        (false, false) => Err(mislabelled(entry, ty, least)),
    }
}

fn rival_bytes(entry: &Entry) -> Option<u64> {
    let (weights, bytes) = rival_block(entry.id)?;
    let (rows, cols) = matrix(&entry.shape)?;
    // IQ4_NL_4_4 interleaves four rows.
    if entry.id == 36 && !rows.is_multiple_of(4) {
        return None;
    }
    let blocks = (rows as u64).checked_mul(cols.is_multiple_of(weights).then_some(cols / weights)? as u64)?;
    blocks.checked_mul(bytes)
}

fn mislabelled(entry: &Entry, ty: TensorType, expected: u64) -> Kind {
    let (tensor, shape) = (entry.name.clone(), entry.shape.clone());
    if expected == 0 {
        let expected = "the last dimension to be a whole number of the type's blocks";
        let shape = shape.iter().map(|&d| d as u64).collect();
        return Kind::Shape { tensor, shape, expected };
    }
    Kind::Mislabelled { tensor, ty, shape, expected, room: entry.room }
}

fn too_short(entry: &Entry, next: Option<&Entry>, least: u64) -> Kind {
    let first = entry.name.clone();
    match next {
        Some(next) => Kind::Overlap { first, second: next.name.clone(), bytes: least, gap: entry.room },
        None => Kind::OutsideFile {
            tensor: first,
            end: entry.offset.saturating_add(least),
            len: entry.offset.saturating_add(entry.room),
        },
    }
}
