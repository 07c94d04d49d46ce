//! From a tokenizer to the keys of a GGUF file, and from a sentencepiece vocabulary to a list of merges.

use super::vocabulary::GgufVocabulary;
use crate::error::TextError;
use crate::merges::merges_of;
use crate::sentencepiece::{SentencePiece, token_type};
use crate::splitter::Splitter;
use crate::tokenizer::Tokenizer;
use ahash::{AHashMap, AHashSet};
use serde_json::Value;
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

/// Longer tokens are left out of the search for merges, whose work grows with the square of the length.
const MAX_MERGED_TOKEN: usize = 4096;

impl Tokenizer {
    /// The tokenizer as the `tokenizer.ggml.*` keys of a GGUF file that give the same ids.
    ///
    /// What the keys cannot say and readers of such files do without is listed in [`GgufVocabulary::losses`].
    ///
    /// # Errors
    /// A splitter that has no name in GGUF, or a kind of tokenizer that has no `tokenizer.ggml.model`.
    pub fn to_gguf_vocabulary(&self) -> Result<GgufVocabulary, TextError> {
        let (tokens, token_types) = self.tokens_by_id();
        let mut vocabulary = GgufVocabulary {
            token_types,
            bos: self.bos,
            eos: self.eos,
            unk: self.unknown,
            add_bos: Some(self.adds_bos()),
            add_eos: Some(self.eos.is_some() && self.around.1.last() == self.eos.as_ref()),
            ..GgufVocabulary::default()
        };
        if self.around.0.len() > usize::from(self.adds_bos()) || self.around.1.len() > 1 {
            vocabulary.losses.push("the post-processor puts more than BOS and EOS around a text".into());
        }
        for token in self.added.tokens().iter().filter(|t| t.lstrip || t.rstrip || t.single_word) {
            let sentence = format!("{:?} strips white space or wants to be a single word", token.content);
            vocabulary.losses.push(sentence);
        }
        if self.sentencepiece.as_ref().is_some_and(|s| s.unigram.is_some()) {
            return Err(TextError::Unsupported {
                part: "tokenizer.model",
                found: "unigram".into(),
                supported: "BPE, in a GGUF file",
            });
        }
        if self.sentencepiece.is_some() {
            self.export_sentencepiece(&mut vocabulary);
        } else if self.pieces.plan.byte_level {
            self.export_byte_level(&mut vocabulary)?;
        } else {
            self.export_merges_as_scores(&mut vocabulary, &tokens)?;
        }
        vocabulary.tokens = tokens.into_iter().map(String::into_bytes).collect();
        Ok(vocabulary)
    }

    /// Texts and types by id; holes are named so that no two tokens are spelled the same.
    fn tokens_by_id(&self) -> (Vec<String>, Vec<i32>) {
        let size = self.vocab_size();
        let mut tokens: Vec<Option<String>> = vec![None; size];
        let mut types = vec![token_type::NORMAL; size];
        let vocab = self.model.get_vocab();
        for (text, &id) in &vocab {
            if let Some(slot) = tokens.get_mut(id as usize) {
                *slot = Some(text.clone());
            }
        }
        for token in self.added.tokens() {
            let kind = match token.special {
                true if Some(token.id) == self.unknown => token_type::UNKNOWN,
                true => token_type::CONTROL,
                false => token_type::USER_DEFINED,
            };
            if let (Some(slot), Some(t)) =
                (tokens.get_mut(token.id as usize), types.get_mut(token.id as usize))
            {
                *slot = Some(token.content.clone());
                *t = kind;
            }
        }
        let mut texts = Vec::with_capacity(size);
        for (id, (token, kind)) in tokens.into_iter().zip(&mut types).enumerate() {
            texts.push(token.unwrap_or_else(|| {
                *kind = token_type::UNUSED;
                format!("[PAD{id}]")
            }));
        }
        (texts, types)
    }

