//! Long texts in stretches, with the ids of the whole: the library keeps a hundred bytes for each byte of a text that it cuts.
//!
//! A stretch ends in front of white space that follows a character no piece of the splitter goes on from. There the whole text
//! has a piece's end, too, whatever stands around it:
//! - No alternative of the expressions of [`Splitter`] joins an ASCII letter or digit to white space behind it, and GPT-2's joins
//!   no character but white space to it.
//! - The only look ahead, `\s+(?!\S)`, sees one character behind a run of white space. A stretch ends with none, so every such
//!   run of it is followed by the same character as in the whole.
//! - There is no look behind, and pieces are merged one by one.
//!
//! A normalizer, added tokens that are searched in plain text, and splitters that are not in the table could see across; texts
//! are then read whole.

use crate::splitter::Splitter;
use crate::tokenizer::Tokenizer;

/// Stretches have at least so many bytes; where every word's end may be cut at, hardly more.
pub(crate) const STRETCH: usize = 16 << 10;

/// Whether a text may be cut between this character and white space behind it.
type Ends = fn(char) -> bool;

impl Tokenizer {
    /// Where long texts may be cut; `None` where only the whole text has its ids.
    fn ends(&self) -> Option<Ends> {
        let plain = self.sentencepiece.is_none()
            && self.steps.normalizer.is_empty()
            && self.added.tokens().iter().all(|token| token.special);
        let section = self.sections.pre_tokenizer.as_ref().filter(|_| plain)?;
        let name = Splitter::detect(section, self.model.ignore_merges)?.name();
        Some(if name == "gpt-2" { |c: char| !c.is_whitespace() } else { |c: char| c.is_ascii_alphanumeric() })
    }

    /// `text`, in which no control token is looked for, in stretches of at least so many bytes (but for the last).
    pub(crate) fn stretches<'a>(&self, text: &'a str, least: usize) -> impl Iterator<Item = &'a str> {
        let ends = if text.len() > least { self.ends() } else { None };
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let end = ends.and_then(|ends| first_end(text, least, ends));
            let (stretch, more) = text.split_at(end.unwrap_or(text.len()));
            rest = Some(more).filter(|more| !more.is_empty());
            Some(stretch)
        })
    }
}

