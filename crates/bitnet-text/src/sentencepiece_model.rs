//! `tokenizer.model`, the file of the sentencepiece library: a protobuf of pieces with scores and types, and how they were made
//! (`sentencepiece_model.proto`).

use crate::charsmap::Charsmap;
use crate::error::TextError;
use crate::gguf::GgufVocabulary;
use crate::sentencepiece::Unigram;
use crate::tokenizer::Tokenizer;

const PART: &str = "tokenizer.model";
const NO_MODEL: &str = "damaged, or no model of sentencepiece; `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of the Python package \
     transformers writes a tokenizer.json, which is read instead";
/// Entries of the largest published vocabularies times ten.
const MAX_PIECES: usize = 1 << 22;

/// Which of BOS and EOS a tokenizer puts around a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AroundText {
    /// Whether BOS is put in front of a text.
    pub bos: bool,
    /// Whether EOS is put behind a text.
    pub eos: bool,
}

/// What a model says besides its pieces, with the defaults of the format.
struct Said {
    pieces: Vec<(Vec<u8>, f32, i32)>,
    model_type: u64,
    whitespace_behind: bool,
    byte_fallback: bool,
    /// Ids of <unk>, <s> and </s>; negative where there is none.
    ids: [i64; 3],
    charsmap: Vec<u8>,
    dummy_prefix: bool,
    collapse: bool,
    escape: bool,
}

impl Tokenizer {
    /// Reads a `tokenizer.model`: BPE and unigram vocabularies, with their tables of characters.
    ///
    /// # Errors
    /// What is no such file, contradicts itself, or is of another kind (words, characters).
    pub fn from_sentencepiece(model: &[u8], around: AroundText) -> Result<Self, TextError> {
        let said = Said::read(model)?;
        let unsupported = |found: &str| TextError::Unsupported {
            part: PART,
            found: found.into(),
            supported: "BPE and unigram with spaces in front of words; `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of \
                        the Python package transformers writes a tokenizer.json",
        };
        match said.model_type {
            1 | 2 => {}
            3 => return Err(unsupported("a vocabulary of words")),
            4 => return Err(unsupported("a vocabulary of characters")),
            _ => return Err(unsupported("a model type without a name")),
        }
        if said.whitespace_behind || !said.escape {
            return Err(unsupported("white space behind words, or not marked"));
        }
        let [unk, bos, eos] =
            said.ids.map(|id| u32::try_from(id).ok().filter(|&id| (id as usize) < said.pieces.len()));
        let charsmap = Charsmap::read(&said.charsmap, said.collapse)?;
        let mut vocabulary = GgufVocabulary {
            model: "llama".into(),
            unk,
            bos,
            eos,
            add_bos: Some(around.bos && bos.is_some()),
            add_eos: Some(around.eos && eos.is_some()),
            add_space_prefix: Some(said.dummy_prefix),
            ..GgufVocabulary::default()
        };
        for (text, score, kind) in said.pieces {
            vocabulary.tokens.push(text);
            vocabulary.scores.push(score);
            vocabulary.token_types.push(kind);
        }
        let mut tokenizer = Self::from_gguf(vocabulary)?;
        if let Some(rules) = &mut tokenizer.sentencepiece {
            let unigram = (said.model_type == 1).then(|| Unigram::new(tokenizer.model.get_vocab(), rules));
            rules.unigram = unigram.transpose()?;
            rules.fuse_unknown = !said.byte_fallback;
            rules.charsmap = Some(charsmap);
        }
        // The library of `from_gguf` numbers <s> and </s> where a file does not; this one says that there are none.
        (tokenizer.bos, tokenizer.eos) = (bos, eos);
        Ok(tokenizer)
    }
}

impl Said {
    fn read(model: &[u8]) -> Result<Self, TextError> {
        let mut said = Self {
            pieces: Vec::new(),
            model_type: 1,
            whitespace_behind: false,
            byte_fallback: false,
            ids: [0, 1, 2],
            charsmap: Vec::new(),
            dummy_prefix: true,
            collapse: true,
            escape: true,
        };
        for field in Fields(model) {
            match field? {
                (1, Field::Bytes(piece)) => {
                    said.pieces.push(read_piece(piece)?);
                    if said.pieces.len() > MAX_PIECES {
                        return Err(TextError::invalid(PART, format!("more than {MAX_PIECES} pieces")));
                    }
                }
                (2, Field::Bytes(trainer)) => said.read_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => said.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        if said.pieces.is_empty() {
            return Err(TextError::invalid(PART, NO_MODEL));
        }
        Ok(said)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<(), TextError> {
        for field in Fields(bytes) {
            match field? {
                (3, Field::Number(kind)) => self.model_type = kind,
                (24, Field::Number(flag)) => self.whitespace_behind = flag != 0,
                (35, Field::Number(flag)) => self.byte_fallback = flag != 0,
                // Negative numbers are written as 64-bit ones.
                (number @ 40..=42, Field::Number(id)) => self.ids[number as usize - 40] = id as i64,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<(), TextError> {
        for field in Fields(bytes) {
            match field? {
                (2, Field::Bytes(table)) => self.charsmap = table.to_vec(),
                (3, Field::Number(flag)) => self.dummy_prefix = flag != 0,
                (4, Field::Number(flag)) => self.collapse = flag != 0,
                (5, Field::Number(flag)) => self.escape = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Text, score and type of a piece; a piece without a type is normal.
fn read_piece(bytes: &[u8]) -> Result<(Vec<u8>, f32, i32), TextError> {
    let mut piece = (Vec::new(), 0.0, 1);
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => piece.0 = text.to_vec(),
            (2, Field::Four(score)) => piece.1 = f32::from_le_bytes(score),
            (3, Field::Number(kind)) => piece.2 = i32::try_from(kind).unwrap_or(0),
            _ => {}
        }
    }
    if !piece.1.is_finite() {
        return Err(TextError::invalid(PART, "a piece whose score is no finite number"));
    }
    Ok(piece)
}

/// The value of one field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Four([u8; 4]),
    Eight,
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, with their numbers, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.number()?;
        let field = match key & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Eight)?,
            2 => {
                let length = self.number()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((key >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or_else(|| TextError::invalid(PART, NO_MODEL));
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
