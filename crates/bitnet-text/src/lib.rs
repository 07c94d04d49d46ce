//! Text for ternary language models: tokenizers, chat templates and an incremental detokenizer.
//!
//! - [`Tokenizer`] reads a tokenizer.json ([`Tokenizer::from_json`]), the vocabulary of a GGUF file
//!   ([`Tokenizer::from_gguf`]), a tokenizer.model ([`Tokenizer::from_sentencepiece`]), or vocab.json and merges.txt
//!   ([`Tokenizer::from_vocab_and_merges`]), and turns text into ids and back. It works without a model.
//! - [`StreamDecoder`] turns ids into text as they come and never shows half a character.
//! - [`ChatTemplate`] renders a conversation with the template that the model ships; [`encode_chat`] turns it into ids.
//!
//! # Invariants
//! - Control tokens inside plain text stay plain text unless the caller asks otherwise
//!   ([`EncodeOptions::parse_special`]).
//! - Nothing in a file makes this crate panic, hang or allocate out of proportion to the file.
//! - Decoding all at once and decoding as a stream are the same function.
//!
//! # What it does not do
//! It reads no files, prints nothing and knows no model. Vocabularies other than BPE (and sentencepiece's
//! unigram) are refused by name.
#![forbid(unsafe_code)]

mod added;
mod byte_level;
mod charsmap;
mod chat;
mod dialogue;
mod encode;
mod ends;
mod error;
mod gate;
mod gguf;
mod json;
mod long;
mod merges;
mod pieces;
mod sentencepiece;
mod sentencepiece_model;
mod spellings;
mod splitter;
mod stream;
mod stretches;
mod template;
mod tokenizer;
mod tokenizer_json;
mod vocab_and_merges;

pub use chat::encode_chat;
pub use dialogue::{Dialogue, encode_dialogue};
pub use encode::EncodeOptions;
pub use error::TextError;
pub use gguf::GgufVocabulary;
pub use sentencepiece::token_type;
pub use sentencepiece_model::AroundText;
pub use splitter::splitter_names;
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, Message};
pub use tokenizer::Tokenizer;
