//! Checksums of downloads. The hub's entity tag of a large file is its SHA-256, that of a small one its git blob id.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// A running checksum and what it must come to.
pub struct Check {
    expected: String,
    kind: Kind,
    size: u64,
    context: Context,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Sha256,
    GitBlob,
}

impl Check {
    /// The check that an entity tag of a file of `size` bytes asks for; none if the tag is not a checksum.
    pub fn of_etag(etag: &str, size: u64) -> Option<Self> {
        if !etag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let kind = match etag.len() {
            64 => Kind::Sha256,
            40 => Kind::GitBlob,
            _ => return None,
        };
        Some(Self { expected: etag.to_owned(), kind, size, context: begin(kind, size) })
    }

    /// Begins anew, as if nothing had been added.
    pub fn restart(&mut self) {
        self.context = begin(self.kind, self.size);
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Whether everything added has the expected checksum.
    pub fn holds(self) -> bool {
        let digest = self.context.finish();
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        hex == self.expected
    }
}

fn begin(kind: Kind, size: u64) -> Context {
    match kind {
        Kind::Sha256 => Context::new(&SHA256),
        Kind::GitBlob => {
            // Not for security: it is what git calls a file, and all that the hub tells about small ones.
            let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            context.update(format!("blob {size}\0").as_bytes());
            context
        }
    }
}

/// The SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    ring::digest::digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_tags_are_checked() {
        // From `printf hello | sha256sum` and `printf hello | git hash-object --stdin`.
        let tags = [
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
        ];
        for tag in tags {
            for (text, holds) in [("hello", true), ("hellp", false)] {
                let mut check = Check::of_etag(tag, 5).unwrap();
                check.add(b"junk");
                check.restart();
                check.add(text.as_bytes());
                assert_eq!(check.holds(), holds, "{tag} {text}");
            }
        }
        assert!(Check::of_etag("W/abc", 5).is_none() && Check::of_etag(&"g".repeat(40), 5).is_none());
        assert_eq!(sha256(b"hello"), tags[0]);
    }
}
