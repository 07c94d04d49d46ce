//! Long texts that cannot be cut into stretches, with the library's ids: it keeps hundreds of bytes for each byte of a text, so the
//! steps are done here on plain strings, piece by piece.
//!
//! What has no place in [`Splits`] is left to the library as a whole, up to [`MOST`] bytes.

use crate::byte_level::byte_to_char;
use crate::error::TextError;
use crate::gate::Gate;
use crate::splitter::GPT2;
use crate::tokenizer::Tokenizer;
use serde_json::Value;
use std::borrow::Cow;
use tokenizers::utils::SysRegex;

/// Texts from so many bytes on are read here.
pub(crate) const LONG: usize = 64 << 10;
/// The longest text that the library gets at once; it takes some 300 bytes for each.
const MOST: usize = 16 << 20;

impl Tokenizer {
    /// Appends the ids of `text`; false, with nothing appended, where the library has to do it.
    pub(crate) fn encode_long(
        &self,
        text: &str,
        gate: &Gate<'_>,
        ids: &mut Vec<u32>,
    ) -> Result<bool, TextError> {
        let splits = Splits::read(self.sections.pre_tokenizer.as_ref());
        // Such a token is searched in normalized text, and the gate knows places in the text as given.
        let placed =
            matches!(gate, Gate::At(_)) && self.added.tokens().iter().any(|t| t.special && t.normalized);
        // Which piece begins the text as given is not known behind a normalizer.
        let first_known =
            self.steps.normalizer.is_empty() && self.added.tokens().iter().all(|t| !t.normalized);
        let possible = |splits: &Splits| !placed && (first_known || !splits.asks_for_the_first());
        let Some(splits) = splits.filter(possible) else { return too_long(text) };
        for (id, range) in self.added.cut_raw(text, &|range| gate.allows(range)) {
            match id {
                Some(id) => ids.push(id),
                None => self.encode_section(&text[range.clone()], range.start == 0, &splits, gate, ids)?,
            }
        }
        Ok(true)
    }

    /// Appends the ids of a section without added tokens that are searched in the text as given.
    fn encode_section(
        &self,
        section: &str,
        first: bool,
        splits: &Splits,
        gate: &Gate<'_>,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let failed = |e: tokenizers::Error| TextError::Encode(e.to_string());
        let section = match self.sentencepiece.as_ref().and_then(|s| s.charsmap.as_ref()) {
            Some(map) => Cow::Owned(map.apply(section)?),
            None => Cow::Borrowed(section),
        };
        let section = self.steps.normalizer.apply_plain(section).map_err(failed)?;
        let inner = self.added.cut_normalized(&section, &|range| gate.allows(range));
        for (id, range) in inner {
            match id {
                Some(id) => ids.push(id),
                None => splits
                    .walk(&section[range], first, &mut |piece| {
                        ids.extend(self.ids_of(piece)?);
                        Ok(())
                    })
                    .map_err(failed)?,
            }
        }
        Ok(())
    }
}

/// The library may have it, or the text is more than it can be given.
fn too_long(text: &str) -> Result<bool, TextError> {
    if text.len() <= MOST {
        return Ok(false);
    }
    Err(TextError::Encode(format!(
        "it has {} bytes, and with this kind of pre_tokenizer only {MOST} can be read at once; divide it into several texts",
        text.len()
    )))
}

/// The steps of a `pre_tokenizer` section that are done on plain strings.
#[derive(Debug)]
struct Splits(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// Matches of an expression are pieces, and what stands between them.
    Isolated(SysRegex),
    /// Numeric characters are pieces, each or in runs.
    Digits { each: bool },
    /// A space is put in front where there is none.
    Space,
    /// Bytes are written in the alphabet of byte-level vocabularies.
    Bytes,
    /// Spaces become a mark, and a piece begins at each.
    Metaspace { mark: char, prepend: Prepend, split: bool },
}

#[derive(Debug, PartialEq, Eq)]
enum Prepend {
    Always,
    First,
    Never,
}

type Sink<'a> = dyn FnMut(&str) -> tokenizers::Result<()> + 'a;

impl Splits {
    /// `None` where a step is of another kind. The section has been read by the library, so what it must hold is there.
    fn read(section: Option<&Value>) -> Option<Self> {
        let mut steps = Vec::new();
        if let Some(section) = section {
            collect(section, &mut steps)?;
        }
        Some(Self(steps))
    }

    fn asks_for_the_first(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Metaspace { prepend: Prepend::First, .. }))
    }

    /// Gives the pieces of a section in order; `first` says that the section begins the text.
    fn walk(&self, section: &str, first: bool, sink: &mut Sink<'_>) -> tokenizers::Result<()> {
        walk(&self.0, section, first, sink)
    }
}

