//! The keys of a GGUF file, with getters that say what is missing or of the wrong type.

use std::fmt;

use bitnet_core::SharedBytes;

use crate::{FormatError, FormatErrorKind as Kind};

use super::{
    cursor::Cursor,
    value::{self, GgufArray, GgufValue},
};

/// Many times what the largest vocabularies take.
const MAX_KEYS: u64 = 1 << 30;

/// The metadata of a GGUF file. Values stay as bytes and are decoded on demand, so a vocabulary of hundreds of thousands of
/// strings costs one copy until it is used. The bytes are a copy: who rewrites a mapped file changes no value that was checked.
#[derive(Clone)]
pub struct GgufMetadata {
    bytes: SharedBytes,
    /// Key, type and position of each value, in file order.
    entries: Vec<Entry>,
    /// Indices of `entries`, sorted by key.
    by_key: Vec<usize>,
}

/// Moves the cursor past `count` keys and their values.
fn skip(bytes: &[u8], cursor: &mut Cursor<'_>, count: usize) -> Result<(), Kind> {
    for _ in 0..count {
        let (key, ty) = read_key(cursor)?;
        skip_value(bytes, cursor, &key, ty)?;
    }
    Ok(())
}

/// A key and the number of its value's type.
fn read_key(cursor: &mut Cursor<'_>) -> Result<(String, u32), Kind> {
    let range = cursor.string("a metadata key")?;
    if range.len() > usize::from(u16::MAX) {
        let len = range.len() as u64;
        return Err(Kind::NameLength { what: "metadata key", len, limit: u16::MAX.into() });
    }
    let key = cursor.text(range, "a metadata key")?;
    let ty = cursor.u32(&key)?;
    Ok((key, ty))
}

/// Moves the cursor past a value without keeping it, checking sizes and nesting.
fn skip_value(bytes: &[u8], cursor: &mut Cursor<'_>, key: &str, ty: u32) -> Result<(), Kind> {
    let at = cursor.position();
    let (_, end) = value::read_top(bytes, at, ty, key)?;
    cursor.range((end - at) as u64, key).map(|_| ())
}

#[derive(Clone)]
struct Entry {
    key: String,
    ty: u32,
    at: usize,
}

