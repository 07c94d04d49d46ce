//! Reading little-endian values off the front of bytes that may end anywhere.

use std::ops::Range;

use crate::FormatErrorKind as Kind;

/// A reading position in untrusted bytes; every read is checked against their end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `len` bytes, as a range; `what` names them in the error.
    pub(super) fn range(&mut self, len: u64, what: &str) -> Result<Range<usize>, Kind> {
        if len > self.remaining() {
            return Err(Kind::Truncated { what: what.into(), need: len, have: self.remaining() });
        }
        let start = self.at;
        self.at += len as usize;
        Ok(start..self.at)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Kind> {
        let range = self.range(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[range]);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Kind> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Kind> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length in 64 bits, then its bytes.
    pub(super) fn string(&mut self, what: &str) -> Result<Range<usize>, Kind> {
        let len = self.u64(what)?;
        self.range(len, what)
    }

    /// A count of entries that take at least `least` bytes each: more than could follow is refused before
    /// anything is allocated for them.
    pub(super) fn check_count(&self, count: u64, least: u64, what: &str) -> Result<usize, Kind> {
        let most = self.remaining() / least;
        if count > most {
            return Err(Kind::Count { what: what.into(), count, have: self.remaining(), most });
        }
        Ok(count as usize)
    }

    /// The text in `range`, copied before it is checked: a mapped file may change in between.
    pub(super) fn text(&self, range: Range<usize>, what: &str) -> Result<String, Kind> {
        String::from_utf8(self.bytes[range].to_vec()).map_err(|_| Kind::NotUtf8 { what: what.into() })
    }
}
