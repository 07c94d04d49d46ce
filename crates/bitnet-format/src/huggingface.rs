//! What stands beside the weights in directories as the Hugging Face hub has them: JSON files and templates.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{FormatError, FormatErrorKind as Kind, bitnet_keys, shard::file_name};

/// Larger than any config or index; values take up to sixteen times their text.
pub(crate) const MAX_JSON: u64 = 16 << 20;
/// Larger than any template or list of a tokenizer's added tokens; a tokenizer may be larger.
const MAX_TEXT: u64 = 64 << 20;
const MAX_TOKENIZER: u64 = 512 << 20;

pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const ADAPTER: &str = "adapter_model.safetensors";

/// A text in a file of its own or embedded in another; read when it is needed, since tokenizers are large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// The path of a file of its own.
    File(PathBuf),
    /// The text itself, out of another file.
    Inline(String),
}

impl TextSource {
    /// The text, of a file as [`json::plain`](crate::json::plain) has it.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, or has more than 512 MiB.
    pub fn read(&self) -> Result<String, FormatError> {
        match self {
            Self::File(path) => {
                let text = read_text(path, "a tokenizer", MAX_TOKENIZER)?;
                Ok(match crate::json::plain(&text) {
                    Cow::Borrowed(plain) if plain.len() == text.len() => text,
                    plain => plain.into_owned(),
                })
            }
            Self::Inline(text) => Ok(text.clone()),
        }
    }
}

/// The files beside `config.json` and the weights that say how a Hugging Face model reads and writes text. A model has some of
/// them; whoever fetches or copies a model takes all that are there.
pub const TEXT_FILES: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// `config.json` and its companions.
#[derive(Clone, Debug, Default)]
pub struct HfMetadata {
    /// `config.json`, a JSON object.
    pub config: Value,
    /// `generation_config.json`, where there is one.
    pub generation_config: Option<Value>,
    /// `tokenizer_config.json`, where there is one.
    pub tokenizer_config: Option<Value>,
    /// `special_tokens_map.json`, where there is one.
    pub special_tokens_map: Option<Value>,
    /// `tokenizer.json`, where there is one; read when it is needed.
    pub tokenizer_json: Option<TextSource>,
    /// The tokenizer in another form, where there is no `tokenizer.json`.
    pub other_tokenizer: Option<OtherTokenizer>,
    /// The chat template: `chat_template.jinja`, else the one in `tokenizer_config.json`, else `chat_template.json`.
    pub chat_template: Option<String>,
    /// Names of chat templates of which none is the default, where there are several.
    pub named_templates: Vec<String>,
}

/// Forms of a tokenizer that are older than `tokenizer.json`.
#[derive(Clone, Debug)]
pub enum OtherTokenizer {
    /// `tokenizer.model`, sentencepiece's own file.
    SentencePiece(PathBuf),
    /// `vocab.json` and `merges.txt` of byte-level vocabularies.
    VocabAndMerges {
        /// `vocab.json`, ids by the spelling of their tokens.
        vocab: TextSource,
        /// `merges.txt`, pairs of tokens, best first.
        merges: TextSource,
        /// `added_tokens.json`, where there is one.
        added: Option<Value>,
    },
}

impl OtherTokenizer {
    fn find(directory: &Path) -> Result<Option<Self>, FormatError> {
        let file = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
        if let Some(path) = file("tokenizer.model") {
            return Ok(Some(Self::SentencePiece(path)));
        }
        let (Some(vocab), Some(merges)) = (file("vocab.json"), file("merges.txt")) else { return Ok(None) };
        let (vocab, merges) = (TextSource::File(vocab), TextSource::File(merges));
        Ok(Some(Self::VocabAndMerges { vocab, merges, added: json_at(directory, "added_tokens.json")? }))
    }
}

/// The bytes of a `tokenizer.model`.
///
/// # Errors
/// When it cannot be read, is no file, or has more than 512 MiB.
pub fn read_sentencepiece(path: &Path) -> Result<Vec<u8>, FormatError> {
    read_bytes(path, "a tokenizer", MAX_TOKENIZER)
}

