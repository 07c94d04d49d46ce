//! The tokenizer and chat template that a checkpoint carries.

use bitnet_format::{Checkpoint, FormatError, GgufMetadata, HfMetadata, Metadata};
use bitnet_text::{ChatTemplate, GgufVocabulary, Tokenizer};

use crate::EngineError;

/// The key of a GGUF file with the whole `tokenizer.json`, which says more than the other keys (GGUF specification).
pub const TOKENIZER_JSON_KEY: &str = "tokenizer.huggingface.json";

/// The tokenizer of a checkpoint, or `None` when it has none.
///
/// # Errors
/// When it has one that cannot be read.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, EngineError> {
    match checkpoint.metadata() {
        Metadata::HuggingFace(m) => from_json(m),
        Metadata::Bitnet(m) => from_json(&m.hf),
        Metadata::Gguf(m) if m.opt_str(TOKENIZER_JSON_KEY)?.is_some() => whole(m),
        Metadata::Gguf(m) => match gguf_vocabulary(m)? {
            Some(vocabulary) => Ok(Some(Tokenizer::from_gguf(vocabulary)?)),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The chat template of a checkpoint: the one that it ships, else the one of its architecture, where that has one.
///
/// # Errors
/// When it ships one that cannot be compiled.
pub fn chat_template(
    checkpoint: &Checkpoint,
    tokenizer: Option<&Tokenizer>,
) -> Result<Option<ChatTemplate>, EngineError> {
    let hf = |m: &HfMetadata| -> Result<Option<ChatTemplate>, EngineError> {
        let (bos, eos) = (special_text(m, "bos_token"), special_text(m, "eos_token"));
        let architecture = m.config.get("architectures").and_then(|a| a.get(0)?.as_str()).unwrap_or("");
        compile(m.chat_template.as_deref(), architecture, bos.as_deref(), eos.as_deref())
    };
    match checkpoint.metadata() {
        Metadata::HuggingFace(m) => hf(m),
        Metadata::Bitnet(m) => hf(&m.hf),
        Metadata::Gguf(m) => {
            let text = |id: Option<u32>| {
                let bytes = tokenizer?.token_bytes(id?)?;
                String::from_utf8(bytes.to_vec()).ok()
            };
            let (bos, eos) = (tokenizer.and_then(Tokenizer::bos), tokenizer.and_then(Tokenizer::eos));
            let source = m.opt_str("tokenizer.chat_template")?;
            compile(source, m.architecture()?, text(bos).as_deref(), text(eos).as_deref())
        }
        _ => Ok(None),
    }
}

fn compile(
    source: Option<&str>,
    architecture: &str,
    bos: Option<&str>,
    eos: Option<&str>,
) -> Result<Option<ChatTemplate>, EngineError> {
    match source {
        Some(source) => Ok(Some(ChatTemplate::new(source, bos, eos)?)),
        None => Ok(ChatTemplate::for_architecture(architecture, bos, eos)),
    }
}

fn from_json(metadata: &HfMetadata) -> Result<Option<Tokenizer>, EngineError> {
    let Some(source) = &metadata.tokenizer_json else { return Ok(None) };
    let (bos, eos) = (special_text(metadata, "bos_token"), special_text(metadata, "eos_token"));
    Ok(Some(Tokenizer::from_json(source.read()?)?.with_bos_eos(bos.as_deref(), eos.as_deref())))
}

/// The tokenizer of a GGUF file that carries `tokenizer.json`; the other keys name its special tokens.
fn whole(m: &GgufMetadata) -> Result<Option<Tokenizer>, EngineError> {
    let tokenizer = Tokenizer::from_json(m.str(TOKENIZER_JSON_KEY)?)?;
    let text = |key: &str| -> Result<Option<String>, FormatError> {
        let id = m.opt_u64(&format!("tokenizer.ggml.{key}"))?.and_then(|id| u32::try_from(id).ok());
        Ok(id.and_then(|id| String::from_utf8(tokenizer.token_bytes(id)?.to_vec()).ok()))
    };
    let (bos, eos) = (text("bos_token_id")?, text("eos_token_id")?);
    Ok(Some(tokenizer.with_bos_eos(bos.as_deref(), eos.as_deref())))
}

/// A special token's text in `tokenizer_config.json`: a string, or an object with its content.
fn special_text(metadata: &HfMetadata, key: &str) -> Option<String> {
    let value = metadata.tokenizer_config.as_ref()?.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// The vocabulary keys of a GGUF file, or `None` when it has no vocabulary.
///
/// # Errors
/// When a key has the wrong type.
pub fn gguf_vocabulary(m: &GgufMetadata) -> Result<Option<GgufVocabulary>, FormatError> {
    let key = |tail: &str| format!("tokenizer.ggml.{tail}");
    let Some(tokens) = m.opt_strings(&key("tokens"))? else { return Ok(None) };
    let id = |tail: &str| -> Result<Option<u32>, FormatError> {
        // Writers put -1 or 2^32 - 1 where there is none.
        Ok(m.opt_u64(&key(tail))?.and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX))
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let types = m.opt_i64s(&key("token_type"))?.unwrap_or_default();
    Ok(Some(GgufVocabulary {
        model: m.str(&key("model"))?.to_owned(),
        pre: m.opt_str(&key("pre"))?.map(str::to_owned),
        architecture: m.opt_str("general.architecture")?.unwrap_or_default().to_owned(),
        tokens: tokens.into_iter().map(<[u8]>::to_vec).collect(),
        scores: m.opt_f32s(&key("scores"))?.unwrap_or_default(),
        token_types: types.into_iter().map(|t| i32::try_from(t).unwrap_or(0)).collect(),
        merges: m.opt_strings(&key("merges"))?.unwrap_or_default().into_iter().map(text).collect(),
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        unk: id("unknown_token_id")?,
        add_bos: m.opt_bool(&key("add_bos_token"))?,
        add_eos: m.opt_bool(&key("add_eos_token"))?,
        add_space_prefix: m.opt_bool(&key("add_space_prefix"))?,
        ..Default::default()
    }))
}
