//! Tokenizers, chat templates and stop tokens, both ways.

use std::path::{Path, PathBuf};

use bitnet_format::{
    Checkpoint, GgufKeys, GgufMetadata, HfMetadata, Metadata, TEXT_FILES, TextSource, bitnet_keys,
};
use bitnet_inference::vocabulary;
use bitnet_model::Config;
use bitnet_source::family::gguf;
use bitnet_text::{GgufVocabulary, Tokenizer, token_type};
use serde_json::json;

use crate::ConvertError;

/// Files of a Hugging Face directory that belong to its terms. They are copied as they are, as [`TEXT_FILES`] are.
const TERMS: [&str; 5] = ["LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "USE_POLICY.md"];
/// The file of each text that a `.bitnet` file embeds, with its key there.
const EMBEDDED: [(&str, &str); 4] = [
    ("tokenizer.json", bitnet_keys::TOKENIZER),
    ("tokenizer_config.json", bitnet_keys::TOKENIZER_CONFIG),
    ("chat_template.jinja", bitnet_keys::CHAT_TEMPLATE),
    ("generation_config.json", bitnet_keys::GENERATION_CONFIG),
];

/// Files beside `config.json`, by name.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// The directory of a Hugging Face model.
fn directory(checkpoint: &Checkpoint) -> PathBuf {
    let path = checkpoint.path();
    match path.parent() {
        _ if path.is_dir() => path.into(),
        Some(parent) if parent != Path::new("") => parent.into(),
        _ => PathBuf::from("."),
    }
}

/// The files that a Hugging Face directory of this model has beside its config and weights.
///
/// # Errors
/// When a file of the original cannot be read.
pub(crate) fn files(
    checkpoint: &Checkpoint,
    config: &Config,
    notes: &mut Vec<String>,
) -> Result<Files, ConvertError> {
    match checkpoint.metadata() {
        Metadata::HuggingFace(_) => {
            let directory = directory(checkpoint);
            let there = TEXT_FILES.into_iter().chain(TERMS).filter(|name| directory.join(name).is_file());
            let read = |name: &str| {
                let path = directory.join(name);
                Ok((name.to_owned(), std::fs::read(&path).map_err(ConvertError::io(&path))?))
            };
            let mut files = there.map(read).collect::<Result<Files, ConvertError>>()?;
            if !directory.join("tokenizer.json").is_file()
                && let Some(tokenizer) = vocabulary::tokenizer(checkpoint)?
            {
                match tokenizer.to_json() {
                    Ok(text) => files.push(("tokenizer.json".into(), text.into_bytes())),
                    Err(error) => notes.push(format!("the output has no tokenizer.json: {error}")),
                }
            }
            Ok(files)
        }
        Metadata::Bitnet(m) => {
            let text =
                |(file, key): (&str, &str)| Some((file.to_owned(), m.entries.get(key)?.clone().into_bytes()));
            Ok(EMBEDDED.into_iter().filter_map(text).collect())
        }
        Metadata::Gguf(m) => from_gguf(checkpoint, m, config, notes),
        _ => Ok(Vec::new()),
    }
}

/// The texts that a `.bitnet` file embeds, by key.
///
/// # Errors
/// When a file of the original is not UTF-8 text.
pub(crate) fn embedded(files: Files) -> Result<Vec<(String, String)>, ConvertError> {
    let key_of = |file: &str| EMBEDDED.into_iter().find(|(name, _)| *name == file).map(|(_, key)| key);
    let known = files.into_iter().filter_map(|(name, bytes)| Some((key_of(&name)?, name, bytes)));
    known
        .map(|(key, name, bytes)| {
            let text = String::from_utf8(bytes);
            let error = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
            Ok((key.to_owned(), text.map_err(error).map_err(ConvertError::io(Path::new(&name)))?))
        })
        .collect()
}

/// A token's bytes as text; none where they are no UTF-8.
fn spelled(token: &[u8]) -> Option<String> {
    String::from_utf8(token.to_vec()).ok()
}

fn from_gguf(
    checkpoint: &Checkpoint,
    m: &GgufMetadata,
    config: &Config,
    notes: &mut Vec<String>,
) -> Result<Files, ConvertError> {
    let mut files = Vec::new();
    let generation = json!({ "bos_token_id": config.bos, "eos_token_id": config.eos });
    files.push(("generation_config.json".to_owned(), pretty(&generation)));
    if let Some(template) = m.opt_str("tokenizer.chat_template")? {
        files.push(("chat_template.jinja".into(), template.into()));
    }
    let vocabulary = vocabulary::gguf_vocabulary(m)?;
    // `tokenizer.json` of the original, where the file carries it, says more than the other keys.
    let text = match (m.opt_str(vocabulary::TOKENIZER_JSON_KEY)?, &vocabulary) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(vocabulary)) => Tokenizer::from_gguf(vocabulary.clone()).and_then(|t| t.to_json()),
        (None, None) => return Ok(files),
    };
    let names = match (&vocabulary, vocabulary::tokenizer(checkpoint)) {
        (Some(v), _) => [v.bos, v.eos, v.unk].map(|id| spelled(v.tokens.get(usize::try_from(id?).ok()?)?)),
        (None, Ok(Some(t))) => [t.bos(), t.eos(), None].map(|id| spelled(t.token_bytes(id?)?)),
        (None, _) => [None, None, None],
    };
    match text {
        Ok(text) => files.push(("tokenizer.json".into(), text.into_bytes())),
        Err(error) => notes.push(format!("the output has no tokenizer: {error}")),
    }
    let mut about = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.context,
    });
    let keys = ["bos_token", "eos_token", "unk_token"];
    if let Some(map) = about.as_object_mut() {
        let known =
            keys.into_iter().zip(names).filter_map(|(key, text)| Some((key.to_owned(), json!(text?))));
        map.extend(known);
    }
    files.push(("tokenizer_config.json".into(), pretty(&about)));
    Ok(files)
}