/// The first place at `least` or behind it where `text` may be cut.
fn first_end(text: &str, least: usize, ends: Ends) -> Option<usize> {
    let least = least.max(1);
    let bytes = text.as_bytes().get(least..)?;
    let blank = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'\t' | b' ');
    let mut blanks = bytes.iter().enumerate().filter(|(_, byte)| blank(byte)).map(|(at, _)| least + at);
    blanks.find(|&at| text[..at].chars().next_back().is_some_and(ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;
    use crate::{EncodeOptions, splitter_names};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::OnceLock;

    /// Bytes, and merges that would join whatever a wrong cut parts: line's ends with each other and with what stands around.
    fn file(pre_tokenizer: &Value, ignore_merges: bool) -> Value {
        let alphabet =
            ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}').chain('\u{100}'..='\u{143}');
        let mut tokens: Vec<String> =
            ["<s>".to_owned()].into_iter().chain(alphabet.map(String::from)).collect();
        // Ċ, č and Ġ are the line feed, the carriage return and the space.
        let merges = [
            "Ċ Ċ", "a Ċ", "Ċ a", ". Ċ", "č Ċ", "Ġ Ċ", "Ċ Ġ", "Ġ a", "ĊĊ a", "1 Ċ", "a a", "1 1", "© Ċ", ". .",
        ];
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let vocab: serde_json::Map<String, Value> =
            tokens.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
        json!({"version": "1.0", "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
            "added_tokens": [{"id": 0, "content": "<s>", "special": true, "normalized": false}],
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges}})
    }

    fn read(file: &Value) -> Tokenizer {
        Tokenizer::from_json(file.to_string()).unwrap()
    }

    /// One tokenizer for each splitter of the table.
    fn tokenizers() -> &'static [Tokenizer] {
        static ALL: OnceLock<Vec<Tokenizer>> = OnceLock::new();
        ALL.get_or_init(|| {
            let mut splitters: Vec<_> = splitter_names().filter_map(Splitter::by_name).collect();
            splitters.dedup_by_key(|splitter| splitter.name());
            splitters.iter().map(|s| read(&file(&s.to_json(), s.ignore_merges))).collect()
        })
    }

    fn ids<'a>(tokenizer: &Tokenizer, stretches: impl Iterator<Item = &'a str>) -> Vec<u32> {
        let mut ids = Vec::new();
        stretches.for_each(|s| tokenizer.encode_whole(s, &Gate::None, &mut ids).unwrap());
        ids
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn stretches_have_the_ids_of_the_whole(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "a\n", "\n", "\n\n", " ", "\r\n", "\t", "1", "12\n", ".", ".\n", "'s", "'s\n", "'", "é", "é\n", "中\n", "a ", "1 ", ". ", "a\t", "a\r", "é ",
                "\u{301}\n", "\u{a0}", "\u{a0}\n", "\u{2028}", "a b\n", "<s>", "<s>\n", "ⓐ\n", "$\n", "`\n",
            ]), 0..24),
            least in 0usize..12,
        ) {
            let text = parts.concat();
            for (row, tokenizer) in tokenizers().iter().enumerate() {
                let stretches: Vec<&str> = tokenizer.stretches(&text, least).collect();
                prop_assert_eq!(stretches.concat(), &text[..]);
                let whole = ids(tokenizer, std::iter::once(&text[..]));
                prop_assert_eq!(ids(tokenizer, stretches.iter().copied()), whole, "splitter {}, {:?}", row, stretches);
            }
        }
    }

    #[test]
    fn lines_are_cut_where_they_may_be_and_nowhere_else() {
        let text = "to be,\nor not\n\n to be.\n\n\nthat is\n";
        let cut = |tokenizer: &Tokenizer| tokenizer.stretches(text, 1).map(str::to_owned).collect::<Vec<_>>();
        let all = tokenizers();
        assert_eq!(all.len(), 9);
        // LLaMA-3's expression joins punctuation to the line's end behind it.
        assert_eq!(cut(&all[0]), ["to", " be,\nor", " not", "\n\n to", " be.\n\n\nthat", " is", "\n"]);
        assert_eq!(
            cut(&all[4]),
            ["to", " be,", "\nor", " not", "\n\n to", " be.", "\n\n\nthat", " is", "\n"]
        );
        assert_eq!(
            all[4].stretches(text, 14).collect::<Vec<_>>(),
            ["to be,\nor not\n\n to", " be.\n\n\nthat is", "\n"]
        );
        // What could see across a cut is read whole.
        let gpt2 = Splitter::by_name("gpt2").unwrap().to_json();
        let changes: [fn(&mut Value); 4] = [
            |f| f["normalizer"] = json!({"type": "NFC"}),
            |f| f["added_tokens"][0]["special"] = json!(false),
            |f| f["pre_tokenizer"] = json!({"type": "WhitespaceSplit"}),
            |f| f["pre_tokenizer"] = Value::Null,
        ];
        for change in changes {
            let mut file = file(&gpt2, false);
            change(&mut file);
            assert_eq!(cut(&read(&file)), [text]);
        }
    }

    #[test]
    fn a_long_text_is_read_in_stretches_and_comes_back() {
        let text = "a line, of some words; 1 and 11\n".repeat(4000);
        let options = EncodeOptions { add_special: false, parse_special: false };
        for tokenizer in tokenizers() {
            assert!(tokenizer.stretches(&text, STRETCH).count() > text.len() / STRETCH / 2);
            let encoded = tokenizer.encode(&text, options).unwrap();
            assert_eq!(encoded, ids(tokenizer, std::iter::once(&text[..])));
            assert_eq!(tokenizer.decode(&encoded, false), text);
        }
    }
}
