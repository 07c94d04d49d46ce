//! From text to ids: one way for every kind of vocabulary.

use crate::added::Section;
use crate::error::TextError;
use crate::gate::Gate;
use crate::long::LONG;
use crate::merges::{LONG_WORD, Merges};
use crate::stretches::STRETCH;
use crate::tokenizer::Tokenizer;
use std::ops::Range;
use tokenizers::{
    Model, NormalizedString, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Token,
};

/// How the text of a call is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Put around the text what the tokenizer's post-processor puts there: for most models, BOS in front.
    pub add_special: bool,
    /// Read `<|eot_id|>` inside the text as the control token. Off by default: what a user types is plain text.
    pub parse_special: bool,
}

impl Tokenizer {
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