/// JSON as a person would lay it out.
pub(crate) fn pretty(value: &serde_json::Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Adds the keys of vocabulary, template and stop tokens to a GGUF file.
///
/// # Errors
/// When the original's tokenizer cannot be read.
pub(crate) fn to_gguf_keys(
    checkpoint: &Checkpoint,
    config: &Config,
    keys: &mut GgufKeys,
    notes: &mut Vec<String>,
) -> Result<(), ConvertError> {
    let hf = match checkpoint.metadata() {
        Metadata::Gguf(m) => {
            let text = m.iter().filter(|(key, _)| key.starts_with("tokenizer."));
            for (key, value) in text {
                keys.copy(key, &value);
            }
            stop_tokens(config, keys);
            return Ok(());
        }
        Metadata::HuggingFace(m) => m,
        Metadata::Bitnet(m) => &m.hf,
        _ => return Ok(()),
    };
    if let Some(template) = &hf.chat_template {
        keys.str("tokenizer.chat_template", template);
    }
    stop_tokens(config, keys);
    let Some(tokenizer) = vocabulary::tokenizer(checkpoint)? else {
        notes.push("the original has no tokenizer, so the output has none".into());
        special_ids(None, config, keys);
        return Ok(());
    };
    let vocabulary = match tokenizer.to_gguf_vocabulary() {
        Ok(vocabulary) => vocabulary,
        Err(error) => {
            notes.push(format!(
                "GGUF has no keys for this tokenizer ({error}); the file carries its tokenizer.json, which this \
                 engine reads and llama.cpp does not"
            ));
            keys.str("tokenizer.ggml.model", "none");
            special_ids(None, config, keys);
            return carry(hf, keys);
        }
    };
    if !vocabulary.losses.is_empty() {
        let losses = vocabulary.losses.join("; ");
        notes.push(format!(
            "the tokenizer keys of GGUF cannot say this: {losses}. The file carries tokenizer.json as well, which this \
             engine reads"
        ));
        carry(hf, keys)?;
    }
    vocabulary_keys(vocabulary, config, keys);
    Ok(())
}

/// Puts `tokenizer.json` itself into the file.
fn carry(hf: &HfMetadata, keys: &mut GgufKeys) -> Result<(), ConvertError> {
    if let Some(text) = hf.tokenizer_json.as_ref().map(TextSource::read).transpose()? {
        keys.str(vocabulary::TOKENIZER_JSON_KEY, &text);
    }
    Ok(())
}

/// All stop tokens, of which GGUF's own keys name at most two.
fn stop_tokens(config: &Config, keys: &mut GgufKeys) {
    let ids: Vec<i32> = config.eos.iter().filter_map(|&id| i32::try_from(id).ok()).collect();
    keys.i32s(gguf::STOP_TOKENS_KEY, &ids);
}

fn vocabulary_keys(mut vocabulary: GgufVocabulary, config: &Config, keys: &mut GgufKeys) {
    // llama.cpp wants a token for each row of the embedding.
    for id in vocabulary.tokens.len()..config.vocab {
        vocabulary.tokens.push(format!("[PAD{id}]").into_bytes());
        vocabulary.token_types.push(token_type::UNUSED);
        if !vocabulary.scores.is_empty() {
            vocabulary.scores.push(f32::MIN);
        }
    }
    let key = |tail: &str| format!("tokenizer.ggml.{tail}");
    keys.str(&key("model"), &vocabulary.model);
    if let Some(pre) = &vocabulary.pre {
        keys.str(&key("pre"), pre);
    }
    keys.strings(&key("tokens"), &vocabulary.tokens);
    if !vocabulary.scores.is_empty() {
        keys.f32s(&key("scores"), &vocabulary.scores);
    }
    keys.i32s(&key("token_type"), &vocabulary.token_types);
    if !vocabulary.merges.is_empty() {
        keys.strings(&key("merges"), &vocabulary.merges);
    }
    special_ids(Some(&vocabulary), config, keys);
    let flags = [
        ("add_bos_token", vocabulary.add_bos),
        ("add_eos_token", vocabulary.add_eos),
        ("add_space_prefix", vocabulary.add_space_prefix),
    ];
    for (tail, flag) in flags {
        if let Some(flag) = flag {
            keys.bool(&key(tail), flag);
        }
    }
}

/// Ids of control tokens, as the tokenizer or else the configuration names them.
fn special_ids(vocabulary: Option<&GgufVocabulary>, config: &Config, keys: &mut GgufKeys) {
    let eos = vocabulary.and_then(|v| v.eos).or(config.eos.first().copied());
    // The other stop token: for chat models the end of a turn.
    let eot = config.eos.iter().copied().find(|id| Some(*id) != eos);
    let ids = [
        ("bos_token_id", config.bos.or(vocabulary.and_then(|v| v.bos))),
        ("eos_token_id", eos),
        ("eot_token_id", eot),
        ("unknown_token_id", vocabulary.and_then(|v| v.unk)),
    ];
    for (tail, id) in ids {
        if let Some(id) = id {
            keys.u32(&format!("tokenizer.ggml.{tail}"), id);
        }
    }
}
