//! What each token id says, as bytes: the table behind `decode`, the stream decoder and `token_bytes`.

use crate::byte_level::CharBytes;
use crate::error::TextError;
use serde_json::Value;

const DECODERS: &str =
    "ByteLevel, ByteFallback, Fuse, Metaspace, Replace with a string, Sequence, Strip of spaces";

/// The `decoder` section of a tokenizer.json, reduced to what it does to one token and to the beginning of the text.
#[derive(Debug, Default, Clone)]
pub(crate) struct DecodePlan {
    /// Token strings are in the GPT-2 byte alphabet.
    pub(crate) byte_level: bool,
    /// Whether a token spelled `<0xE4>` stands for the byte E4.
    pub(crate) byte_fallback: bool,
    /// Literal replacements inside a token, in order (`▁` to a space).
    pub(crate) replace: Vec<(String, String)>,
    /// How many leading spaces of the whole text are dropped.
    pub(crate) strip: usize,
    /// The first token loses all its spaces (what the Metaspace decoder does).
    pub(crate) first_without_spaces: bool,
    /// Tokens are joined with a space (what a file without a decoder means).
    pub(crate) join_with_space: bool,
}

impl DecodePlan {
    /// Reads the `decoder` section; `None` is the file without one.
    pub(crate) fn from_json(decoder: Option<&Value>) -> Result<Self, TextError> {
        let mut plan = Self::default();
        match decoder {
            None | Some(Value::Null) => plan.join_with_space = true,
            Some(decoder) => plan.add(decoder, &mut false)?,
        }
        Ok(plan)
    }

    /// The plan of a sentencepiece vocabulary.
    pub(crate) fn sentencepiece(strip_first_space: bool) -> Self {
        Self {
            byte_fallback: true,
            replace: vec![("\u{2581}".into(), " ".into())],
            strip: usize::from(strip_first_space),
            ..Self::default()
        }
    }

    /// `fused` becomes true once the chain has joined the tokens: from there on a step sees the whole text.
    fn add(&mut self, decoder: &Value, fused: &mut bool) -> Result<(), TextError> {
        let kind = decoder.get("type").and_then(Value::as_str).unwrap_or("");
        let unsupported =
            |what: String| TextError::Unsupported { part: "decoder", found: what, supported: DECODERS };
        match kind {
            "ByteLevel" if !self.byte_fallback => {
                self.byte_level = true;
                *fused = true;
            }
            "ByteFallback" if !*fused => self.byte_fallback = true,
            "Fuse" => *fused = true,
            "Metaspace" if !*fused => self.add_metaspace(decoder),
            "Replace" if !*fused => {
                let pattern = decoder.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str);
                let content = decoder.get("content").and_then(Value::as_str);
                let (Some(pattern), Some(content)) = (pattern, content) else {
                    return Err(unsupported("Replace with a regular expression".into()));
                };
                if pattern.is_empty() {
                    return Err(TextError::invalid("decoder", "Replace with an empty pattern"));
                }
                self.replace.push((pattern.into(), content.into()));
            }
            "Strip" => {
                let number = |key| decoder.get(key).and_then(Value::as_u64).unwrap_or(0);
                let content = decoder.get("content").and_then(Value::as_str);
                if !*fused || content != Some(" ") || number("stop") != 0 || number("start") > 64 {
                    return Err(unsupported(
                        "Strip of single tokens, of other characters or at the end".into(),
                    ));
                }
                self.strip += number("start") as usize;
            }
            "Sequence" => {
                let parts = decoder.get("decoders").and_then(Value::as_array);
                for part in parts.into_iter().flatten() {
                    self.add(part, fused)?;
                }
            }
            other => return Err(unsupported(other.to_string())),
        }
        Ok(())
    }

    fn add_metaspace(&mut self, decoder: &Value) {
        let mark = decoder.get("replacement").and_then(Value::as_str).unwrap_or("\u{2581}");
        if !mark.is_empty() {
            self.replace.push((mark.into(), " ".into()));
        }
        // Old files say `add_prefix_space`, newer ones `prepend_scheme`; both default to adding one.
        let never = decoder.get("prepend_scheme").and_then(Value::as_str) == Some("never");
        let old_no = decoder.get("add_prefix_space").and_then(Value::as_bool) == Some(false);
        self.first_without_spaces = !(never || old_no);
    }

    fn append(&self, alphabet: &CharBytes, token: &str, out: &mut Vec<u8>) {
        if self.byte_fallback
            && let Some(byte) = byte_token(token)
        {
            out.push(byte);
            return;
        }
        let mut text = std::borrow::Cow::Borrowed(token);
        for (from, to) in &self.replace {
            if text.contains(from.as_str()) {
                text = text.replace(from.as_str(), to).into();
            }
        }
        if self.byte_level {
            alphabet.append(&text, out);
        } else {
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// The byte that a token of the form `<0xE4>` stands for.
pub(crate) fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// One token as the table is built from it.
pub(crate) struct Entry<'a> {
    pub(crate) id: u32,
    pub(crate) text: &'a str,
    /// Left out when the caller skips special tokens.
    pub(crate) special: bool,
    /// Written as it is, whatever the plan says (added tokens of GGUF files).
    pub(crate) literal: bool,
}

/// Bytes of every id, in one block of memory. Built once; a lookup is two loads.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    /// Token `id` is `bytes[spans[id].0 .. spans[id].1]`; an id the vocabulary skips has `ABSENT`.
    spans: Vec<(u32, u32)>,
    special: Vec<bool>,
    longest: usize,
    pub(crate) plan: DecodePlan,
}

const ABSENT: (u32, u32) = (u32::MAX, u32::MAX);

impl Pieces {
    /// `size` is one more than the largest id; a later entry for the same id wins.
    pub(crate) fn build<'a>(
        size: usize,
        plan: DecodePlan,
        entries: impl Iterator<Item = Entry<'a>>,
    ) -> Result<Self, TextError> {
        let alphabet = CharBytes::new();
        let mut pieces = Self {
            bytes: Vec::new(),
            spans: vec![ABSENT; size],
            special: vec![false; size],
            longest: 0,
            plan,
        };
        for entry in entries {
            let start = pieces.bytes.len();
            if entry.literal {
                pieces.bytes.extend_from_slice(entry.text.as_bytes());
            } else {
                pieces.plan.append(&alphabet, entry.text, &mut pieces.bytes);
            }
            let end = pieces.bytes.len();
            let span = (u32::try_from(start), u32::try_from(end));
            let (Ok(from), Ok(to)) = span else {
                return Err(TextError::invalid("vocabulary", "the tokens are more than 4 GiB of text"));
            };
            let id = entry.id as usize;
            if let (Some(slot), Some(special)) = (pieces.spans.get_mut(id), pieces.special.get_mut(id)) {
                *slot = (from, to);
                *special = entry.special;
                pieces.longest = pieces.longest.max(end - start);
            }
        }
        Ok(pieces)
    }

    /// One more than the largest id; holes are counted.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&[u8]> {
        let &(from, to) = self.spans.get(id as usize)?;
        self.bytes.get(from as usize..to as usize)
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    pub(crate) fn set_special(&mut self, id: u32) {
        if let Some(special) = self.special.get_mut(id as usize) {
            *special = true;
        }
    }

    /// Length in bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}