/// A JSON object beside the weights, or `None` when there is no such file.
fn json_at(directory: &Path, name: &str) -> Result<Option<Value>, FormatError> {
    let path = directory.join(name);
    let limit = if matches!(name, "config.json" | "generation_config.json") { MAX_JSON } else { MAX_TEXT };
    let Some(text) = read_if_there(&path, "a JSON file", limit)? else { return Ok(None) };
    parse_object(&text, name).map(Some).map_err(|e| e.at(&path))
}

impl HfMetadata {
    /// Reads the JSON files of `directory`.
    ///
    /// # Errors
    /// When `config.json` is missing, or any of them is not the JSON object it should be.
    pub fn read(directory: &Path) -> Result<Self, FormatError> {
        let json = |name: &str| json_at(directory, name);
        let config = json("config.json")?.ok_or_else(|| FormatError::from(Kind::NoConfig).at(directory))?;
        let tokenizer_config = json("tokenizer_config.json")?;
        let template = read_if_there(&directory.join("chat_template.jinja"), "a chat template", MAX_TEXT)?;
        let older = json("chat_template.json")?;
        let templates = match template {
            Some(text) => Templates::of(text),
            None => Templates::first([tokenizer_config.as_ref(), older.as_ref()]),
        };
        let tokenizer = directory.join("tokenizer.json");
        let tokenizer_json = tokenizer.is_file().then_some(TextSource::File(tokenizer));
        Ok(Self {
            config,
            generation_config: json("generation_config.json")?,
            chat_template: templates.chosen,
            named_templates: templates.names,
            tokenizer_config,
            special_tokens_map: json("special_tokens_map.json")?,
            other_tokenizer: if tokenizer_json.is_none() { OtherTokenizer::find(directory)? } else { None },
            tokenizer_json,
        })
    }

    /// Takes the texts that a `.bitnet` file embeds under the keys of [`bitnet_keys`].
    ///
    /// # Errors
    /// As [`HfMetadata::read`].
    pub fn embedded(entries: &BTreeMap<String, String>) -> Result<Self, FormatError> {
        let json = |key: &str| entries.get(key).map(|text| parse_object(text, key)).transpose();
        let tokenizer_config = json(bitnet_keys::TOKENIZER_CONFIG)?;
        let templates = match entries.get(bitnet_keys::CHAT_TEMPLATE) {
            Some(text) => Templates::of(text.clone()),
            None => Templates::first([tokenizer_config.as_ref(), None]),
        };
        Ok(Self {
            config: json(bitnet_keys::CONFIG)?.ok_or_else(|| FormatError::from(Kind::NoConfig))?,
            generation_config: json(bitnet_keys::GENERATION_CONFIG)?,
            chat_template: templates.chosen,
            named_templates: templates.names,
            tokenizer_config,
            special_tokens_map: None,
            other_tokenizer: None,
            tokenizer_json: entries.get(bitnet_keys::TOKENIZER).cloned().map(TextSource::Inline),
        })
    }
}

/// The metadata of an adapter's directory.
pub(crate) fn adapter(directory: &Path) -> Result<HfMetadata, FormatError> {
    const NAME: &str = "adapter_config.json";
    let path = directory.join(NAME);
    let config = parse_object(&read_text(&path, "a JSON file", MAX_JSON)?, NAME).map_err(|e| e.at(&path))?;
    Ok(HfMetadata { config, ..HfMetadata::default() })
}

/// The metadata for a lone safetensors file: what lies beside it.
pub(crate) fn beside(file: &Path) -> Result<HfMetadata, FormatError> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = file_name(file);
    if let Some(index) = read_if_there(&directory.join(INDEX), "a shard index", MAX_JSON)?
        && shard_index(&index)?.values().any(|shard| *shard == name)
    {
        let what =
            format!("this is one shard of the model that {INDEX} describes; open the directory instead");
        return Err(FormatError::from(Kind::NoWeights { what }).at(file));
    }
    HfMetadata::read(directory)
}

/// What a model ships for writing conversations.
#[derive(Default)]
struct Templates {
    chosen: Option<String>,
    /// Set when there are several and none is the default.
    names: Vec<String>,
}

