//! Which tokens end a text or a turn, and that these are control tokens whatever a file says of them.
//!
//! Files name them in many places, and converters forget some: the official GGUF file of BitNet b1.58 2B-4T names the end of
//! a text alone, and the end of a turn is found by its spelling only. Others mark it as ordinary text, and a template's end
//! of a turn is then read as nine pieces of text.

use crate::added::{AddedToken, AddedTokens};
use crate::error::TextError;
use crate::json::normalize;
use crate::sentencepiece::token_type;
use crate::spellings::{is_end, is_ordinary};
use crate::tokenizer::Tokenizer;
use std::sync::Arc;

/// Only where the file marks it as a control token: in HTML it ends what is struck out.
const MARKED: &str = "</s>";

impl Tokenizer {
    /// The ids that end a text or a turn, ascending: those that the file names or [`Tokenizer::with_ends`] added, and those
    /// whose spelling says so.
    pub fn end_ids(&self) -> &[u32] {
        &self.ends
    }

    /// Adds tokens that end texts or turns, by id, as config.json and generation_config.json name them. They are control tokens
    /// from then on, unless they are single characters or white space. An id outside the vocabulary is ignored.
    ///
    /// # Errors
    /// When there are more control tokens than can be searched for.
    pub fn with_ends(mut self, ids: &[u32]) -> Result<Self, TextError> {
        self.control(ids)?;
        self.ends.extend(ids.iter().filter(|&&id| self.pieces.get(id).is_some()));
        self.find_ends();
        Ok(self)
    }

    /// Takes the ids of known spellings and of the end of a text into the set.
    pub(crate) fn find_ends(&mut self) {
        let named = |text: &str| self.added.tokens().iter().any(|t| t.special && t.content == text);
        // Where a model calls tools with these, `<|end|>` only parts what it thinks from what it says.
        let parts = named("<|end|>") && named("<|call|>") && (named("<|return|>") || named("<|flush|>"));
        // Where answers of tools are told so, `</s>` is a token of another model's vocabulary.
        let foreign = named("<|tool_response>");
        let ends = |t: &&AddedToken| {
            t.special
                && match t.content.as_str() {
                    "<|end|>" => !parts,
                    MARKED => !foreign,
                    text => is_end(text),
                }
        };
        let spelled: Vec<u32> = self.added.tokens().iter().filter(ends).map(|t| t.id).collect();
        self.ends.extend(spelled);
        self.ends.extend(self.eos);
        self.ends.sort_unstable();
        self.ends.dedup();
    }

    /// Makes these tokens control tokens.
    pub(crate) fn control(&mut self, ids: &[u32]) -> Result<(), TextError> {
        let mut changed = None;
        for &id in ids {
            let Some(bytes) = self.pieces.get(id).filter(|_| !self.pieces.is_special(id)) else { continue };
            let text = String::from_utf8(bytes.to_vec()).ok();
            let Some(content) = text.filter(|text| !is_ordinary(text)) else { continue };
            let tokens = changed.get_or_insert_with(|| self.added.tokens().to_vec());
            match tokens.iter_mut().find(|t| t.id == id) {
                Some(token) => token.special = true,
                None => tokens.push(AddedToken::control(id, content)),
            }
            Arc::make_mut(&mut self.pieces).set_special(id);
            if let Some(kind) = self.sentencepiece.as_mut().and_then(|s| s.types.get_mut(id as usize)) {
                *kind = token_type::CONTROL;
            }
        }
        if let Some(tokens) = changed {
            self.added = AddedTokens::new(tokens, |text| normalize(&self.steps, text))?;
        }
        Ok(())
    }
}
