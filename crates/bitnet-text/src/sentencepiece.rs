//! Sentencepiece BPE over a vocabulary with scores, as in LLaMA-2 and the models after it.
//!
//! The rule is sentencepiece's own (and llama.cpp's): of all adjacent pairs whose concatenation is a token, merge the one
//! with the highest score, the leftmost among equals, until none is left. The Hugging Face library cannot say "equal", so
//! this is done here; a tokenizer.json made of such a vocabulary lists the merges in score order.

use crate::charsmap::Charsmap;
use crate::error::TextError;
use aho_corasick::AhoCorasick;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

/// `tokenizer.ggml.token_type` values of GGUF files.
pub mod token_type {
    /// An ordinary piece of text, which merging or searching may make.
    pub const NORMAL: i32 = 1;
    /// The token for what the vocabulary cannot say.
    pub const UNKNOWN: i32 = 2;
    /// A control token; never produced from plain text.
    pub const CONTROL: i32 = 3;
    /// Added by the model's author, found in text before anything else.
    pub const USER_DEFINED: i32 = 4;
    /// A hole in the vocabulary, which no text becomes.
    pub const UNUSED: i32 = 5;
    /// A single byte, written `<0xE4>`, for characters that no piece has.
    pub const BYTE: i32 = 6;
}

/// The scores and types of a sentencepiece vocabulary, by id.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    pub(crate) scores: Vec<f32>,
    pub(crate) types: Vec<i32>,
    pub(crate) unknown: Option<u32>,
    /// Ids of the byte tokens `<0x00>` .. `<0xFF>`, where the vocabulary has them.
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
    /// The id of each pattern of the automaton.
    ids: Vec<u32>,
    /// Score of a character that no piece is.
    unknown: f32,
}

impl Unigram {
    /// Of the ordinary pieces of a vocabulary that was read as one with merges.
    pub(crate) fn new(
        vocabulary: impl IntoIterator<Item = (String, u32)>,
        rules: &SentencePiece,
    ) -> Result<Self, TextError> {
        let pieces = vocabulary.into_iter().map(|(text, id)| (id, text));
        let mut pieces: Vec<(u32, String)> =
            pieces.filter(|(id, text)| !text.is_empty() && rules.is_text(*id)).collect();
        pieces.sort_unstable();
        let scores = pieces.iter().filter_map(|(id, _)| rules.scores.get(*id as usize));
        let lowest = scores.copied().fold(0.0, f32::min);
        let automaton = AhoCorasick::builder()
            .build(pieces.iter().map(|(_, text)| text))
            .map_err(|e| TextError::invalid("tokenizer.model", e.to_string()))?;
        // The constant is sentencepiece's own.
        Ok(Self { automaton, ids: pieces.into_iter().map(|(id, _)| id).collect(), unknown: lowest - 10.0 })
    }

    /// The pieces of `text` with the largest sum of scores, `None` for a character that no piece is. Of equal sums the one whose
    /// last piece begins first is taken, as in sentencepiece.
    fn best(&self, text: &str, scores: &[f32]) -> Vec<Last> {
        let nothing = Last { sum: f32::NAN, start: NONE, end: 0, id: NONE };
        let mut best = vec![nothing; text.len() + 1];
        best[0] = Last { sum: 0.0, start: 0, ..nothing };
        let offer = |best: &mut [Last], start: usize, end: usize, score: f32, id| {
            let sum = best[start].sum + score;
            if best[start].start != NONE && (best[end].start == NONE || sum > best[end].sum) {
                best[end] = Last { sum, start: start as u32, end: end as u32, id };
            }
        };
        let mut matches = self.automaton.find_overlapping_iter(text).peekable();
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            let mut alone = false;
            while let Some(found) = matches.next_if(|found| found.end() <= end) {
                let id = self.ids[found.pattern().as_usize()];
                alone |= found.start() == start;
                offer(&mut best, found.start(), end, scores.get(id as usize).copied().unwrap_or(0.0), id);
            }
            if !alone {
                offer(&mut best, start, end, self.unknown, NONE);
            }
        }
        // From the end, each piece of the best way is moved behind those that are there; what it overwrites has been passed.
        let (mut end, mut kept) = (text.len(), best.len());
        while end > 0 {
            let last = best[end];
            kept -= 1;
            best[kept] = last;
            end = last.start as usize;
        }
        best.drain(..kept);
        best
    }
}

/// The last piece of the best way to a place in the text.
#[derive(Debug, Clone, Copy)]
struct Last {
    sum: f32,
    /// [`NONE`] where no way has been found.
    start: u32,
    end: u32,
    /// [`NONE`] for a character that no piece is.
    id: u32,
}

/// A run of text that is one symbol; symbols form a list so that a merge is constant time.
struct Symbol {
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
}

impl Symbol {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

const NONE: u32 = u32::MAX;

/// A possible merge. `end` tells whether it is out of date: a symbol that has since grown or been eaten differs there.
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    end: u32,
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
    pub(crate) fn tokenize(
        &self,
        text: &str,
        lookup: impl Fn(&str) -> Option<u32>,
    ) -> Result<Vec<u32>, TextError> {
        if text.len() >= NONE as usize {
            return Err(TextError::Encode("it has more than 4 GiB".into()));
        }
        let mut ids = Vec::new();
        if let Some(unigram) = &self.unigram {
            for Last { start, end, id, .. } in unigram.best(text, &self.scores) {
                self.push(&text[start as usize..end as usize], Some(id).filter(|&id| id != NONE), &mut ids);
            }
            return Ok(ids);
        }
        let find = |range: &str| lookup(range).filter(|&id| self.is_text(id));
        let mut symbols = split_characters(text);
        self.merge(text, &mut symbols, &find);
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while let Some(symbol) = symbols.get(at as usize) {
            let piece = &text[symbol.range()];
            self.push(piece, find(piece), &mut ids);
            at = symbol.next;
        }
        Ok(ids)
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
        let mut queue = BinaryHeap::with_capacity(symbols.len());
        let propose = |symbols: &[Symbol], left: u32, right: u32, queue: &mut BinaryHeap<Pair>| {
            let (Some(l), Some(r)) = (symbols.get(left as usize), symbols.get(right as usize)) else {
                return;
            };
            if let Some(id) = find(&text[l.start as usize..r.end as usize]) {
                let score = self.scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
                queue.push(Pair { score, left, right, end: r.end });
            }
        };
        for right in 1..symbols.len() as u32 {
            propose(symbols, right - 1, right, &mut queue);
        }
        while let Some(Pair { left, right, end, .. }) = queue.pop() {
            let Symbol { start, end: middle, .. } = symbols[left as usize];
            let eaten = &symbols[right as usize];
            // An eaten symbol is empty; a grown left or right one no longer ends where the pair was proposed.
            if start == middle || eaten.start != middle || eaten.end != end {
                continue;
            }
            let next = eaten.next;
            symbols[left as usize].end = end;
            symbols[left as usize].next = next;
            symbols[right as usize].start = end;
            if let Some(after) = symbols.get_mut(next as usize) {
                after.previous = left;
            }
            let previous = symbols[left as usize].previous;
            propose(symbols, previous, left, &mut queue);
            propose(symbols, left, next, &mut queue);
        }
    }
}

fn split_characters(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::with_capacity(text.chars().count());
    for (start, c) in text.char_indices() {
        let index = symbols.len() as u32;
        let previous = index.checked_sub(1).unwrap_or(NONE);
        let end = (start + c.len_utf8()) as u32;
        symbols.push(Symbol { start: start as u32, end, previous, next: index + 1 });
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}
