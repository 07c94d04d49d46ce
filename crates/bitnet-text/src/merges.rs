//! Byte pair encoding of long words: the library's rule, in a few dozen bytes for each character, where the library takes some
//! hundreds.
//!
//! The rule: of all pairs of neighbours in the list of merges the best one is joined, the leftmost among equals. Short words stay
//! with the library, which remembers them.

use crate::error::TextError;
use ahash::AHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

/// Words from so many bytes on are merged here.
pub(crate) const LONG_WORD: usize = 4 << 10;

/// The merges of a model by the ids that they join.
#[derive(Debug)]
pub(crate) struct Merges {
    ranks: AHashMap<(u32, u32), u32>,
    /// The id that a merge makes, by rank.
    made: Vec<u32>,
    /// Ids of the byte tokens `<0x00>` .. `<0xFF>`, where the vocabulary has them.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
}

/// A token of a word that is being merged; tokens form a list, so that a merge is constant time.
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
}

/// No neighbour; as an id, a symbol that was joined to the one on its left. No vocabulary has as many tokens.
const NONE: u32 = u32::MAX;

/// A pair that may be joined: its rank, then the place of its left half. The best is the smallest.
type Queue = BinaryHeap<Reverse<(u32, u32)>>;

impl Merges {
    pub(crate) fn read(model: &BPE) -> Result<Self, TextError> {
        let (mut ranks, mut made) = (AHashMap::new(), Vec::new());
        for (left, right) in merges_of(model)? {
            let id = |text: &str| {
                let reason =
                    || TextError::invalid("model.merges", format!("{text:?} is not in the vocabulary"));
                model.token_to_id(text).ok_or_else(reason)
            };
            ranks.insert((id(&left)?, id(&right)?), made.len() as u32);
            made.push(id(&[left, right].concat())?);
        }
        let bytes = (0..=255u8).map(|byte| model.token_to_id(&format!("<0x{byte:02X}>"))).collect();
        let unknown = model.unk_token.as_ref().and_then(|text| model.token_to_id(text));
        Ok(Self { ranks, made, bytes, unknown })
    }

    /// Ids of one word, which has no added tokens in it.
    pub(crate) fn ids(&self, model: &BPE, word: &str) -> Result<Vec<u32>, TextError> {
        if model.ignore_merges
            && let Some(id) = model.token_to_id(word)
        {
            return Ok(vec![id]);
        }
        if u32::try_from(word.len()).is_err() {
            return Err(TextError::Encode("it has a word of more than 4 GiB".into()));
        }
        let mut symbols = self.symbols(model, word);
        self.merge(&mut symbols);
        let left = symbols.iter().filter(|symbol| symbol.id != NONE);
        Ok(left.map(|symbol| symbol.id).collect())
    }

    /// A symbol for each character, or for each of its bytes where the vocabulary has no such character.
    fn symbols(&self, model: &BPE, word: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.chars().count());
        let mut add = |id| {
            let at = symbols.len() as u32;
            symbols.push(Symbol { id, previous: at.checked_sub(1).unwrap_or(NONE), next: at + 1 });
        };
        // The library writes an unknown character only when the next known one comes, or another unknown one.
        let mut waiting = None;
        for (at, c) in word.char_indices() {
            let character = &word[at..at + c.len_utf8()];
            if let Some(id) = model.token_to_id(character) {
                waiting.take().into_iter().for_each(&mut add);
                add(id);
                continue;
            }
            let byte = |byte: u8| self.bytes.get(usize::from(byte)).copied().flatten();
            if model.byte_fallback && character.bytes().all(|b| byte(b).is_some()) {
                character.bytes().filter_map(byte).for_each(&mut add);
            } else if !model.fuse_unk || waiting.is_none() {
                waiting.take().into_iter().for_each(&mut add);
                waiting = self.unknown;
            }
        }
        waiting.into_iter().for_each(&mut add);
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        symbols
    }

    fn merge(&self, symbols: &mut [Symbol]) {
        let rank = |symbols: &[Symbol], left: u32, right: u32| {
            let pair = (symbols.get(left as usize)?.id, symbols.get(right as usize)?.id);
            self.ranks.get(&pair).copied()
        };
        let mut queue = Queue::with_capacity(symbols.len());
        for right in 1..symbols.len() as u32 {
            queue.extend(rank(symbols, right - 1, right).map(|rank| Reverse((rank, right - 1))));
        }
        while let Some(Reverse((best, left))) = queue.pop() {
            let right = symbols[left as usize].next;
            let made = self.made[best as usize];
            // A pair is out of date once what stands there makes another token.
            if symbols[left as usize].id == NONE
                || rank(symbols, left, right).is_none_or(|rank| self.made[rank as usize] != made)
            {
                continue;
            }
            let after = symbols[right as usize].next;
            symbols[right as usize].id = NONE;
            symbols[left as usize].id = made;
            symbols[left as usize].next = after;
            if let Some(after) = symbols.get_mut(after as usize) {
                after.previous = left;
            }
            let before = symbols[left as usize].previous;
            queue.extend(rank(symbols, before, left).map(|rank| Reverse((rank, before))));
            queue.extend(rank(symbols, left, after).map(|rank| Reverse((rank, left))));
        }
    }
}

/// The merges of the library's model, best first. It shows them only through serialization.
pub(crate) fn merges_of(model: &BPE) -> Result<Vec<(String, String)>, TextError> {
    #[derive(serde::Deserialize)]
    struct Merges {
        merges: Vec<(String, String)>,
    }
    let json = serde_json::to_string(model).map_err(|e| TextError::Json(e.to_string()))?;
    let merges: Merges = serde_json::from_str(&json).map_err(|e| TextError::Json(e.to_string()))?;
    Ok(merges.merges)
}
