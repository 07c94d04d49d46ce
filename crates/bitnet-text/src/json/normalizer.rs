//! The normalizer of a tokenizer.json, step by step, so that none makes much more text than there was.

use crate::error::TextError;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::pattern::Pattern;
use tokenizers::utils::SysRegex;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

/// What a text may grow to, in bytes for each of its bytes. Byte-level files double text at most, and NFKC makes 11 bytes of one
/// in a character of Arabic print.
const GROWTH: usize = 16;
/// And as much for any text, so that short ones may get prefixes.
const ROOM: usize = 4096;

/// The steps, with sequences opened.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// Each match of an expression becomes another text.
    Replace { regex: SysRegex, content: usize, run: NormalizerWrapper },
    /// A text is put in front.
    Prepend { length: usize, run: NormalizerWrapper },
    /// What makes at most so many bytes of one.
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
        let most = text.get().len().saturating_mul(GROWTH).saturating_add(ROOM);
        for step in &self.0 {
            if step.would_make(text.get())? > most {
                return Err(format!("the normalizer would make more than {most} bytes of it").into());
            }
            step.run().normalize(text)?;
        }
        Ok(())
    }
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
            Step::Replace { regex, content: text(value.get("content")).len(), run }
        }
        "Prepend" => Step::Prepend { length: text(value.get("prepend")).len(), run },
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
            Self::Replace { run, .. } | Self::Prepend { run, .. } | Self::Other { run, .. } => run,
        }
    }

    /// At most how many bytes it makes of `text`.
    fn would_make(&self, text: &str) -> tokenizers::Result<usize> {
        Ok(match self {
            Self::Replace { regex, content, .. } => {
                let mut size = text.len();
                for ((start, end), is_match) in regex.find_matches(text)? {
                    if is_match && start == end && !text.is_empty() {
                        return Err("a Replace of the normalizer matches where there is nothing".into());
                    }
                    if is_match {
                        size = size.saturating_add(*content) - (end - start);
                    }
                }
                size
            }
            Self::Prepend { length, .. } => text.len().saturating_add(*length),
            // ASCII stays as long as it is, but for the byte alphabet.
            Self::Other { factor, .. } => {
                let wide = text.bytes().filter(|b| !b.is_ascii()).count();
                let wide = if *factor == 2 { text.len() } else { wide };
                text.len().saturating_add(wide.saturating_mul(factor - 1))
            }
        })
    }
}