    fn export_sentencepiece(&self, vocabulary: &mut GgufVocabulary) {
        vocabulary.model = "llama".into();
        vocabulary.add_space_prefix = Some(self.pieces.plan.strip > 0);
        if let Some(rules) = &self.sentencepiece {
            if rules.charsmap.is_some() {
                let sentence =
                    "the sentencepiece model's own table of characters and rules for spaces are left out";
                vocabulary.losses.push(sentence.into());
            }
            vocabulary.scores.clone_from(&rules.scores);
            vocabulary.token_types.clone_from(&rules.types);
        }
    }

    fn export_byte_level(&self, vocabulary: &mut GgufVocabulary) -> Result<(), TextError> {
        let section = self.sections.pre_tokenizer.as_ref().unwrap_or(&Value::Null);
        let splitter = Splitter::detect(section, self.model.ignore_merges).ok_or_else(|| {
            let reason = "no name of tokenizer.ggml.pre stands for this way of splitting text";
            TextError::invalid("pre_tokenizer", reason)
        })?;
        if let Some(normalizer) = &self.sections.normalizer {
            let kind = normalizer.get("type").and_then(Value::as_str).unwrap_or("");
            vocabulary.losses.push(format!("text is not normalized ({kind} in tokenizer.json)"));
        }
        vocabulary.model = "gpt2".into();
        vocabulary.pre = Some(splitter.name().into());
        vocabulary.scores = vec![0.0; self.vocab_size()];
        vocabulary.merges = merges_of(&self.model)?.into_iter().map(|(l, r)| format!("{l} {r}")).collect();
        Ok(())
    }

