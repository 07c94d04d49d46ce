//! From ids to text, one id at a time.

use crate::pieces::Pieces;
use crate::tokenizer::Tokenizer;
use std::sync::Arc;

/// Turns ids into text as they come.
///
/// A character whose bytes are spread over several tokens is held back until it is whole, so what `push` returns is always
/// valid UTF-8 and never half a character. Bytes that cannot become a character are replaced by U+FFFD as soon as that is
/// certain. What all `push` calls and the final `finish` return, joined, equals [`Tokenizer::decode`] of all ids.
///
/// The buffer is sized for the longest token at the start; after that no call allocates.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    pieces: Arc<Pieces>,
    skip_special: bool,
    state: State,
    out: String,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text; special tokens are left out of it.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let pieces = tokenizer.pieces();
        // Each of up to 3 held bytes and of the token's bytes can become a 3-byte U+FFFD; plus the joining space.
        let capacity = 3 * (pieces.longest() + 3) + 1;
        let state = State::new(&pieces);
        Self { pieces, skip_special: true, state, out: String::with_capacity(capacity) }
    }

    /// Chooses whether special tokens (`<|eot_id|>`) are left out (the default) or written as they are.
    pub fn with_special(mut self, show: bool) -> Self {
        self.skip_special = !show;
        self
    }

    /// Takes one id and returns the text that is certain now (often one token, sometimes nothing). Ids outside the
    /// vocabulary say nothing, as in `decode`.
    pub fn push(&mut self, id: u32) -> &str {
        self.out.clear();
        self.state.push(&self.pieces, id, self.skip_special, &mut self.out);
        &self.out
    }

    /// Ends the text: an unfinished character becomes U+FFFD. The decoder is then at the beginning of a new text.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        self.state.finish(&mut self.out);
        self.state = State::new(&self.pieces);
        &self.out
    }
}

impl Tokenizer {
    /// Text of `ids`. Ids outside the vocabulary say nothing; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut out = String::with_capacity(ids.len().saturating_mul(4));
        let mut state = State::new(&self.pieces);
        for &id in ids {
            state.push(&self.pieces, id, skip_special, &mut out);
        }
        state.finish(&mut out);
        out
    }
}

#[derive(Debug, Clone)]
struct State {
    /// Beginning of a character whose rest has not come; at most 3 bytes are ever held.
    held: [u8; 4],
    held_len: usize,
    /// Leading spaces of the text that are still to be dropped.
    strip: usize,
    /// No token has been written yet, so a leading space may still be dropped.
    first: bool,
}

impl State {
    fn new(pieces: &Pieces) -> Self {
        Self { held: [0; 4], held_len: 0, strip: pieces.plan.strip, first: true }
    }

    fn push(&mut self, pieces: &Pieces, id: u32, skip_special: bool, out: &mut String) {
        let Some(bytes) = pieces.get(id) else { return };
        if skip_special && pieces.is_special(id) {
            return;
        }
        let first = std::mem::replace(&mut self.first, false);
        if first && pieces.plan.first_without_spaces {
            for word in bytes.split(|&b| b == b' ') {
                self.feed(word, out);
            }
            return;
        }
        if !first && pieces.plan.join_with_space {
            self.feed(b" ", out);
        }
        self.feed(bytes, out);
    }

    fn feed(&mut self, mut bytes: &[u8], out: &mut String) {
        while self.strip > 0 {
            match bytes {
                [] => return,
                [b' ', rest @ ..] => {
                    bytes = rest;
                    self.strip -= 1;
                }
                _ => self.strip = 0,
            }
        }
        // Complete the held character byte by byte; it is decided within 3 more bytes.
        while self.held_len > 0 {
            let [next, rest @ ..] = bytes else { return };
            self.held[self.held_len] = *next;
            match std::str::from_utf8(&self.held[..=self.held_len]) {
                Ok(whole) => {
                    out.push_str(whole);
                    self.held_len = 0;
                    bytes = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.held_len += 1;
                    bytes = rest;
                }
                // The held bytes are invalid without `next`, which may begin something of its own.
                Err(_) => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.held_len = 0;
                }
            }
        }
        for chunk in bytes.utf8_chunks() {
            out.push_str(chunk.valid());
            let bad = chunk.invalid();
            if bad.is_empty() {
                continue;
            }
            let at_end = std::ptr::eq(bad.as_ptr_range().end, bytes.as_ptr_range().end);
            if at_end && is_unfinished(bad) {
                self.held[..bad.len()].copy_from_slice(bad);
                self.held_len = bad.len();
            } else {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    fn finish(&mut self, out: &mut String) {
        if std::mem::take(&mut self.held_len) > 0 {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Whether more bytes could still make a character of these (at most 3).
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}