impl GgufMetadata {
    /// Reads `count` keys at the cursor and moves past them.
    pub(super) fn parse(bytes: &SharedBytes, cursor: &mut Cursor<'_>, count: u64) -> Result<Self, Kind> {
        // A key's length, the type, one byte of value.
        let count = cursor.check_count(count, 13, "metadata keys")?;
        let begin = cursor.position();
        skip(bytes, cursor, count)?;
        let len = cursor.position() as u64;
        if len > MAX_KEYS {
            return Err(Kind::HeaderLength { len, limit: MAX_KEYS });
        }
        let bytes = SharedBytes::from(bytes[..cursor.position()].to_vec());
        let mut cursor = Cursor::new(&bytes, begin);
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let (key, ty) = read_key(&mut cursor)?;
            let at = cursor.position();
            skip_value(&bytes, &mut cursor, &key, ty)?;
            entries.push(Entry { key, ty, at });
        }
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        by_key.sort_unstable_by(|&a, &b| entries[a].key.cmp(&entries[b].key));
        if let Some(pair) = by_key.windows(2).find(|w| entries[w[0]].key == entries[w[1]].key) {
            return Err(Kind::DuplicateKey { key: entries[pair[0]].key.clone() });
        }
        Ok(Self { bytes, entries, by_key })
    }

    fn decode(&self, entry: &Entry) -> Option<GgufValue<'_>> {
        // It was decoded once when the file was opened, so this is always a value.
        value::read_top(&self.bytes, entry.at, entry.ty, &entry.key).ok().map(|(value, _)| value)
    }

    /// The value of `key`; a file with the same key twice is refused when it is opened.
    pub fn get(&self, key: &str) -> Option<GgufValue<'_>> {
        let at = self.by_key.binary_search_by(|&i| self.entries[i].key.as_str().cmp(key)).ok()?;
        self.decode(&self.entries[self.by_key[at]])
    }

    /// All keys and values, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, GgufValue<'_>)> {
        self.entries.iter().filter_map(|e| Some((e.key.as_str(), self.decode(e)?)))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        take: impl Fn(&GgufValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match take(&value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(Kind::KeyType { key: key.into(), expected, got: value.describe() }.into()),
        }
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// [`FormatErrorKind::KeyType`](crate::FormatErrorKind::KeyType) when it is something else, as for all getters.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, FormatError> {
        self.typed(key, "a UTF-8 string", GgufValue::as_str)
    }

    /// A non-negative integer of any width, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, FormatError> {
        self.typed(key, "a non-negative integer", GgufValue::as_u64)
    }

    /// A float, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, FormatError> {
        self.typed(key, "a float", GgufValue::as_f32)
    }

    /// A bool, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        self.typed(key, "a bool", GgufValue::as_bool)
    }

    /// An array, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_array(&self, key: &str) -> Result<Option<GgufArray<'_>>, FormatError> {
        self.typed(key, "an array", GgufValue::as_array)
    }

    /// An array of strings, which may be any bytes, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_strings(&self, key: &str) -> Result<Option<Vec<&[u8]>>, FormatError> {
        self.typed(key, "an array of strings", |v| v.as_array()?.strings().map(Iterator::collect))
    }

    /// An array of floats, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Vec<f32>>, FormatError> {
        self.typed(key, "an array of floats", |v| v.as_array()?.iter().map(|v| v.as_f32()).collect())
    }

    /// An array of integers, if the key is there.
    ///
    /// # Errors
    /// As [`GgufMetadata::opt_str`].
    pub fn opt_i64s(&self, key: &str) -> Result<Option<Vec<i64>>, FormatError> {
        self.typed(key, "an array of integers", |v| v.as_array()?.iter().map(|v| v.as_i64()).collect())
    }

    /// A string.
    ///
    /// # Errors
    /// When the key is missing ([`FormatErrorKind::MissingKey`](crate::FormatErrorKind::MissingKey)) or something else.
    pub fn str(&self, key: &str) -> Result<&str, FormatError> {
        self.opt_str(key)?.ok_or_else(|| missing(key))
    }

    /// A non-negative integer of any width.
    ///
    /// # Errors
    /// As [`GgufMetadata::str`].
    pub fn u64(&self, key: &str) -> Result<u64, FormatError> {
        self.opt_u64(key)?.ok_or_else(|| missing(key))
    }

    /// A float.
    ///
    /// # Errors
    /// As [`GgufMetadata::str`].
    pub fn f32(&self, key: &str) -> Result<f32, FormatError> {
        self.opt_f32(key)?.ok_or_else(|| missing(key))
    }

    /// A bool.
    ///
    /// # Errors
    /// As [`GgufMetadata::str`].
    pub fn bool(&self, key: &str) -> Result<bool, FormatError> {
        self.opt_bool(key)?.ok_or_else(|| missing(key))
    }

    /// An array of strings, which may be any bytes.
    ///
    /// # Errors
    /// As [`GgufMetadata::str`].
    pub fn strings(&self, key: &str) -> Result<Vec<&[u8]>, FormatError> {
        self.opt_strings(key)?.ok_or_else(|| missing(key))
    }

    /// `general.architecture`, the prefix of the model's own keys.
    ///
    /// # Errors
    /// As [`GgufMetadata::str`].
    pub fn architecture(&self) -> Result<&str, FormatError> {
        self.str("general.architecture")
    }
}

fn missing(key: &str) -> FormatError {
    Kind::MissingKey { key: key.into() }.into()
}

impl fmt::Debug for GgufMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GgufMetadata({} keys)", self.entries.len())
    }
}
