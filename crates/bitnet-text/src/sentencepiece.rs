//! Sentencepiece BPE over a vocabulary with scores, as in LLaMA-2 and the models after it.
//!
//! The rule is sentencepiece's own (and llama.cpp's): of all adjacent pairs whose concatenation is a token, merge the one
//! with the highest score, the leftmost among equals, until none is left. The Hugging Face library cannot say "equal", so
//! this is done here; a tokenizer.json made of such a vocabulary lists the merges in score order.

use crate::charsmap::Charsmap;
use crate::error::TextError;
use crate::tokenizer::Tokenizer;
use aho_corasick::AhoCorasick;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// `tokenizer.ggml.token_type` values of GGUF files.
pub mod token_type {
    /// An ordinary piece of text.
    pub const NORMAL: i32 = 1;
    /// The token for what the vocabulary cannot say.
    pub const UNKNOWN: i32 = 2;
    /// A control token; never produced from plain text.
    pub const CONTROL: i32 = 3;
    /// Added by the model's author, found in text before anything else.
    pub const USER_DEFINED: i32 = 4;
    /// A hole in the vocabulary.
    pub const UNUSED: i32 = 5;
    /// One byte, written `<0xE4>`.
    pub const BYTE: i32 = 6;
}

/// The scores and types of a sentencepiece vocabulary, by id.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    pub(crate) scores: Vec<f32>,
    pub(crate) types: Vec<i32>,
    pub(crate) unknown: Option<u32>,
    /// Ids of `<0x00>` .. `<0xFF>`.
    pub(crate) bytes: Box<[Option<u32>; 256]>,
    /// Unknown characters in a row are one unknown token, as sentencepiece has it where there are no bytes.
    pub(crate) fuse_unknown: bool,
    /// Set where pieces are chosen by the sum of their scores instead of merged.
    pub(crate) unigram: Option<Unigram>,
    /// What happens to characters first, where the model brought its own table.
    pub(crate) charsmap: Option<Charsmap>,
}

/// A search for all pieces of a unigram vocabulary in a text.
#[derive(Debug)]
pub(crate) struct Unigram {
    automaton: AhoCorasick,
    /// Id by pattern.
    ids: Vec<u32>,
    /// Score of a character that no piece is.
    unknown: f32,
}

impl Unigram {
    /// Of the ordinary pieces of a vocabulary that was read as one with merges.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let rules = tokenizer.sentencepiece.as_ref();
        let vocab = tokenizer.model.get_vocab();
        let mut pieces: Vec<(u32, &String)> = vocab.iter().map(|(text, &id)| (id, text)).collect();
        pieces.retain(|(id, text)| !text.is_empty() && rules.is_some_and(|r| r.is_text(*id)));
        pieces.sort_unstable();
        let scores = pieces.iter().filter_map(|(id, _)| rules?.scores.get(*id as usize));
        let lowest = scores.copied().fold(0.0, f32::min);
        let automaton = AhoCorasick::builder()
            .build(pieces.iter().map(|(_, text)| text))
            .map_err(|e| TextError::invalid("tokenizer.model", e.to_string()))?;
        // The constant is sentencepiece's own.
        Ok(Self { automaton, ids: pieces.into_iter().map(|(id, _)| id).collect(), unknown: lowest - 10.0 })
    }

    /// The pieces of `text` with the largest sum of scores, `None` for a character that no piece is. Of equal sums the one whose
    /// last piece begins first is taken, as in sentencepiece.
    fn best(&self, text: &str, scores: &[f32]) -> Vec<(std::ops::Range<usize>, Option<u32>)> {
        // By end: the sum, where the last piece begins, and what it is.
        let mut best: Vec<Option<(f32, usize, Option<u32>)>> = vec![None; text.len() + 1];
        best[0] = Some((0.0, 0, None));
        let offer =
            |best: &mut Vec<Option<(f32, usize, Option<u32>)>>, start: usize, end: usize, score: f32, id| {
                let Some((sum, ..)) = best[start] else { return };
                if best[end].is_none_or(|(other, ..)| sum + score > other) {
                    best[end] = Some((sum + score, start, id));
                }
            };
        let mut matches = self.automaton.find_overlapping_iter(text).peekable();
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            let mut alone = false;
            while let Some(found) = matches.next_if(|found| found.end() <= end) {
                let id = self.ids[found.pattern().as_usize()];
                alone |= found.start() == start;
                offer(
                    &mut best,
                    found.start(),
                    end,
                    scores.get(id as usize).copied().unwrap_or(0.0),
                    Some(id),
                );
            }
            if !alone {
                offer(&mut best, start, end, self.unknown, None);
            }
        }
        let mut pieces = Vec::new();
        let mut end = text.len();
        while let Some((_, start, id)) = best[end].filter(|_| end > 0) {
            pieces.push((start..end, id));
            end = start;
        }
        pieces.reverse();
        pieces
    }
}

