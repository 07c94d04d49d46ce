//! The normalizer of a tokenizer.json, step by step, so that none makes much more text than there was.

use crate::error::TextError;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::LazyLock;
use tokenizers::utils::SysRegex;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

/// What a text may grow to, in bytes for each of its bytes. Byte-level files double text at most, and NFKC makes 11 bytes of one
/// in a character of Arabic print.
const GROWTH: usize = 16;
/// And as much for any text, so that short ones may get prefixes.
const ROOM: usize = 4096;

/// Long texts are normalized in parts of so many bytes, and some more up to the next character that begins one.
const PART: usize = 16 << 10;

/// Characters that no normalization joins to what stands before them: all but marks, and the parts of Korean syllables (in their
/// compatibility forms, too), and the vowel signs of Kirat Rai.
static BEGINS: LazyLock<SysRegex> = LazyLock::new(|| {
    let parts = r"\x{1100}-\x{11FF}\x{3130}-\x{318F}\x{A960}-\x{A97F}\x{D7B0}-\x{D7FF}\x{FF00}-\x{FFEF}\x{16D40}-\x{16D7F}";
    #[allow(clippy::expect_used, reason = "the expression is a constant, and a test reads it")]
    SysRegex::new(&[r"[\p{L}\p{N}\p{P}\p{S} \n&&[^", parts, "]]"].concat()).expect("an expression")
});

/// The steps, with sequences opened.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// Each match of an expression becomes another text.
    Replace { regex: SysRegex, content: String, run: NormalizerWrapper },
    /// A fixed text is put in front of the input.
    Prepend { prefix: String, run: NormalizerWrapper },
    /// White space at the chosen ends is removed.
    Strip { left: bool, right: bool, run: NormalizerWrapper },
    /// What makes at most so many bytes of one, and looks at a character, or at one with the marks behind it.
    Other { factor: usize, run: NormalizerWrapper },
}

impl Steps {
    /// Reads the section, whose kinds of steps have been checked.
    pub(crate) fn read(section: &Value) -> Result<Self, TextError> {
        let mut steps = Vec::new();
        collect(section, &mut steps)?;
        Ok(Self(steps))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs the steps; stops before one that would make too much.
    pub(crate) fn apply(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        let most = self.most(text.get());
        for step in &self.0 {
            step.check(text.get(), most)?;
            step.run().normalize(text)?;
        }
        Ok(())
    }

    fn most(&self, text: &str) -> usize {
        text.len().saturating_mul(GROWTH).saturating_add(ROOM)
    }
}

impl Steps {
    /// What [`Self::apply`] makes of a text, without the tables of places that the library keeps for each byte.
    pub(crate) fn apply_plain<'a>(&self, mut text: Cow<'a, str>) -> tokenizers::Result<Cow<'a, str>> {
        let most = self.most(&text);
        for step in &self.0 {
            step.check(&text, most)?;
            text = match step {
                _ if text.is_empty() => break,
                Step::Replace { regex, content, .. } => {
                    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
                    for (start, end) in regex.find_iter(&text) {
                        out.extend([&text[done..start], content]);
                        done = end;
                    }
                    out.push_str(&text[done..]);
                    out.into()
                }
                Step::Prepend { prefix, .. } => [prefix, &*text].concat().into(),
                Step::Strip { left, right, .. } => {
                    let kept = if *left { text.trim_start() } else { &text };
                    if *right { kept.trim_end() } else { kept }.to_owned().into()
                }
                Step::Other { run, .. } => in_parts(run, &text, PART)?.into(),
            };
        }
        Ok(text)
    }
}

/// What a step that looks at single characters, and at the marks behind them, makes of a long text, part by part.
fn in_parts(run: &NormalizerWrapper, text: &str, least: usize) -> tokenizers::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let least = (least.max(1)..rest.len()).find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
        let more = BEGINS.find_iter(&rest[least..]).next();
        let (part, behind) = rest.split_at(more.map_or(rest.len(), |(start, _)| least + start));
        let mut part = NormalizedString::from(part);
        run.normalize(&mut part)?;
        out.push_str(part.get());
        rest = behind;
    }
    Ok(out)
}

fn collect(value: &Value, steps: &mut Vec<Step>) -> Result<(), TextError> {
    if let Some(inner) = value.get("normalizers").and_then(Value::as_array) {
        return inner.iter().try_for_each(|step| collect(step, steps));
    }
    let invalid = |reason: String| TextError::invalid("normalizer", reason);
    let run = NormalizerWrapper::deserialize(value).map_err(|e| invalid(e.to_string()))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    steps.push(match value.get("type").and_then(Value::as_str).unwrap_or_default() {
        "Replace" => {
            let pattern = value.get("pattern");
            let expression = match pattern.and_then(|p| p.get("String")).and_then(Value::as_str) {
                Some("") => return Err(invalid("Replace with an empty pattern".into())),
                Some(literal) => regex_syntax::escape(literal),
                None => text(pattern.and_then(|p| p.get("Regex"))),
            };
            let regex = SysRegex::new(&expression).map_err(|e| invalid(e.to_string()))?;
            Step::Replace { regex, content: text(value.get("content")), run }
        }
        "Prepend" => Step::Prepend { prefix: text(value.get("prepend")), run },
        "Strip" => {
            let flag = |key| value.get(key).and_then(Value::as_bool).unwrap_or_default();
            Step::Strip { left: flag("strip_left"), right: flag("strip_right"), run }
        }
        // U+FDFA has 3 bytes and becomes 33.
        "NFKC" | "NFKD" => Step::Other { factor: 11, run },
        "NFC" | "NFD" | "Lowercase" | "BertNormalizer" => Step::Other { factor: 3, run },
        "ByteLevel" => Step::Other { factor: 2, run },
        _ => Step::Other { factor: 1, run },
    });
    Ok(())
}

