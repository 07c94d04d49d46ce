//! The tokenizer: one table of pieces and the steps of its kind. Reading, encoding and decoding stand in files of their own.

use crate::added::AddedTokens;
use crate::error::TextError;
use crate::json::{Sections, Steps};
use crate::merges::Merges;
use crate::pieces::Pieces;
use crate::sentencepiece::SentencePiece;
use std::sync::{Arc, OnceLock};
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

/// A tokenizer of any of the supported kinds. Immutable; share it freely between threads.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) sections: Sections,
    pub(crate) steps: Steps,
    pub(crate) model: BPE,
    pub(crate) merges: OnceLock<Merges>,
    /// Set for sentencepiece vocabularies of GGUF files; `model` then only finds tokens by their text.
    pub(crate) sentencepiece: Option<SentencePiece>,
    pub(crate) added: AddedTokens,
    pub(crate) pieces: Arc<Pieces>,
    pub(crate) around: (Vec<u32>, Vec<u32>),
    pub(crate) unknown: Option<u32>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    /// Ids that end a text or a turn, ascending.
    pub(crate) ends: Vec<u32>,
}

impl Tokenizer {
    /// Names the BOS and EOS tokens by their text, as tokenizer_config.json does (tokenizer.json does not say which they
    /// are). They are control tokens from then on, unless they are single characters or white space. A name that is not in the
    /// vocabulary is ignored.
    ///
    /// # Errors
    /// When there are more control tokens than can be searched for.
    pub fn with_bos_eos(mut self, bos: Option<&str>, eos: Option<&str>) -> Result<Self, TextError> {
        let named = [bos, eos].map(|text| text.and_then(|text| self.id_of(text)));
        self.control(&named.into_iter().flatten().collect::<Vec<_>>())?;
        self.bos = named[0].or(self.bos);
        self.eos = named[1].or(self.eos);
        self.find_ends();
        Ok(self)
    }

    /// One more than the largest id; holes in the vocabulary are counted.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// What an id says, before leading spaces of a text are dropped. `None` for a hole in the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id)
    }

    /// The id of a token as it is spelled in the vocabulary (`Ġthe`, `▁the`, `<|eot_id|>`).
    pub fn id_of(&self, token: &str) -> Option<u32> {
        let added = self.added.tokens().iter().find(|t| t.content == token);
        added.map(|t| t.id).or_else(|| self.model.token_to_id(token))
    }

    /// Whether an id is a control token, as opposed to text.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.is_special(id)
    }

    /// The id that begins a text, if the file says so.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id that ends a text, if the file says so.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether [`EncodeOptions::add_special`](crate::EncodeOptions::add_special) puts BOS in front of a text.
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some() && self.around.0.first() == self.bos.as_ref()
    }

    /// The control tokens as they are spelled in the vocabulary.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.added.tokens().iter().filter(|t| t.special).map(|t| t.content.as_str())
    }

    pub(crate) fn pieces(&self) -> Arc<Pieces> {
        Arc::clone(&self.pieces)
    }
}