fn collect(step: &Value, steps: &mut Vec<Step>) -> Option<()> {
    let flag = |key: &str, default: bool| step.get(key).and_then(Value::as_bool).unwrap_or(default);
    match step.get("type")?.as_str()? {
        "Sequence" => {
            return step.get("pretokenizers")?.as_array()?.iter().try_for_each(|s| collect(s, steps));
        }
        "Split" if step.get("behavior")?.as_str()? == "Isolated" && !flag("invert", false) => {
            let pattern = step.get("pattern")?;
            let expression = match pattern.get("String").and_then(Value::as_str) {
                Some(literal) => regex_syntax::escape(literal),
                None => pattern.get("Regex")?.as_str()?.to_owned(),
            };
            steps.push(Step::Isolated(SysRegex::new(&expression).ok()?));
        }
        "Digits" => steps.push(Step::Digits { each: flag("individual_digits", false) }),
        "ByteLevel" => {
            if flag("add_prefix_space", true) {
                steps.push(Step::Space);
            }
            if flag("use_regex", true) {
                steps.push(Step::Isolated(SysRegex::new(GPT2).ok()?));
            }
            steps.push(Step::Bytes);
        }
        "Metaspace" => {
            let prepend =
                match (step.get("prepend_scheme").and_then(Value::as_str), flag("add_prefix_space", true)) {
                    (_, false) | (Some("never"), _) => Prepend::Never,
                    (Some("first"), _) => Prepend::First,
                    _ => Prepend::Always,
                };
            let mark = step.get("replacement")?.as_str()?.chars().next()?;
            steps.push(Step::Metaspace { mark, prepend, split: flag("split", true) });
        }
        _ => return None,
    }
    Some(())
}