impl Templates {
    /// A template alone, with its line's ends as Python reads them.
    fn of(text: String) -> Self {
        let text = if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text };
        Self { chosen: Some(text), names: Vec::new() }
    }

    /// Those of the first file that has any.
    fn first(files: [Option<&Value>; 2]) -> Self {
        let found = files.into_iter().flatten().filter_map(|file| file.get("chat_template"));
        found.map(Self::named).find(|t| t.chosen.is_some() || !t.names.is_empty()).unwrap_or_default()
    }

    /// A text, or named ones as a list of `{"name", "template"}` or as a mapping: the default one, or the only one.
    fn named(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let named: Vec<(String, String)> = match value {
            Value::String(template) => return Self { chosen: Some(template.clone()), names: Vec::new() },
            Value::Array(list) => {
                let pair = |t: &Value| Some((text(t.get("name")?)?, text(t.get("template")?)?));
                list.iter().filter_map(pair).collect()
            }
            Value::Object(map) => map.iter().filter_map(|(name, t)| Some((name.clone(), text(t)?))).collect(),
            _ => Vec::new(),
        };
        match (named.iter().find(|(name, _)| name == "default"), &named[..]) {
            (Some((_, template)), _) | (None, [(_, template)]) => {
                Self { chosen: Some(template.clone()), names: Vec::new() }
            }
            _ => Self { chosen: None, names: named.into_iter().map(|(name, _)| name).collect() },
        }
    }
}

/// A file's text, or `None` when there is no such file.
pub(crate) fn read_if_there(
    path: &Path,
    what: &'static str,
    limit: u64,
) -> Result<Option<String>, FormatError> {
    match path.try_exists() {
        Ok(true) => read_text(path, what, limit).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(FormatError::from(Kind::Io(error)).at(path)),
    }
}

/// A file's text, without the byte order mark that some editors put before it; `what` it is, and `limit` is the most bytes that
/// such a file has.
///
/// # Errors
/// As [`read_bytes`], and when it is no UTF-8.
pub fn read_text(path: &Path, what: &'static str, limit: u64) -> Result<String, FormatError> {
    let mut bytes = read_bytes(path, what, limit)?;
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    let at = |kind: Kind| FormatError::from(kind).at(path);
    String::from_utf8(bytes).map_err(|_| at(Kind::NotUtf8 { what: what.into() }))
}

/// The bytes of a regular file of at most `limit` bytes; `what` it is, for the error.
///
/// # Errors
/// When it cannot be read, is no file, or has more.
pub fn read_bytes(path: &Path, what: &'static str, limit: u64) -> Result<Vec<u8>, FormatError> {
    let at = |kind: Kind| FormatError::from(kind).at(path);
    let metadata = path.metadata().map_err(|e| at(e.into()))?;
    if !metadata.is_file() {
        return Err(at(Kind::NotAFile));
    }
    // Files of some systems have no length before they are read.
    let mut bytes = Vec::new();
    if metadata.len() <= limit {
        let file = fs::File::open(path).map_err(|e| at(e.into()))?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| at(e.into()))?;
    }
    let len = metadata.len().max(bytes.len() as u64);
    if len > limit { Err(at(Kind::TextLength { what, len, limit })) } else { Ok(bytes) }
}

fn json_error(what: &str, message: impl ToString) -> FormatError {
    Kind::Json { what: what.into(), message: message.to_string() }.into()
}

fn parse_object(text: &str, what: &str) -> Result<Value, FormatError> {
    let value = crate::json::parse(text).map_err(|e| json_error(what, e))?;
    if value.is_object() { Ok(value) } else { Err(json_error(what, "not a JSON object")) }
}

/// What a shard index says: tensor name to shard file name.
///
/// # Errors
/// When it is no JSON object with a `weight_map` of names.
pub fn shard_index(text: &str) -> Result<BTreeMap<String, String>, FormatError> {
    let wrong = |what: String| json_error(INDEX, what);
    let Some(Value::Object(map)) = parse_object(text, INDEX)?.get_mut("weight_map").map(Value::take) else {
        return Err(wrong("missing field `weight_map`, an object of tensor names and file names".into()));
    };
    let mut index = BTreeMap::new();
    for (tensor, shard) in map {
        let Value::String(shard) = shard else {
            let tensor: String = tensor.chars().take(200).collect();
            return Err(wrong(format!("the tensor {tensor:?} is in no file name")));
        };
        index.insert(tensor, shard);
    }
    Ok(index)
}
