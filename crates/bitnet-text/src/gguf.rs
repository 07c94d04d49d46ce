//! Vocabularies as GGUF files hold them, both ways.

mod export;
mod vocabulary;

pub use vocabulary::GgufVocabulary;

use crate::added::{AddedToken, AddedTokens};
use crate::error::TextError;
use crate::json::{Sections, Steps};
use crate::pieces::{DecodePlan, Entry, Pieces, byte_token};
use crate::sentencepiece::{SentencePiece, token_type};
use crate::spellings::{is_end, is_ordinary};
use crate::splitter::{Splitter, splitter_names};
use crate::tokenizer::Tokenizer;
use ahash::AHashMap;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use tokenizers::models::bpe::BPE;

const MODELS: &str = "gpt2, llama";

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// Another vocabulary kind, an unknown splitter, tables of unequal length, ids outside the vocabulary, tokens that are
    /// not UTF-8.
    pub fn from_gguf(mut vocabulary: GgufVocabulary) -> Result<Self, TextError> {
        let texts = check(&vocabulary)?;
        type_ends(&mut vocabulary, &texts);
        match vocabulary.model.as_str() {
            "gpt2" => byte_level(vocabulary, texts),
            "llama" => sentencepiece(vocabulary, texts),
            other => Err(TextError::Unsupported {
                part: "tokenizer.ggml.model",
                found: other.to_string(),
                supported: MODELS,
            }),
        }
    }
}

/// Checks lengths and ids and returns the tokens as text.
fn check(vocabulary: &GgufVocabulary) -> Result<Vec<String>, TextError> {
    let count = vocabulary.tokens.len();
    if count == 0 || u32::try_from(count).is_err() {
        return Err(TextError::invalid("tokenizer.ggml.tokens", format!("{count} tokens")));
    }
    for (part, len) in [
        ("tokenizer.ggml.scores", vocabulary.scores.len()),
        ("tokenizer.ggml.token_type", vocabulary.token_types.len()),
    ] {
        if len != 0 && len != count {
            return Err(TextError::invalid(part, format!("{len} entries for {count} tokens")));
        }
    }
    for (part, id) in [
        ("tokenizer.ggml.bos_token_id", vocabulary.bos),
        ("tokenizer.ggml.eos_token_id", vocabulary.eos),
        ("tokenizer.ggml.eot_token_id", vocabulary.eot),
        ("tokenizer.ggml.eom_token_id", vocabulary.eom),
        ("tokenizer.ggml.unknown_token_id", vocabulary.unk),
    ] {
        if let Some(id) = id.filter(|&id| id as usize >= count) {
            return Err(TextError::invalid(part, format!("{id} is outside the {count} tokens")));
        }
    }
    let text = |(id, bytes): (usize, &Vec<u8>)| {
        String::from_utf8(bytes.clone())
            .map_err(|_| TextError::invalid("tokenizer.ggml.tokens", format!("token {id} is not UTF-8")))
    };
    vocabulary.tokens.iter().enumerate().map(text).collect()
}

/// What ends a text or a turn is a control token, whatever type a converter gave it.
fn type_ends(vocabulary: &mut GgufVocabulary, texts: &[String]) {
    let named = [vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.eom];
    let named = named.into_iter().flatten().filter(|&id| !is_ordinary(&texts[id as usize]));
    let spelled = (0u32..).zip(texts).filter(|(_, text)| is_end(text)).map(|(id, _)| id);
    let ids: Vec<u32> = named.chain(spelled).collect();
    if ids.is_empty() {
        return;
    }
    vocabulary.token_types.resize(texts.len(), token_type::NORMAL);
    for id in ids {
        let kind = &mut vocabulary.token_types[id as usize];
        if matches!(*kind, token_type::NORMAL | token_type::USER_DEFINED)
            && byte_token(&texts[id as usize]).is_none()
        {
            *kind = token_type::CONTROL;
        }
    }
}

fn type_of(vocabulary: &GgufVocabulary, id: usize) -> i32 {
    vocabulary.token_types.get(id).copied().unwrap_or(token_type::NORMAL)
}