/// A run of text that is one symbol; symbols form a list so that a merge is constant time.
struct Symbol {
    start: usize,
    end: usize,
    previous: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

/// A possible merge. `end` tells whether it is out of date: a symbol that has since grown or been eaten differs there.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    end: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl SentencePiece {
    /// Whether plain text may become this token.
    pub(crate) fn is_text(&self, id: u32) -> bool {
        use token_type::{BYTE, CONTROL, UNKNOWN};
        !matches!(self.types.get(id as usize), Some(&(BYTE | CONTROL | UNKNOWN)))
    }

    /// Ids of `text`, in which spaces are already `▁`. `lookup` finds the id of a token's text.
    pub(crate) fn tokenize(&self, text: &str, lookup: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
        let mut ids = Vec::new();
        if let Some(unigram) = &self.unigram {
            for (range, id) in unigram.best(text, &self.scores) {
                self.push(&text[range], id, &mut ids);
            }
            return ids;
        }
        let find = |range: &str| lookup(range).filter(|&id| self.is_text(id));
        let mut symbols = split_characters(text);
        self.merge(text, &mut symbols, &find);
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while let Some(symbol) = symbols.get(at) {
            let piece = &text[symbol.start..symbol.end];
            self.push(piece, find(piece), &mut ids);
            at = symbol.next;
        }
        ids
    }

    /// Appends the id of a piece, or what stands for one that has none.
    fn push(&self, piece: &str, id: Option<u32>, ids: &mut Vec<u32>) {
        match id {
            Some(id) => ids.push(id),
            None if self.fuse_unknown => {
                let unknown = self.unknown.filter(|unknown| ids.last() != Some(unknown));
                ids.extend(unknown);
            }
            None => ids.extend(piece.bytes().filter_map(|b| self.bytes[usize::from(b)].or(self.unknown))),
        }
    }

    fn merge(&self, text: &str, symbols: &mut [Symbol], find: &impl Fn(&str) -> Option<u32>) {
        let mut queue = BinaryHeap::new();
        let propose = |symbols: &[Symbol], left: usize, right: usize, queue: &mut BinaryHeap<Pair>| {
            let (Some(l), Some(r)) = (symbols.get(left), symbols.get(right)) else { return };
            if let Some(id) = find(&text[l.start..r.end]) {
                let score = self.scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
                queue.push(Pair { score, left, right, end: r.end });
            }
        };
        for right in 1..symbols.len() {
            propose(symbols, right - 1, right, &mut queue);
        }
        while let Some(pair) = queue.pop() {
            let (left_end, next) = (symbols[pair.left].end, symbols[pair.right].next);
            let right = &symbols[pair.right];
            // An eaten symbol is empty; a grown left or right one no longer ends where the pair was proposed.
            if symbols[pair.left].start == left_end || right.start != left_end || right.end != pair.end {
                continue;
            }
            symbols[pair.left].end = pair.end;
            symbols[pair.left].next = next;
            symbols[pair.right].start = pair.end;
            if let Some(after) = symbols.get_mut(next) {
                after.previous = pair.left;
            }
            let previous = symbols[pair.left].previous;
            propose(symbols, previous, pair.left, &mut queue);
            propose(symbols, pair.left, next, &mut queue);
        }
    }
}

fn split_characters(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
    for (start, c) in text.char_indices() {
        let index = symbols.len();
        let previous = index.checked_sub(1).unwrap_or(NONE);
        symbols.push(Symbol { start, end: start + c.len_utf8(), previous, next: index + 1 });
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}
