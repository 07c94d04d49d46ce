//! The GPT-2 map between the 256 byte values and printable characters, in which byte-level vocabularies are written.

/// The character that stands for `byte`.
///
/// Printable Latin-1 stands for itself; the other 68 bytes are numbered from U+0100 on, in ascending order
/// (`bytes_to_unicode` in OpenAI's GPT-2 `encoder.py`).
pub(crate) fn byte_to_char(byte: u8) -> char {
    // Of those that are not printable, 33 stand before `!`, and 34 between `~` and U+00A1.
    let rank = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => return char::from(byte),
        ..b'!' => byte,
        0x7F..=0xA0 => byte - 0x7F + 33,
        0xAD => 33 + 34,
    };
    char::from_u32(0x100 + u32::from(rank)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The inverse map; all mapped characters lie below U+0144.
pub(crate) struct CharBytes([Option<u8>; 0x144]);

impl CharBytes {
    pub(crate) fn new() -> Self {
        let mut table = [None; 0x144];
        for byte in 0..=255u8 {
            if let Some(slot) = table.get_mut(byte_to_char(byte) as usize) {
                *slot = Some(byte);
            }
        }
        Self(table)
    }

    /// Appends the bytes that `token` stands for. A token with a character outside the map is written as it is, whole:
    /// that is what the Hugging Face decoder does with added tokens such as `<｜User｜>`.
    pub(crate) fn append(&self, token: &str, out: &mut Vec<u8>) {
        let start = out.len();
        for c in token.chars() {
            match self.0.get(c as usize).copied().flatten() {
                Some(byte) => out.push(byte),
                None => {
                    out.truncate(start);
                    out.extend_from_slice(token.as_bytes());
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_a_bijection_with_the_known_landmarks() {
        let table = CharBytes::new();
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(0xAD), '\u{143}');
        for byte in 0..=255u8 {
            let mut out = Vec::new();
            table.append(&byte_to_char(byte).to_string(), &mut out);
            assert_eq!(out, [byte]);
        }
    }

    #[test]
    fn a_token_outside_the_map_is_itself() {
        let mut out = vec![1];
        CharBytes::new().append("Ġ｜x", &mut out);
        assert_eq!(&out[1..], "Ġ｜x".as_bytes());
    }
}