/// The tokens that are found in text before anything else: control tokens, and those the model's author added.
fn added_tokens(vocabulary: &GgufVocabulary, texts: &[String]) -> Vec<AddedToken> {
    let mut added = Vec::new();
    for (id, content) in (0u32..).zip(texts).filter(|(_, text)| !text.is_empty()) {
        let special = match type_of(vocabulary, id as usize) {
            token_type::CONTROL | token_type::UNKNOWN => true,
            token_type::USER_DEFINED => false,
            _ => continue,
        };
        added.push(AddedToken { special, ..AddedToken::control(id, content.clone()) });
    }
    // Of two with the same text the first is meant, as in the vocabulary.
    let mut seen = ahash::AHashSet::new();
    added.retain(|token| seen.insert(token.content.clone()));
    added
}

/// Id by text; of two tokens with the same text the first.
fn index(texts: &[String]) -> AHashMap<String, u32> {
    let mut vocab = AHashMap::with_capacity(texts.len());
    for (id, text) in (0u32..).zip(texts) {
        vocab.entry(text.clone()).or_insert(id);
    }
    vocab
}

fn pieces(vocabulary: &GgufVocabulary, texts: &[String], plan: DecodePlan) -> Result<Pieces, TextError> {
    let entries = (0u32..).zip(texts).map(|(id, text)| {
        let kind = type_of(vocabulary, id as usize);
        let special = matches!(kind, token_type::CONTROL | token_type::UNKNOWN);
        Entry { id, text, special, literal: special || kind == token_type::USER_DEFINED }
    });
    Pieces::build(texts.len(), plan, entries)
}

/// The ids around a text and the `post_processor` section that says so.
fn around(texts: &[String], bos: Option<u32>, eos: Option<u32>) -> ((Vec<u32>, Vec<u32>), Option<Value>) {
    if bos.is_none() && eos.is_none() {
        return ((Vec::new(), Vec::new()), None);
    }
    let text_of = |id: u32| texts.get(id as usize).map_or("", String::as_str);
    let special = |id: u32| json!({"SpecialToken": {"id": text_of(id), "type_id": 0}});
    let sequence = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let single: Vec<Value> =
        bos.map(special).into_iter().chain([sequence("A", 0)]).chain(eos.map(special)).collect();
    let second = bos.map(special).into_iter().chain([sequence("B", 1)]).chain(eos.map(special));
    let pair: Vec<Value> = single.iter().cloned().chain(second).collect();
    let mut table = serde_json::Map::new();
    for id in bos.into_iter().chain(eos) {
        let text = text_of(id);
        table.insert(text.to_string(), json!({"id": text, "ids": [id], "tokens": [text]}));
    }
    let section =
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": table});
    ((bos.into_iter().collect(), eos.into_iter().collect()), Some(section))
}

fn splitter(vocabulary: &GgufVocabulary) -> Result<&'static Splitter, TextError> {
    let llama3 = vocabulary.architecture.starts_with("bitnet") || vocabulary.tokens.len() == 128_256;
    let name = match &vocabulary.pre {
        Some(name) => name.as_str(),
        None if llama3 => "llama-bpe",
        None => "default",
    };
    Splitter::by_name(name).ok_or_else(|| TextError::UnknownSplitter {
        found: name.to_string(),
        known: splitter_names().collect::<Vec<_>>().join(", "),
    })
}

fn byte_level(vocabulary: GgufVocabulary, texts: Vec<String>) -> Result<Tokenizer, TextError> {
    let splitter = splitter(&vocabulary)?;
    let vocab = index(&texts);
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for merge in &vocabulary.merges {
        // A token may itself begin with a space, so the first character cannot be the separator.
        let mut skip = merge.chars();
        skip.next();
        let Some(at) = skip.as_str().find(' ').map(|at| at + merge.len() - skip.as_str().len()) else {
            return Err(TextError::invalid("tokenizer.ggml.merges", format!("{merge:?} is not two tokens")));
        };
        let (left, right) = (&merge[..at], &merge[at + 1..]);
        // llama.cpp keeps a merge into a token that does not exist and undoes it afterwards; leaving it out is the same.
        let joined = [left, right].concat();
        if [left, right, &joined].iter().all(|token| vocab.contains_key(*token)) {
            merges.push((left.to_string(), right.to_string()));
        }
    }
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(splitter.ignore_merges)
        .build()
        .map_err(|e| TextError::invalid("tokenizer.ggml.merges", e.to_string()))?;
    let plan = DecodePlan { byte_level: true, ..DecodePlan::default() };
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos.unwrap_or(splitter.adds_bos));
    let eos = vocabulary.eos.filter(|_| vocabulary.add_eos.unwrap_or(false));
    let (around, post_processor) = around(&texts, bos, eos);
    let decoder =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let sections = Sections {
        normalizer: None,
        pre_tokenizer: Some(splitter.to_json()),
        post_processor,
        decoder: Some(decoder),
    };
    finish(vocabulary, &texts, sections, model, plan, around, None)
}

