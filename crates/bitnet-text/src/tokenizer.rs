//! The tokenizer: one way from text to ids for every kind of vocabulary, one table for the way back.

use crate::added::{AddedTokens, Section};
use crate::error::TextError;
use crate::json::{Parsed, Sections, Steps, Written};
use crate::long::LONG;
use crate::merges::{LONG_WORD, Merges};
use crate::pieces::Pieces;
use crate::sentencepiece::SentencePiece;
use crate::stream;
use crate::stretches::STRETCH;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use tokenizers::models::bpe::BPE;
use tokenizers::{
    Model, NormalizedString, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Token,
};

/// How text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Put around the text what the tokenizer's post-processor puts there: for most models, BOS in front.
    pub add_special: bool,
    /// Read `<|eot_id|>` inside the text as the control token. Off by default: what a user types is plain text.
    pub parse_special: bool,
}

/// Which control tokens of a text are meant as such.
pub(crate) enum Gate<'a> {
    All,
    None,
    /// Those at the ranges of bytes that it says yes to.
    At(&'a dyn Fn(Range<usize>) -> bool),
}

impl Gate<'_> {
    pub(crate) fn allows(&self, range: Range<usize>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::At(says) => says(range),
        }
    }
}

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

    /// Ids of `text`. A long text takes memory for its ids and for a part of it at a time, where the splitter is one that cannot
    /// see across.
    ///
    /// # Errors
    /// Only where a normalizer or splitter of the file fails on this text.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TextError> {
        let mut ids = if options.add_special { self.around.0.clone() } else { Vec::new() };
        if options.parse_special {
            self.encode_gated(text, &Gate::All, &mut ids)?;
        } else {
            for stretch in self.stretches(text, STRETCH) {
                self.encode_gated(stretch, &Gate::None, &mut ids)?;
            }
        }
        if options.add_special {
            ids.extend_from_slice(&self.around.1);
        }
        Ok(ids)
    }

    /// Appends the ids of `text`, in which a control token counts only where `gate` says so of its byte range.
    pub(crate) fn encode_gated(
        &self,
        text: &str,
        gate: &Gate<'_>,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        if text.is_empty() || (text.len() >= LONG && self.encode_long(text, gate, ids)?) {
            return Ok(());
        }
        self.encode_whole(text, gate, ids)
    }

    /// The same, through the library, which keeps tables of places for each byte of a text.
    pub(crate) fn encode_whole(
        &self,
        text: &str,
        gate: &Gate<'_>,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let mut split = PreTokenizedString::from(text);
        let done = split
            .split(|_, piece| cut(&piece, self.added.cut_raw(piece.get(), &|range| gate.allows(range))))
            .and_then(|()| {
                split.split(|_, mut piece| {
                    if let Some(map) = self.sentencepiece.as_ref().and_then(|s| s.charsmap.as_ref()) {
                        piece = NormalizedString::from(map.apply(piece.get())?);
                    }
                    self.steps.normalizer.apply(&mut piece)?;
                    let shift = piece.offsets_original().0;
                    let original = |range: Range<usize>| {
                        let range =
                            piece.convert_offsets(tokenizers::normalizer::Range::Normalized(range))?;
                        Some(range.start + shift..range.end + shift)
                    };
                    let sections = self.added.cut_normalized(piece.get(), &|range| {
                        original(range).is_some_and(|range| gate.allows(range))
                    });
                    cut(&piece, sections)
                })
            })
            .and_then(|()| match &self.steps.pre_tokenizer {
                Some(pre_tokenizer) => pre_tokenizer.pre_tokenize(&mut split),
                None => Ok(()),
            })
            .and_then(|()| {
                split.tokenize(|piece| {
                    let ids = self.ids_of(piece.get())?;
                    Ok(ids.into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect())
                })
            });
        done.map_err(|e| TextError::Encode(e.to_string()))?;
        for (_, _, tokens) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|t| t.id));
        }
        Ok(())
    }

    /// The model's ids of one piece of plain text; never a control token.
    ///
    /// A vocabulary may hold its control tokens beside the ordinary ones, so that merging could spell one out. Such a piece
    /// is cut in two and each half read alone, until no half is a control token.
    pub(crate) fn ids_of(&self, piece: &str) -> tokenizers::Result<Vec<u32>> {
        let ids = match &self.sentencepiece {
            Some(model) => model.tokenize(piece, |text| self.model.token_to_id(text))?,
            None if piece.len() >= LONG_WORD => self.merges()?.ids(&self.model, piece)?,
            None => self.model.tokenize(piece)?.into_iter().map(|token| token.id).collect(),
        };
        let control = |&id: &u32| self.pieces.is_special(id) && Some(id) != self.unknown;
        let middle = piece.char_indices().map(|(at, _)| at).find(|&at| at > 0 && at >= piece.len() / 2);
        match middle.or_else(|| piece.char_indices().nth(1).map(|(at, _)| at)) {
            Some(middle) if ids.iter().any(control) => {
                let (left, right) = piece.split_at(middle);
                let mut ids = self.ids_of(left)?;
                ids.extend(self.ids_of(right)?);
                Ok(ids)
            }
            _ => Ok(ids),
        }
    }

    /// The merges for long words, read when the first one comes.
    pub(crate) fn merges(&self) -> Result<&Merges, TextError> {
        if let Some(merges) = self.merges.get() {
            return Ok(merges);
        }
        let merges = Merges::read(&self.model)?;
        Ok(self.merges.get_or_init(|| merges))
    }

    /// Text of `ids`. Ids outside the vocabulary say nothing; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        stream::decode(&self.pieces, ids, skip_special)
    }

    /// One more than the largest id.
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

    /// Whether [`EncodeOptions::add_special`] puts BOS in front of a text.
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some() && self.around.0.first() == self.bos.as_ref()
    }

    /// Texts of the control tokens.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.added.tokens().iter().filter(|t| t.special).map(|t| t.content.as_str())
    }

    pub(crate) fn pieces(&self) -> Arc<Pieces> {
        Arc::clone(&self.pieces)
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

type CutPieces = Vec<(NormalizedString, Option<Vec<Token>>)>;

fn cut(piece: &NormalizedString, sections: Vec<Section>) -> tokenizers::Result<CutPieces> {
    let mut pieces = Vec::with_capacity(sections.len());
    for (id, range) in sections {
        let slice = piece
            .slice(tokenizers::normalizer::Range::Normalized(range))
            .ok_or("an added token does not lie on character boundaries")?;
        pieces.push((slice, id.map(|id| vec![Token::new(id, String::new(), (0, 0))])));
    }
    Ok(pieces)
}