impl Step {
    fn run(&self) -> &NormalizerWrapper {
        match self {
            Self::Replace { run, .. }
            | Self::Prepend { run, .. }
            | Self::Strip { run, .. }
            | Self::Other { run, .. } => run,
        }
    }

    /// Refuses a step that would make more than `most` bytes of `text`.
    fn check(&self, text: &str, most: usize) -> tokenizers::Result<()> {
        if self.would_make(text)? > most {
            return Err(format!("the normalizer would make more than {most} bytes of it").into());
        }
        Ok(())
    }

    /// At most how many bytes it makes of `text`.
    fn would_make(&self, text: &str) -> tokenizers::Result<usize> {
        Ok(match self {
            Self::Replace { regex, content, .. } => {
                let mut size = text.len();
                // Nothing is looked for in nothing.
                for (start, end) in regex.find_iter(text).take_while(|_| !text.is_empty()) {
                    if start == end {
                        return Err("a Replace of the normalizer matches where there is nothing".into());
                    }
                    size = size.saturating_add(content.len()) - (end - start);
                }
                size
            }
            Self::Prepend { prefix, .. } => text.len().saturating_add(prefix.len()),
            Self::Strip { .. } => text.len(),
            // ASCII stays as long as it is, but for the byte alphabet.
            Self::Other { factor, .. } => {
                let wide = text.bytes().filter(|b| !b.is_ascii()).count();
                let wide = if *factor == 2 { text.len() } else { wide };
                text.len().saturating_add(wide.saturating_mul(factor - 1))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn steps(section: &Value) -> Steps {
        Steps::read(section).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn parts_become_what_the_whole_becomes(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "A", "e\u{301}", "\u{301}", "\u{323}", "é", " ", "\n", "\t", "中", "\u{f900}", "か", "\u{3099}", "カ", "\u{ff76}", "\u{ff9e}",
                "\u{1100}", "\u{1161}", "\u{11a8}", "가", "\u{ac01}", "\u{3131}", "\u{314f}", "\u{ffa1}", "\u{ffc2}", "\u{995}", "\u{9c7}", "\u{9be}",
                "\u{fdfa}", "ﬁ", "①", "Σ", "ς", "İ", "😀", "\u{1d15e}", "\u{1}", "\u{200b}", "\u{fffd}", "\u{f71}", "\u{f72}", "\u{11935}", "\u{11930}",
                "\u{16d63}", "\u{16d67}", "Å", "Ω", "\u{344}", "\u{7f}", "\u{85}",
            ]), 0..16),
            least in 0usize..9,
        ) {
            let text = parts.concat();
            for kind in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel", "BertNormalizer"] {
                let section = json!({"type": kind, "clean_text": true, "handle_chinese_chars": true, "strip_accents": true, "lowercase": true});
                let Steps(steps) = steps(&section);
                let mut whole = NormalizedString::from(&*text);
                steps[0].run().normalize(&mut whole).unwrap();
                prop_assert_eq!(in_parts(steps[0].run(), &text, least).unwrap(), whole.get(), "{}", kind);
            }
        }

        #[test]
        fn plain_strings_become_what_the_librarys_become(text in "[ a-cé\u{301}ǅ\n]{0,12}") {
            let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
            let strip = |left: bool, right: bool| json!({"type": "Strip", "strip_left": left, "strip_right": right});
            let sections = [
                json!([{"type": "Prepend", "prepend": "▁"}, replace(json!({"String": " "}), "▁")]),
                json!([strip(true, false), {"type": "NFKD"}, replace(json!({"Regex": "a+|é"}), "")]),
                json!([strip(false, true), replace(json!({"String": "aa"}), "b"), {"type": "Prepend", "prepend": "x"}]),
                json!([strip(true, true), {"type": "Lowercase"}, replace(json!({"Regex": "^ab"}), "longer than it was")]),
            ];
            for section in sections {
                let steps = steps(&json!({"type": "Sequence", "normalizers": section}));
                let mut whole = NormalizedString::from(&*text);
                steps.apply(&mut whole).unwrap();
                prop_assert_eq!(steps.apply_plain((&*text).into()).unwrap(), whole.get());
            }
        }
    }
}