fn sentencepiece(vocabulary: GgufVocabulary, texts: Vec<String>) -> Result<Tokenizer, TextError> {
    if vocabulary.scores.len() != texts.len() {
        return Err(TextError::invalid(
            "tokenizer.ggml.scores",
            "a `llama` vocabulary needs one for each token",
        ));
    }
    let count = texts.len();
    let default = |id: u32| Some(id).filter(|&id| (id as usize) < count);
    // Sentencepiece numbers <unk>, <s>, </s> like this unless told otherwise.
    let unknown = vocabulary.unk.or_else(|| default(0));
    let bos_id = vocabulary.bos.or_else(|| default(1));
    let eos_id = vocabulary.eos.or_else(|| default(2));
    let vocab = index(&texts);
    let unk_text = unknown.and_then(|id| texts.get(id as usize)).cloned();
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, Vec::new())
        .fuse_unk(true)
        .byte_fallback(true)
        .cache_capacity(0);
    if let Some(text) = unk_text {
        builder = builder.unk_token(text);
    }
    let model = builder.build().map_err(|e| TextError::invalid("tokenizer.ggml.tokens", e.to_string()))?;
    let mut bytes = Box::new([None; 256]);
    let mut types = Vec::with_capacity(count);
    for (id, text) in (0u32..).zip(&texts) {
        let kind = type_of(&vocabulary, id as usize);
        if let Some(byte) = byte_token(text).filter(|_| kind == token_type::BYTE) {
            bytes[usize::from(byte)].get_or_insert(id);
        }
        types.push(kind);
    }
    let rules = SentencePiece {
        scores: vocabulary.scores.clone(),
        types,
        unknown,
        bytes,
        fuse_unknown: false,
        unigram: None,
        charsmap: None,
    };
    let prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let plan = DecodePlan::sentencepiece(prefix);
    let bos = bos_id.filter(|_| vocabulary.add_bos.unwrap_or(true));
    let eos = eos_id.filter(|_| vocabulary.add_eos.unwrap_or(false));
    let (around, post_processor) = around(&texts, bos, eos);
    let sections = sentencepiece_sections(prefix, post_processor);
    let vocabulary = GgufVocabulary { bos: bos_id, eos: eos_id, unk: unknown, ..vocabulary };
    finish(vocabulary, &texts, sections, model, plan, around, Some(rules))
}

/// What the Hugging Face converter writes for LLaMA-2.
fn sentencepiece_sections(prefix: bool, post_processor: Option<Value>) -> Sections {
    let mark = "\u{2581}";
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": mark});
    let restore = json!({"type": "Replace", "pattern": {"String": mark}, "content": " "});
    let mut normalizers = vec![replace];
    let mut decoders = vec![restore, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": mark}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Sections {
        normalizer: Some(json!({"type": "Sequence", "normalizers": normalizers})),
        pre_tokenizer: None,
        post_processor,
        decoder: Some(json!({"type": "Sequence", "decoders": decoders})),
    }
}

fn finish(
    vocabulary: GgufVocabulary,
    texts: &[String],
    sections: Sections,
    model: BPE,
    plan: DecodePlan,
    around: (Vec<u32>, Vec<u32>),
    sentencepiece: Option<SentencePiece>,
) -> Result<Tokenizer, TextError> {
    // Added tokens of GGUF files are searched in the text as given, so nothing is normalized here.
    let added = AddedTokens::new(added_tokens(&vocabulary, texts), |text| Ok(text.to_string()))?;
    let mut tokenizer = Tokenizer {
        steps: Steps::from_sections(&sections)?,
        sections,
        model,
        merges: OnceLock::new(),
        sentencepiece,
        added,
        pieces: Arc::new(pieces(&vocabulary, texts, plan)?),
        around,
        unknown: vocabulary.unk,
        bos: vocabulary.bos,
        eos: vocabulary.eos,
        ends: vocabulary.eot.into_iter().chain(vocabulary.eom).collect(),
    };
    tokenizer.find_ends();
    Ok(tokenizer)
}
