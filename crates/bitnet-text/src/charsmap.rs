//! The table of characters in a sentencepiece model: which sequences of bytes are read as which others (NFKC and more).
//!
//! It is a double array (Aoe 1989; the layout is that of darts-clone, as sentencepiece 0.2 writes it): 32-bit units, of which a byte of
//! the text leads from one to the next, then the replacements, each ended by a zero byte. It comes from a file, so every place is
//! checked when it is visited.

use crate::error::TextError;

/// Longest sequence that is looked for; those of real tables have some tens of bytes.
const LONGEST: usize = 256;
/// What a text may grow by; NFKC makes 18 characters of one at most.
const GROWTH: usize = 64;
const PART: &str = "tokenizer.model normalizer";

/// How a sentencepiece model reads characters before anything else.
#[derive(Debug)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
    /// Spaces at the edges go, and of several in a row one stays.
    pub(crate) collapse: bool,
}

impl Charsmap {
    /// Reads a table; an empty one changes nothing.
    pub(crate) fn read(blob: &[u8], collapse: bool) -> Result<Self, TextError> {
        let invalid = |reason: &str| TextError::invalid(PART, reason);
        let Some((size, rest)) = blob.split_first_chunk::<4>() else {
            return match blob {
                [] => Ok(Self { units: Vec::new(), replacements: Vec::new(), collapse }),
                _ => Err(invalid("its table of characters is cut off")),
            };
        };
        let size = u32::from_le_bytes(*size) as usize;
        if size > rest.len() || !size.is_multiple_of(4) {
            return Err(invalid("its table of characters is cut off"));
        }
        let (units, replacements) = rest.split_at(size);
        let units = units.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, replacements: replacements.to_vec(), collapse })
    }

    /// The longest sequence at the beginning of `text` that has a replacement: its length and the replacement.
    fn longest(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        // A unit: bits 0 to 7 and 31 the byte that leads to it, 8 whether a value follows, 9 how far bits 10 to 30 reach.
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(*self.units.first()?);
        let mut found = None;
        for (length, &byte) in text.iter().take(LONGEST).enumerate() {
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { break };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            if unit & (1 << 8) != 0
                && let Some(&value) = self.units.get(at)
            {
                found = Some((length + 1, (value & !(1 << 31)) as usize));
            }
        }
        let (length, start) = found?;
        let replacement = self.replacements.get(start..)?;
        Some((length, replacement.split(|&b| b == 0).next().unwrap_or_default()))
    }

    /// `text` as the model reads it, with spaces still written as spaces.
    pub(crate) fn apply(&self, text: &str) -> Result<String, TextError> {
        let most = text.len().saturating_mul(GROWTH).saturating_add(1024);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            // A sequence that ends within a character is none of this text.
            let found = self.longest(rest.as_bytes()).filter(|(length, _)| rest.is_char_boundary(*length));
            let (length, read) = match found {
                Some((length, replacement)) => (length, String::from_utf8_lossy(replacement)),
                None => (c.len_utf8(), rest[..c.len_utf8()].into()),
            };
            for c in read.chars() {
                if !(self.collapse && c == ' ' && (out.is_empty() || out.ends_with(' '))) {
                    out.push(c);
                }
            }
            if out.len() > most {
                return Err(TextError::Encode(format!("the normalizer makes more than {most} bytes of it")));
            }
            rest = &rest[length..];
        }
        if self.collapse {
            out.truncate(out.trim_end_matches([' ', '\u{2581}']).len());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_one_character_replaces_it_and_broken_ones_do_not_panic() {
        // From the root (offset 0) byte 'A' leads to unit 65, which has a value at 65 ^ 256 (its offset), the replacement at 2.
        let mut units = vec![0u32; 512];
        units[65] = u32::from(b'A') | 1 << 8 | 256 << 10;
        units[65 ^ 256] = 2 | 1 << 31;
        let mut blob = ((units.len() * 4) as u32).to_le_bytes().to_vec();
        blob.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        blob.extend(b"x\0bc\0");
        let map = Charsmap::read(&blob, false).unwrap();
        assert_eq!(map.apply("xAyA").unwrap(), "xbcybc");
        for cut in 1..blob.len() {
            if let Ok(map) = Charsmap::read(&blob[..cut], true) {
                map.apply("A bA").unwrap();
            }
        }
        for at in 4..blob.len() {
            let mut broken = blob.clone();
            broken[at] ^= 0x5a;
            if let Ok(map) = Charsmap::read(&broken, true) {
                map.apply("A bA  ").unwrap();
            }
        }
    }

    #[test]
    fn spaces_are_collapsed_where_the_model_says_so() {
        let map = |collapse| Charsmap::read(&[], collapse).unwrap();
        assert_eq!(map(true).apply("  a   b ").unwrap(), "a b");
        assert_eq!(map(false).apply("  a   b ").unwrap(), "  a   b ");
    }
}
