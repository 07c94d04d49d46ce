//! The values of GGUF metadata, decoded from the file's bytes when they are asked for.

use crate::FormatErrorKind as Kind;

use super::cursor::Cursor;

/// How deep arrays may nest; files in the world do not nest them at all.
const MAX_NESTING: usize = 4;

/// A value of the metadata, borrowed from the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufValue<'a> {
    /// Value type 0, an unsigned byte.
    U8(u8),
    /// Value type 1, a signed byte.
    I8(i8),
    /// Value type 2, unsigned, 16 bits.
    U16(u16),
    /// Value type 3, signed, 16 bits.
    I16(i16),
    /// Value type 4, unsigned, 32 bits.
    U32(u32),
    /// Value type 5, signed, 32 bits.
    I32(i32),
    /// Value type 6, IEEE 754 binary32.
    F32(f32),
    /// Value type 7, a byte that is 0 or 1.
    Bool(bool),
    /// Type 8; usually UTF-8, but a token may be any bytes.
    Str(&'a [u8]),
    /// Value type 9, items of one type.
    Array(GgufArray<'a>),
    /// Value type 10, unsigned, 64 bits.
    U64(u64),
    /// Value type 11, signed, 64 bits.
    I64(i64),
    /// Value type 12, IEEE 754 binary64.
    F64(f64),
}

/// An array in GGUF metadata: its items were checked when the file was opened and are decoded one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GgufArray<'a> {
    pub(super) item_type: u32,
    pub(super) count: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> GgufArray<'a> {
    /// The number of items of the array.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the array has no items.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of the items' type in the file.
    pub fn item_type(&self) -> u32 {
        self.item_type
    }

    /// The items as the file has them.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    /// The items of the array, in order.
    pub fn iter(&self) -> impl Iterator<Item = GgufValue<'a>> + use<'a> {
        let (item_type, bytes) = (self.item_type, self.bytes);
        let mut at = 0;
        (0..self.count).map_while(move |_| {
            // The walk at opening has proved that every item is there; were it wrong, the array would end here.
            let (value, end) = read(bytes, at, item_type, "an array item", MAX_NESTING).ok()?;
            at = end;
            Some(value)
        })
    }

    /// The items as strings of bytes, or `None` when they are of another type.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        (self.item_type == 8).then(|| {
            self.iter().filter_map(|v| match v {
                GgufValue::Str(s) => Some(s),
                _ => None,
            })
        })
    }
}

impl<'a> GgufValue<'a> {
    /// The number of this value's type in the file.
    pub fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Str(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            _ => self.as_i64().and_then(|v| v.try_into().ok()),
        }
    }

    /// The value of any integer type, if it fits in an i64.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::I64(v) => Some(v),
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// A float of either width, rounded to f32.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(v) => Some(v),
            Self::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value, if its type is bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is a string and UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::Str(v) => std::str::from_utf8(v).ok(),
            _ => None,
        }
    }

    /// The value, if it is an array.
    pub fn as_array(&self) -> Option<GgufArray<'a>> {
        match *self {
            Self::Array(v) => Some(v),
            _ => None,
        }
    }

    /// What this value is, for errors.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Str(s) => match std::str::from_utf8(s) {
                Ok(s) => format!("the string {:?}", s.chars().take(40).collect::<String>()),
                Err(_) => "a string that is not UTF-8".into(),
            },
            Self::Array(a) => format!("an array of {}", a.count),
            other => format!("{other:?}"),
        }
    }
}

/// Bytes of one value of a type that has a fixed size.
fn fixed_size(ty: u32) -> Option<u64> {
    match ty {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The value of type `ty` at `at` of `bytes`, and where it ends. `key` names it in errors.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    at: usize,
    ty: u32,
    key: &str,
    nesting: usize,
) -> Result<(GgufValue<'a>, usize), Kind> {
    let mut cursor = Cursor::new(bytes, at);
    let value = match ty {
        8 => GgufValue::Str(&bytes[cursor.string(key)?]),
        9 => GgufValue::Array(read_array(bytes, &mut cursor, key, nesting)?),
        _ => {
            let size = fixed_size(ty).ok_or_else(|| Kind::ValueType { key: key.into(), id: ty })?;
            let raw = &bytes[cursor.range(size, key)?];
            let mut word = [0; 8];
            word[..raw.len()].copy_from_slice(raw);
            scalar(ty, u64::from_le_bytes(word))
        }
    };
    Ok((value, cursor.position()))
}

/// The scalar of type `ty` whose little-endian bytes, widened with zeros, are `bits`.
fn scalar<'a>(ty: u32, bits: u64) -> GgufValue<'a> {
    match ty {
        0 => GgufValue::U8(bits as u8),
        1 => GgufValue::I8(bits as i8),
        2 => GgufValue::U16(bits as u16),
        3 => GgufValue::I16(bits as i16),
        4 => GgufValue::U32(bits as u32),
        5 => GgufValue::I32(bits as i32),
        6 => GgufValue::F32(f32::from_bits(bits as u32)),
        7 => GgufValue::Bool(bits != 0),
        10 => GgufValue::U64(bits),
        11 => GgufValue::I64(bits as i64),
        _ => GgufValue::F64(f64::from_bits(bits)),
    }
}

fn read_array<'a>(
    bytes: &'a [u8],
    cursor: &mut Cursor<'a>,
    key: &str,
    nesting: usize,
) -> Result<GgufArray<'a>, Kind> {
    let item_type = cursor.u32(key)?;
    let count = cursor.u64(key)?;
    let items = || format!("items of the array {key:?}");
    let start = cursor.position();
    let count = match item_type {
        // A string takes at least its length, an array its type and count.
        8 | 9 => cursor.check_count(count, if item_type == 8 { 8 } else { 12 }, &items())?,
        _ => {
            let size =
                fixed_size(item_type).ok_or_else(|| Kind::ValueType { key: key.into(), id: item_type })?;
            let count = cursor.check_count(count, size, &items())?;
            cursor.range(count as u64 * size, key)?;
            return Ok(GgufArray { item_type, count, bytes: &bytes[start..cursor.position()] });
        }
    };
    if item_type == 9 && nesting == 0 {
        return Err(Kind::Nesting { key: key.into(), limit: MAX_NESTING });
    }
    for _ in 0..count {
        if item_type == 8 {
            cursor.string(key)?;
        } else {
            read_array(bytes, cursor, key, nesting - 1)?;
        }
    }
    Ok(GgufArray { item_type, count, bytes: &bytes[start..cursor.position()] })
}

/// Reads the value of a key at the top level.
pub(super) fn read_top<'a>(
    bytes: &'a [u8],
    at: usize,
    ty: u32,
    key: &str,
) -> Result<(GgufValue<'a>, usize), Kind> {
    read(bytes, at, ty, key, MAX_NESTING)
}
