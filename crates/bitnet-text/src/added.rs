//! Added tokens: the pieces of text that become one id before anything else looks at the text.

use crate::error::TextError;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One entry of `added_tokens` in a tokenizer.json; field names are the file's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddedToken {
    #[serde(default)]
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Only where no letter, digit or underscore touches it.
    #[serde(default)]
    pub(crate) single_word: bool,
    /// Swallows white space before it.
    #[serde(default)]
    pub(crate) lstrip: bool,
    /// White space after the token belongs to it and is swallowed.
    #[serde(default)]
    pub(crate) rstrip: bool,
    /// Searched in the normalized text (and itself normalized), not in the text as given.
    #[serde(default = "yes")]
    pub(crate) normalized: bool,
    /// A control token: found only when the caller parses control tokens, left out when the caller skips them.
    #[serde(default)]
    pub(crate) special: bool,
}

fn yes() -> bool {
    true
}

impl AddedToken {
    /// A control token that is searched in the text as given.
    pub(crate) fn control(id: u32, content: String) -> Self {
        Self {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

/// A stretch of text, and the id that it is as a whole, if it is one.
pub(crate) type Section = (Option<u32>, Range<usize>);

/// Tokens of up to so many bytes may be searched with a table of all transitions. It is made in time that grows with the square of
/// a token that repeats itself: sixteen thousand times `a` take ten seconds. Real tokens have a few dozen bytes.
const SHORT: usize = 256;

/// One automaton over a set of added tokens.
#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// Index into `AddedTokens::tokens` by pattern.
    tokens: Vec<usize>,
}

/// All added tokens of a tokenizer, ready to cut text at them: leftmost first, longest among those.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    raw: Option<Finder>,
    normalized: Option<Finder>,
}

impl AddedTokens {
    /// `normalize` gives the form in which a token with `normalized` is searched.
    pub(crate) fn new(
        tokens: Vec<AddedToken>,
        normalize: impl Fn(&str) -> Result<String, TextError>,
    ) -> Result<Self, TextError> {
        let mut raw = (Vec::new(), Vec::new());
        let mut normalized = (Vec::new(), Vec::new());
        for (index, token) in tokens.iter().enumerate() {
            let (set, pattern) = match token.normalized {
                true => (&mut normalized, normalize(&token.content)?),
                false => (&mut raw, token.content.clone()),
            };
            if !pattern.is_empty() {
                set.0.push(pattern);
                set.1.push(index);
            }
        }
        Ok(Self { raw: Finder::new(raw)?, normalized: Finder::new(normalized)?, tokens })
    }

    pub(crate) fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// Cuts text as given at the tokens that are searched there. `gate` says of each match of a control token (bytes of
    /// `text`) whether it is meant as one.
    pub(crate) fn cut_raw(&self, text: &str, gate: &impl Fn(Range<usize>) -> bool) -> Vec<Section> {
        self.cut(self.raw.as_ref(), text, gate)
    }

    /// Cuts normalized text at the tokens that are searched there.
    pub(crate) fn cut_normalized(&self, text: &str, gate: &impl Fn(Range<usize>) -> bool) -> Vec<Section> {
        self.cut(self.normalized.as_ref(), text, gate)
    }

    /// The sections cover the text without gaps, except that stripped white space belongs to the token beside it.
    fn cut(&self, finder: Option<&Finder>, text: &str, gate: &impl Fn(Range<usize>) -> bool) -> Vec<Section> {
        let Some(finder) = finder else { return vec![(None, 0..text.len())] };
        let mut sections = Vec::new();
        let mut done = 0;
        for found in finder.automaton.find_iter(text) {
            let Some(token) = finder.tokens.get(found.pattern().as_usize()).and_then(|&i| self.tokens.get(i))
            else {
                continue;
            };
            let (mut start, mut end) = (found.start(), found.end());
            if start < done || (token.special && !gate(start..end)) {
                continue;
            }
            if token.single_word && !is_single_word(text, start, end) {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end += text[end..].len() - text[end..].trim_start().len();
            }
            if done < start {
                sections.push((None, done..start));
            }
            sections.push((Some(token.id), start..end));
            done = end;
        }
        if done < text.len() {
            sections.push((None, done..text.len()));
        }
        sections
    }
}

impl Finder {
    fn new((patterns, tokens): (Vec<String>, Vec<usize>)) -> Result<Option<Self>, TextError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let long = patterns.iter().any(|pattern| pattern.len() > SHORT);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(long.then_some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns)
            .map_err(|e| TextError::invalid("added_tokens", e.to_string()))?;
        Ok(Some(Self { automaton, tokens }))
    }
}

fn is_single_word(text: &str, start: usize, end: usize) -> bool {
    let word = |c: char| regex_syntax::try_is_word_character(c).unwrap_or(c == '_' || c.is_alphanumeric());
    !text[..start].chars().next_back().is_some_and(word) && !text[end..].chars().next().is_some_and(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(contents: &[String]) -> Finder {
        let tokens = (0..contents.len()).collect();
        Finder::new((contents.to_vec(), tokens)).unwrap().unwrap()
    }

    #[test]
    fn no_table_of_all_transitions_is_made_for_long_tokens() {
        let short = ["<s>".to_owned(), "a".repeat(SHORT)];
        assert_eq!(finder(&short).automaton.kind(), AhoCorasickKind::DFA);
        let long = ["<s>".to_owned(), "a".repeat(SHORT + 1)];
        assert_eq!(finder(&long).automaton.kind(), AhoCorasickKind::ContiguousNFA);
    }

    #[test]
    fn long_tokens_are_found_as_short_ones_are() {
        let contents = ["<s>".to_owned(), "a".repeat(300), "b".repeat(3)];
        let tokens = contents.iter().zip(0..).map(|(text, id)| AddedToken::control(id, text.clone()));
        let added = AddedTokens::new(tokens.collect(), |text| Ok(text.to_owned())).unwrap();
        let text = format!("x<s>{}bbb{}", "a".repeat(301), "a".repeat(299));
        let sections = added.cut_raw(&text, &|_| true);
        let expected: [Section; 6] = [
            (None, 0..1),
            (Some(0), 1..4),
            (Some(1), 4..304),
            (None, 304..305),
            (Some(2), 305..308),
            (None, 308..607),
        ];
        assert_eq!(sections, expected);
    }
}