fn walk(steps: &[Step], piece: &str, first: bool, sink: &mut Sink<'_>) -> tokenizers::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let Some((step, rest)) = steps.split_first() else { return sink(piece) };
    let mut done = 0;
    let mut upto = |end: usize, sink: &mut Sink<'_>| {
        let start = std::mem::replace(&mut done, end);
        walk(rest, &piece[start..end], first && start == 0, sink)
    };
    match step {
        Step::Isolated(regex) => {
            for (start, end) in regex.find_iter(piece) {
                upto(start, sink)?;
                upto(end, sink)?;
            }
        }
        Step::Digits { each } => {
            let mut before = None;
            for (at, c) in piece.char_indices() {
                let numeric = c.is_numeric();
                if before.is_some_and(|before| before != numeric || (numeric && *each)) {
                    upto(at, sink)?;
                }
                before = Some(numeric);
            }
        }
        Step::Space if piece.starts_with(' ') => {}
        Step::Space => return walk(rest, &[" ", piece].concat(), first, sink),
        Step::Bytes => {
            let written: String = piece.bytes().map(byte_to_char).collect();
            return walk(rest, &written, first, sink);
        }
        Step::Metaspace { mark, prepend, split } => {
            let mut marked = piece.replace(' ', &mark.to_string());
            let wanted = *prepend == Prepend::Always || (*prepend == Prepend::First && first);
            if wanted && !marked.starts_with(*mark) {
                marked.insert(0, *mark);
            }
            let mut start = 0;
            for (at, _) in marked.match_indices(*mark).filter(|_| *split) {
                walk(rest, &marked[start..at], first && start == 0, sink)?;
                start = at;
            }
            return walk(rest, &marked[start..], first && start == 0, sink);
        }
    }
    upto(piece.len(), sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitter_names;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::OnceLock;

    fn file(normalizer: &Value, pre_tokenizer: &Value, change: impl Fn(&mut Value)) -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        let mut add = |token: String| {
            let id = vocab.len();
            vocab.entry(token).or_insert(json!(id));
        };
        ["<unk>", "<s>", "<n>", "x<", "<0x0A>", "<0xC3>", "<0xA9>"]
            .map(str::to_owned)
            .into_iter()
            .for_each(&mut add);
        let characters = ('!'..='~').chain("▁ĠĊéÃ©ä¸Ń中Łĉ".chars());
        characters.for_each(|c| add(c.to_string()));
        let merges = [
            ["a", "b"],
            ["ab", "a"],
            ["a", "a"],
            ["b", "a"],
            ["▁", "a"],
            ["▁a", "ba"],
            ["Ġ", "a"],
            ["▁", "▁"],
            ["Ã", "©"],
            ["1", "2"],
            ["aa", "aa"],
            ["Ġ", "Ġ"],
            ["a", "ba"],
            ["<", "s"],
            ["<s", ">"],
            ["Ċ", "Ċ"],
            ["b", "b"],
            ["bb", "bb"],
            ["ab", "ab"],
            ["Ġa", "a"],
        ];
        merges.iter().for_each(|[left, right]| add(format!("{left}{right}")));
        let token = |content: &str, special: bool, normalized: bool, strip: bool| {
            json!({"id": 0, "content": content, "special": special, "normalized": normalized,
            "lstrip": strip, "rstrip": false, "single_word": false})
        };
        let mut file = json!({"version": "1.0", "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
            "added_tokens": [token("<unk>", true, false, false), token("<s>", true, false, true), token("<n>", true, true, false), token("x<", false, true, false)],
            "decoder": {"type": "ByteFallback"},
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges}});
        change(&mut file);
        Tokenizer::from_json(file.to_string()).unwrap()
    }

    fn tokenizers() -> &'static [Tokenizer] {
        static ALL: OnceLock<Vec<Tokenizer>> = OnceLock::new();
        ALL.get_or_init(|| {
            let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
            let llama2 = json!({"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
            let bytes = |space: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex});
            let sequence = |steps: &[Value]| json!({"type": "Sequence", "pretokenizers": steps});
            let digits = |each: bool| json!({"type": "Digits", "individual_digits": each});
            let split = |pattern: Value| json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false});
            let (none, nfc) = (Value::Null, json!({"type": "NFC"}));
            let same = |_: &mut Value| {};
            let raw = |f: &mut Value| f["added_tokens"].as_array_mut().unwrap().truncate(2);
            let mut all = vec![
                file(&none, &none, same),
                file(&llama2, &none, same),
                file(&llama2, &none, |f| f["model"]["fuse_unk"] = json!(false)),
                file(&none, &metaspace("always", true), same),
                file(&none, &metaspace("never", false), |f| f["model"]["byte_fallback"] = json!(false)),
                file(&none, &metaspace("first", true), raw),
                file(&none, &metaspace("first", false), raw),
                file(&nfc, &sequence(&[digits(false), bytes(true, true)]), same),
                file(&nfc, &sequence(&[digits(true), bytes(false, false)]), |f| f["model"]["unk_token"] = Value::Null),
                file(&none, &sequence(&[split(json!({"String": "ab"})), bytes(true, false)]), |f| f["model"]["ignore_merges"] = json!(true)),
                file(&none, &sequence(&[split(json!({"Regex": "a?"})), metaspace("always", true)]), same),
            ];
            let mut splitters: Vec<_> = splitter_names().filter_map(crate::splitter::Splitter::by_name).collect();
            splitters.dedup_by_key(|splitter| splitter.name());
            all.extend(splitters.iter().map(|s| file(&none, &s.to_json(), |f| f["model"]["ignore_merges"] = json!(s.ignore_merges))));
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn ids_are_the_librarys(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "b", "aa", "aba", "ab", " ", "  ", "\n", "\r\n", "\t ", "<s>", "<n>", "x<", "<", "s>", "é", "e\u{301}", "中", "😀", "12", "345", ".", "'s", "▁", "Ġ",
            ]), 1..16),
        ) {
            let text = parts.concat();
            for (row, tokenizer) in tokenizers().iter().enumerate() {
                for gate in [Gate::None, Gate::All, Gate::At(&|range: std::ops::Range<usize>| range.start.is_multiple_of(2))] {
                    let (mut whole, mut ours) = (Vec::new(), Vec::new());
                    tokenizer.encode_whole(&text, &gate, &mut whole).unwrap();
                    if tokenizer.encode_long(&text, &gate, &mut ours).unwrap() {
                        prop_assert_eq!(&ours, &whole, "row {}", row);
                    } else {
                        // Only where the gate asks for places behind a normalizer.
                        prop_assert!(matches!(gate, Gate::At(_)) && tokenizer.added.tokens().iter().any(|t| t.special && t.normalized));
                    }
                }
            }
        }

        #[test]
        fn words_are_merged_as_the_library_merges_them(word in "[abx<s>é😀中Ġ\n▁12]{1,40}") {
            for tokenizer in tokenizers() {
                let model = &tokenizer.model;
                let tokens = tokenizers::Model::tokenize(model, &word).unwrap();
                let library: Vec<u32> = tokens.into_iter().map(|token| token.id).collect();
                prop_assert_eq!(tokenizer.merges().unwrap().ids(model, &word).unwrap(), library);
            }
        }
    }

    #[test]
    fn what_is_too_long_for_the_library_is_refused_and_what_to_do_is_said() {
        let tokenizer = file(&Value::Null, &json!({"type": "WhitespaceSplit"}), |_| {});
        let mut ids = Vec::new();
        assert!(!tokenizer.encode_long(&"a ".repeat(LONG), &Gate::None, &mut ids).unwrap());
        let text = "a ".repeat(MOST / 2 + 1);
        let error = tokenizer.encode_long(&text, &Gate::None, &mut ids).unwrap_err().to_string();
        assert!(
            error.contains("it has 16777218 bytes") && error.contains("divide it into several texts"),
            "{error}"
        );
    }
}
