//! The tokenizer and chat template that a checkpoint carries.

use bitnet_format::{
    Checkpoint, FormatError, GgufMetadata, HfMetadata, Metadata, OtherTokenizer, read_sentencepiece,
};
use bitnet_model::Config;
use bitnet_text::{AroundText, ChatTemplate, GgufVocabulary, Message, Tokenizer};

use crate::EngineError;

/// The key of a GGUF file with the whole `tokenizer.json`, which says more than the other keys (GGUF specification).
pub const TOKENIZER_JSON_KEY: &str = "tokenizer.huggingface.json";

/// The tokenizer of a checkpoint, or `None` when it has none.
///
/// # Errors
/// When it has one that cannot be read.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, EngineError> {
    match checkpoint.metadata() {
        Metadata::HuggingFace(m) => from_files(m),
        Metadata::Bitnet(m) => from_files(&m.hf),
        Metadata::Gguf(m) if m.opt_str(TOKENIZER_JSON_KEY)?.is_some() => whole(m),
        Metadata::Gguf(m) => match gguf_vocabulary(m)? {
            Some(vocabulary) => Ok(Some(Tokenizer::from_gguf(vocabulary)?)),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The tokens that end a generation, ascending: those that the file, its configuration and its generation configuration name as
/// ends of a text, a turn or a message, the tokenizer's end of a text, and entries of the vocabulary whose spelling is known
/// to end turns ([`Tokenizer::end_ids`]).
pub fn stop_tokens(checkpoint: &Checkpoint, config: &Config, tokenizer: Option<&Tokenizer>) -> Vec<u32> {
    let mut ids = config.eos.clone();
    match checkpoint.metadata() {
        Metadata::HuggingFace(m) => ids.extend(ends(m)),
        Metadata::Bitnet(m) => ids.extend(ends(&m.hf)),
        Metadata::Gguf(m) => {
            let key = |k: &str| m.opt_u64(&format!("tokenizer.ggml.{k}")).ok().flatten();
            let named = ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().filter_map(key);
            ids.extend(named.filter_map(|id| u32::try_from(id).ok()));
        }
        _ => {}
    }
    ids.extend(tokenizer.iter().flat_map(|t| t.end_ids()));
    ids.retain(|&id| (id as usize) < config.vocab);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The ends of a text that a model's JSON files name: numbers or lists of them.
fn ends(m: &HfMetadata) -> Vec<u32> {
    let files = [Some(&m.config), m.generation_config.as_ref()];
    files.into_iter().flatten().flat_map(|file| ids(file, "eos_token_id")).collect()
}

/// The ids under a key: a number or a list of numbers.
fn ids(file: &serde_json::Value, key: &str) -> Vec<u32> {
    let id = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match file.get(key) {
        Some(serde_json::Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// What a template ends its answers with where that does not end a generation: the answer would run on.
pub fn end_outside(template: &ChatTemplate, tokenizer: &Tokenizer, stops: &[u32]) -> Option<String> {
    const ANSWER: &str = "An answer of some words";
    let turns = [Message::new("user", "A question of some words"), Message::new("assistant", ANSWER)];
    let text = template.render(&turns, false).ok()?;
    let (_, behind) = text.rsplit_once(ANSWER)?;
    let behind = behind.trim_start();
    let close = match behind.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return None,
    };
    let end = &behind[..=behind.find(close)?];
    match tokenizer.id_of(end) {
        Some(id) if stops.contains(&id) => None,
        Some(id) => Some(format!(
            "the chat template ends turns with {end:?} (token {id}), which is none of the stop tokens: answers may run on"
        )),
        None => Some(format!(
            "the chat template ends turns with {end:?}, which is no token of the vocabulary: answers may run on"
        )),
    }
}

/// The chat template of a checkpoint: the one that it ships, else the one of its architecture, where that has one.
///
/// # Errors
/// When it ships one that cannot be compiled, or several of which none is the default.
pub fn chat_template(
    checkpoint: &Checkpoint,
    tokenizer: Option<&Tokenizer>,
) -> Result<Option<ChatTemplate>, EngineError> {
    let text = |id: Option<u32>| {
        let bytes = tokenizer?.token_bytes(id?)?;
        String::from_utf8(bytes.to_vec()).ok()
    };
    let hf = |m: &HfMetadata| -> Result<Option<ChatTemplate>, EngineError> {
        let named = |token: &str, id: &str| match special_text(m, token) {
            Named::Text(text) => Some(text),
            Named::Not => None,
            Named::Unsaid => text(ids(&m.config, id).first().copied()),
        };
        let (bos, eos) = (named("bos_token", "bos_token_id"), named("eos_token", "eos_token_id"));
        let architecture = m.config.get("architectures").and_then(|a| a.get(0)?.as_str()).unwrap_or("");
        compile(m.chat_template.as_deref(), architecture, bos.as_deref(), eos.as_deref())
    };
    match checkpoint.metadata() {
        Metadata::HuggingFace(m) => hf(m),
        Metadata::Bitnet(m) => hf(&m.hf),
        Metadata::Gguf(m) => {
            let (bos, eos) = (tokenizer.and_then(Tokenizer::bos), tokenizer.and_then(Tokenizer::eos));
            let source = m.opt_str("tokenizer.chat_template")?;
            compile(source, m.architecture()?, text(bos).as_deref(), text(eos).as_deref())
        }
        _ => Ok(None),
    }
}

/// Names of the chat templates of a checkpoint that ships several, none of them the default.
pub fn template_names(checkpoint: &Checkpoint) -> &[String] {
    match checkpoint.metadata() {
        Metadata::HuggingFace(m) => &m.named_templates,
        Metadata::Bitnet(m) => &m.hf.named_templates,
        _ => &[],
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

fn from_files(m: &HfMetadata) -> Result<Option<Tokenizer>, EngineError> {
    let (bos, eos) = (special_text(m, "bos_token").text(), special_text(m, "eos_token").text());
    let tokenizer = match (&m.tokenizer_json, &m.other_tokenizer) {
        (Some(source), _) => Tokenizer::from_json(source.read()?)?,
        (None, Some(OtherTokenizer::SentencePiece(path))) => {
            let flag = |key: &str| m.tokenizer_config.as_ref()?.get(key)?.as_bool();
            let around = AroundText {
                bos: flag("add_bos_token").unwrap_or(!matches!(special_text(m, "bos_token"), Named::Not)),
                eos: flag("add_eos_token").unwrap_or(false),
            };
            Tokenizer::from_sentencepiece(&read_sentencepiece(path)?, around)?
        }
        (None, Some(OtherTokenizer::VocabAndMerges { vocab, merges, added })) => {
            let class = m.tokenizer_config.as_ref().and_then(|c| c.get("tokenizer_class")?.as_str());
            let added = added_tokens(m, added.as_ref());
            Tokenizer::from_vocab_and_merges(&vocab.read()?, &merges.read()?, &added, class.unwrap_or(""))?
        }
        (None, None) => return Ok(None),
    };
    let tokenizer = tokenizer.with_bos_eos(bos.as_deref(), eos.as_deref())?;
    Ok(Some(tokenizer.with_ends(&ends(m))?))
}

/// Tokens that stand beside a `vocab.json`: text, id, and whether it is a control token.
fn added_tokens(m: &HfMetadata, file: Option<&serde_json::Value>) -> Vec<(String, u32, bool)> {
    let number = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let decoder = m.tokenizer_config.as_ref().and_then(|c| c.get("added_tokens_decoder")?.as_object());
    let decoded = decoder.into_iter().flatten().filter_map(|(id, token)| {
        let special = token.get("special").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Some((token.get("content")?.as_str()?.to_owned(), id.parse().ok()?, special))
    });
    let listed = file.and_then(serde_json::Value::as_object).into_iter().flatten();
    // `added_tokens.json` does not say which are control tokens; those that look like one are.
    let listed = listed.filter_map(|(text, id)| {
        let looks =
            text.starts_with('<') && text.ends_with('>') || text.starts_with('[') && text.ends_with(']');
        Some((text.clone(), number(id)?, looks))
    });
    decoded.chain(listed).collect()
}

/// The tokenizer of a GGUF file that carries `tokenizer.json`; the other keys name its special tokens.
fn whole(m: &GgufMetadata) -> Result<Option<Tokenizer>, EngineError> {
    let tokenizer = Tokenizer::from_json(m.str(TOKENIZER_JSON_KEY)?)?;
    let text = |key: &str| -> Result<Option<String>, FormatError> {
        let id = m.opt_u64(&format!("tokenizer.ggml.{key}"))?.and_then(|id| u32::try_from(id).ok());
        Ok(id.and_then(|id| String::from_utf8(tokenizer.token_bytes(id)?.to_vec()).ok()))
    };
    let (bos, eos) = (text("bos_token_id")?, text("eos_token_id")?);
    let ids = ["eos_token_id", "eot_token_id", "eom_token_id"]
        .map(|key| m.opt_u64(&format!("tokenizer.ggml.{key}")));
    let mut ends = Vec::new();
    for id in ids {
        ends.extend(id?.and_then(|id| u32::try_from(id).ok()));
    }
    Ok(Some(tokenizer.with_bos_eos(bos.as_deref(), eos.as_deref())?.with_ends(&ends)?))
}

/// What the files beside a model say of a special token's text.
enum Named {
    Text(String),
    /// That there is none.
    Not,
    Unsaid,
}

impl Named {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Not | Self::Unsaid => None,
        }
    }
}

/// A special token's text in `tokenizer_config.json`, else in `special_tokens_map.json`: a string, or an object with its content.
fn special_text(metadata: &HfMetadata, key: &str) -> Named {
    let files = [&metadata.tokenizer_config, &metadata.special_tokens_map];
    let Some(value) = files.into_iter().flatten().find_map(|file| file.get(key)) else {
        return Named::Unsaid;
    };
    match value.as_str().or_else(|| value.get("content")?.as_str()) {
        Some(text) => Named::Text(text.to_owned()),
        None => Named::Not,
    }
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
    // Files without use for them name an id outside the vocabulary.
    let count = tokens.len();
    let inside = |tail: &str| Ok::<_, FormatError>(id(tail)?.filter(|&id| (id as usize) < count));
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
        eot: inside("eot_token_id")?,
        eom: inside("eom_token_id")?,
        unk: id("unknown_token_id")?,
        add_bos: m.opt_bool(&key("add_bos_token"))?,
        add_eos: m.opt_bool(&key("add_eos_token"))?,
        add_space_prefix: m.opt_bool(&key("add_space_prefix"))?,
        ..Default::default()
    }))
}