    /// A tokenizer.json that came from sentencepiece lists merges; their order is the order of the scores.
    fn export_merges_as_scores(
        &self,
        vocabulary: &mut GgufVocabulary,
        tokens: &[String],
    ) -> Result<(), TextError> {
        let prefix = self.space_prefix(&mut vocabulary.losses)?;
        let merges = merges_of(&self.model)?;
        let ids: AHashMap<&str, usize> = tokens.iter().enumerate().map(|(id, t)| (t.as_str(), id)).collect();
        let lowest = -(merges.len() as f32) - 1.0;
        vocabulary.scores = vec![lowest; tokens.len()];
        let mut previous = None;
        let mut scattered = false;
        let mut seen = AHashSet::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            let Some(&id) = ids.get([left.as_str(), right.as_str()].concat().as_str()) else { continue };
            if seen.insert(id) {
                vocabulary.scores[id] = -(rank as f32);
            } else if previous != Some(id) {
                scattered = true;
            }
            previous = Some(id);
        }
        self.type_bytes(vocabulary, tokens);
        let rules = SentencePiece {
            scores: Vec::new(),
            types: vocabulary.token_types.clone(),
            unknown: None,
            bytes: Box::new([None; 256]),
            fuse_unknown: false,
            unigram: None,
            charsmap: None,
        };
        let all: usize = tokens.iter().map(|t| self.splits(&rules, t).len()).sum();
        if scattered || all != merges.len() {
            let sentence = "the merges are not all those of a vocabulary with scores, so rare words may be split otherwise";
            vocabulary.losses.push(sentence.into());
        }
        vocabulary.model = "llama".into();
        vocabulary.add_space_prefix = Some(prefix);
        Ok(())
    }

    fn type_bytes(&self, vocabulary: &mut GgufVocabulary, tokens: &[String]) {
        if !self.model.byte_fallback {
            vocabulary.losses.push("characters outside the vocabulary become <unk> instead of bytes".into());
        }
        for (token, kind) in tokens.iter().zip(&mut vocabulary.token_types) {
            if *kind == token_type::NORMAL && crate::pieces::byte_token(token).is_some() {
                *kind = token_type::BYTE;
            }
        }
        let unknown = self.unknown.and_then(|id| vocabulary.token_types.get_mut(id as usize));
        if let Some(kind) = unknown {
            *kind = token_type::UNKNOWN;
        }
    }

    /// Whether the file puts `▁` before a text, by any of the ways to say so.
    fn space_prefix(&self, losses: &mut Vec<String>) -> Result<bool, TextError> {
        let refuse =
            || TextError::invalid("normalizer", "neither byte-level nor like sentencepiece: no GGUF form");
        let (mut prefix, mut marks) = (false, false);
        let normalizer = self.sections.normalizer.iter();
        for step in normalizer.flat_map(|n| steps(n, "normalizers")) {
            match (kind(step), step.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str)) {
                ("Prepend", _) => prefix = true,
                ("Replace", Some(" ")) => marks = true,
                _ => return Err(refuse()),
            }
        }
        let pre_tokenizer = self.sections.pre_tokenizer.iter();
        for step in pre_tokenizer.flat_map(|p| steps(p, "pretokenizers")) {
            match kind(step) {
                "Metaspace" => {
                    marks = true;
                    let scheme = step.get("prepend_scheme").and_then(Value::as_str).unwrap_or("always");
                    let old = step.get("add_prefix_space").and_then(Value::as_bool);
                    prefix |= scheme != "never" && old != Some(false);
                    if prefix {
                        losses.push("a text that begins with a space gets another one before it".into());
                    }
                }
                // Spaces are already `▁` here, so cutting at them does nothing.
                "Split" if step.get("pattern").and_then(|p| p.get("String")) == Some(&Value::from(" ")) => {}
                _ => return Err(refuse()),
            }
        }
        if marks { Ok(prefix) } else { Err(refuse()) }
    }

    /// For a sentencepiece vocabulary, the library's model with the merges that the scores stand for.
    pub(crate) fn model_with_merges(&self) -> Result<Option<BPE>, TextError> {
        let vocab = self.model.get_vocab();
        let distinct =
            vocab.len() + self.added.tokens().iter().filter(|t| !vocab.contains_key(&t.content)).count();
        let present = (0u32..).take(self.vocab_size()).filter(|&id| self.pieces.get(id).is_some()).count();
        if distinct < present {
            let reason = format!("{} tokens repeat the text of another one", present - distinct);
            return Err(TextError::invalid("tokenizer.ggml.tokens", reason));
        }
        let Some(rules) = &self.sentencepiece else { return Ok(None) };
        let mut scored = Vec::new();
        for (text, &id) in &vocab {
            let score = rules.scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
            scored.extend(self.splits(rules, text).into_iter().map(|at| (score, id, at, text)));
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let halves = |text: &str, at: usize| (text[..at].to_string(), text[at..].to_string());
        let merges = scored.iter().map(|&(_, _, at, text)| halves(text, at)).collect();
        let mut builder = BPE::builder()
            .fuse_unk(self.model.fuse_unk)
            .byte_fallback(self.model.byte_fallback)
            .vocab_and_merges(
                vocab.iter().map(|(t, &id)| (t.clone(), id)).collect::<AHashMap<_, _>>(),
                merges,
            );
        if let Some(unk) = self.model.get_unk_token() {
            builder = builder.unk_token(unk.clone());
        }
        builder.build().map(Some).map_err(|e| TextError::invalid("tokenizer.ggml.tokens", e.to_string()))
    }

    /// Byte positions at which `text` falls into two tokens that plain text may become.
    fn splits(&self, rules: &SentencePiece, text: &str) -> Vec<usize> {
        let found = |part: &str| self.model.token_to_id(part).is_some_and(|id| rules.is_text(id));
        if text.len() > MAX_MERGED_TOKEN || !found(text) {
            return Vec::new();
        }
        let inner = text.char_indices().map(|(at, _)| at).skip(1);
        inner.filter(|&at| found(&text[..at]) && found(&text[at..])).collect()
    }
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("")
}

/// The steps of a section, with nested sequences opened.
fn steps<'a>(section: &'a Value, list: &str) -> Vec<&'a Value> {
    match section.get(list).and_then(Value::as_array) {
        Some(inner) => inner.iter().flat_map(|step| steps(step, list)).collect(),
        None => vec![section],
    }
}
