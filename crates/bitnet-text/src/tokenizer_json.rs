//! A tokenizer from a tokenizer.json and back.

use crate::error::TextError;
use crate::json::{Parsed, Written};
use crate::tokenizer::Tokenizer;
use std::sync::{Arc, OnceLock};
use tokenizers::Model;

impl Tokenizer {
    /// Reads a tokenizer.json (Hugging Face `tokenizers` 0.x): byte-level and sentencepiece-like BPE with the usual
    /// normalizers, pre-tokenizers, post-processors and decoders. Truncation and padding in the file are ignored, and so is
    /// merge dropout.
    ///
    /// # Errors
    /// Anything malformed, contradictory or of another kind, by section.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, TextError> {
        let parsed = Parsed::read(json.as_ref())?;
        let unknown = parsed.model.get_unk_token().as_ref().and_then(|unk| parsed.model.token_to_id(unk));
        let mut tokenizer = Self {
            bos: parsed.around.0.first().copied(),
            eos: parsed.around.1.last().copied(),
            around: parsed.around,
            sections: parsed.sections,
            steps: parsed.steps,
            model: parsed.model,
            merges: OnceLock::new(),
            sentencepiece: None,
            added: parsed.added,
            pieces: Arc::new(parsed.pieces),
            unknown,
            ends: Vec::new(),
        };
        tokenizer.find_ends();
        Ok(tokenizer)
    }

    /// The tokenizer as a tokenizer.json that gives the same ids.
    ///
    /// # Errors
    /// A vocabulary that the format cannot say (two tokens of a GGUF file with the same text, a `tokenizer.model`).
    pub fn to_json(&self) -> Result<String, TextError> {
        if self.sentencepiece.as_ref().is_some_and(|s| s.charsmap.is_some() || s.unigram.is_some()) {
            let reason = "it has no tokenizer.json that this crate writes; `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` \
                          of the Python package transformers writes one";
            return Err(TextError::invalid("tokenizer.model", reason));
        }
        let with_merges = self.model_with_merges()?;
        let model = with_merges.as_ref().unwrap_or(&self.model);
        let written = Written::new(&self.sections, self.added.tokens(), model);
        serde_json::to_string(&written).map_err(|e| TextError::Json(e.to_string()))
    }
}
