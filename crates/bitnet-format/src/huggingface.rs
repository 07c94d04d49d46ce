//! Directories as the Hugging Face hub has them: JSON files, and weights in one or several safetensors files.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    FormatError, FormatErrorKind as Kind, SplitName, TensorInfo,
    checkpoint::{Shard, file_name},
    map, safetensors,
    write::bitnet_keys,
};

/// Larger than any config or index; values take up to sixteen times their text.
const MAX_JSON: u64 = 16 << 20;
/// Larger than any template or list of a tokenizer's added tokens; a tokenizer may be larger.
const MAX_TEXT: u64 = 64 << 20;
const MAX_TOKENIZER: u64 = 512 << 20;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Names of models that an error lists.
const SHOWN: usize = 8;

pub(crate) const ADAPTER: &str = "adapter_model.safetensors";

/// A text in a file of its own or embedded in another; read when it is needed, since tokenizers are large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// A file.
    File(PathBuf),
    /// The text itself.
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
    /// `config.json`, an object.
    pub config: Value,
    /// `generation_config.json`.
    pub generation_config: Option<Value>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Value>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<Value>,
    /// `tokenizer.json`.
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
        /// `vocab.json`.
        vocab: TextSource,
        /// `merges.txt`.
        merges: TextSource,
        /// `added_tokens.json`.
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
        && parse_index(&index)?.values().any(|shard| *shard == name)
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
fn read_if_there(path: &Path, what: &'static str, limit: u64) -> Result<Option<String>, FormatError> {
    match path.try_exists() {
        Ok(true) => read_text(path, what, limit).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(FormatError::from(Kind::Io(error)).at(path)),
    }
}

/// A file's text, without the byte order mark that some editors put before it.
fn read_text(path: &Path, what: &'static str, limit: u64) -> Result<String, FormatError> {
    let mut bytes = read_bytes(path, what, limit)?;
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    let at = |kind: Kind| FormatError::from(kind).at(path);
    String::from_utf8(bytes).map_err(|_| at(Kind::NotUtf8 { what: what.into() }))
}

fn read_bytes(path: &Path, what: &'static str, limit: u64) -> Result<Vec<u8>, FormatError> {
    let at = |kind: Kind| FormatError::from(kind).at(path);
    let metadata = path.metadata().map_err(|e| at(e.into()))?;
    if !metadata.is_file() {
        return Err(at(Kind::NotAFile));
    }
    if metadata.len() > limit {
        return Err(at(Kind::TextLength { what, len: metadata.len(), limit }));
    }
    fs::read(path).map_err(|e| at(e.into()))
}

fn json_error(what: &str, message: impl ToString) -> FormatError {
    Kind::Json { what: what.into(), message: message.to_string() }.into()
}

fn parse_object(text: &str, what: &str) -> Result<Value, FormatError> {
    let value = crate::json::parse(text).map_err(|e| json_error(what, e))?;
    if value.is_object() { Ok(value) } else { Err(json_error(what, "not a JSON object")) }
}

/// Tensor name to shard file name.
fn parse_index(text: &str) -> Result<BTreeMap<String, String>, FormatError> {
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

/// Where the weights of a directory are.
pub(crate) enum Weights {
    /// In safetensors files.
    Safetensors(Files),
    /// In one GGUF or `.bitnet` file.
    Other(PathBuf),
}

/// Safetensors files of a directory.
pub(crate) enum Files {
    Single(PathBuf),
    /// Tensor name to shard file name.
    Sharded(BTreeMap<String, String>),
}

/// Finds the weights of `directory`.
pub(crate) fn weights(directory: &Path) -> Result<Weights, FormatError> {
    let single = directory.join(SINGLE);
    if single.is_file() {
        return Ok(Weights::Safetensors(Files::Single(single)));
    }
    let index = directory.join(INDEX);
    if let Some(text) = read_if_there(&index, "a shard index", MAX_JSON)? {
        let map = parse_index(&text).map_err(|e| e.at(&index))?;
        return Ok(Weights::Safetensors(Files::Sharded(map)));
    }
    let names = list(directory)?;
    let ending = |ext: &str| names.iter().filter(|n| n.ends_with(ext)).collect::<Vec<_>>();
    let ggufs = gguf_models(&ending(".gguf"));
    match (&ending(".safetensors")[..], &ggufs[..], &ending(".bitnet")[..]) {
        ([one], _, _) => Ok(Weights::Safetensors(Files::Single(directory.join(one)))),
        ([], [(_, part)], []) => Ok(Weights::Other(directory.join(part))),
        ([], [], [one]) => Ok(Weights::Other(directory.join(one))),
        (several, ggufs, bitnets) => {
            let what = if !several.is_empty() {
                format!("there are {} safetensors files but neither {SINGLE} nor {INDEX}", several.len())
            } else if ggufs.len() + bitnets.len() > 1 {
                let shown = ggufs.iter().map(|(shown, _)| shown.as_str());
                let names: Vec<&str> = shown.chain(bitnets.iter().map(|n| n.as_str())).collect();
                let more = if names.len() > SHOWN { ", ..." } else { "" };
                let names = names[..names.len().min(SHOWN)].join(", ");
                format!("there are several models: name one of them ({names}{more})")
            } else if !ending(".bin").is_empty() || !ending(".pt").is_empty() {
                "the weights are PyTorch pickles, which can run code when they are read; convert the model to safetensors"
                    .to_owned()
            } else {
                format!("there is no {SINGLE}, {INDEX}, GGUF or .bitnet file")
            };
            Err(FormatError::from(Kind::NoWeights { what }).at(directory))
        }
    }
}

/// How the models among these sorted names of GGUF files are shown, and the file that stands for each: the parts of a
/// split one are one, and its first part that is there leads to the others.
fn gguf_models(names: &[&String]) -> Vec<(String, String)> {
    let mut models = Vec::new();
    let mut last = None;
    for name in names {
        let split = SplitName::parse(name).map(|split| (split.stem, split.count));
        if split.is_none() || split != last {
            let parts = split.map_or(String::new(), |(_, count)| format!(" and its {count} parts"));
            models.push((format!("{name}{parts}"), name.to_string()));
        }
        last = split;
    }
    models
}

/// Names of the files of a directory, sorted.
fn list(directory: &Path) -> Result<Vec<String>, FormatError> {
    let io = |e: std::io::Error| FormatError::from(Kind::Io(e)).at(directory);
    let entries = fs::read_dir(directory).map_err(io)?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        // A directory may be named like a model, too.
        if path.is_file() {
            names.push(file_name(&path));
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl Files {
    /// Maps and checks all files; `directory` holds the index.
    pub(crate) fn open(self, directory: &Path) -> Result<(Vec<Shard>, Vec<TensorInfo>), FormatError> {
        let map = match self {
            Self::Single(path) => {
                let (shard, tensors) = open_one(path, 0)?;
                return Ok((vec![shard], tensors));
            }
            Self::Sharded(map) => map,
        };
        let index = directory.join(INDEX);
        let at = |kind: Kind| FormatError::from(kind).at(&index);
        let mut names: Vec<&str> = map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        // Names are checked before any file is touched.
        if let Some(outside) = names.iter().find(|n| !is_plain(n)) {
            return Err(at(Kind::ShardOutside { shard: outside.chars().take(200).collect() }));
        }
        let (mut shards, mut tensors) = (Vec::new(), Vec::new());
        for name in &names {
            let path = directory.join(name);
            if !path.exists() {
                return Err(at(Kind::ShardMissing { shard: (*name).into() }));
            }
            let (shard, more) = open_one(path, shards.len())?;
            shards.push(shard);
            tensors.extend(more);
        }
        check_index(&map, &names, &tensors).map_err(at)?;
        Ok((shards, tensors))
    }
}

/// Every tensor of the index is in the shard that the index says.
fn check_index(map: &BTreeMap<String, String>, shards: &[&str], tensors: &[TensorInfo]) -> Result<(), Kind> {
    let mut there: Vec<(&str, &str)> = tensors.iter().map(|t| (t.name(), shards[t.shard()])).collect();
    there.sort_unstable();
    if let Some(pair) = there.windows(2).find(|w| w[0].0 == w[1].0) {
        let (tensor, first, second) = (pair[0].0.to_owned(), pair[0].1.to_owned(), pair[1].1.to_owned());
        return Err(Kind::TwoShards { tensor, first, second });
    }
    let absent = |(tensor, shard): &(&String, &String)| {
        there.binary_search(&(tensor.as_str(), shard.as_str())).is_err()
    };
    match map.iter().find(absent) {
        Some((tensor, shard)) => Err(Kind::NotInShard { tensor: tensor.clone(), shard: shard.clone() }),
        None => Ok(()),
    }
}

fn open_one(path: PathBuf, number: usize) -> Result<(Shard, Vec<TensorInfo>), FormatError> {
    let bytes = map::map(&path)?;
    let file = safetensors::parse(&bytes, number).map_err(|e| FormatError::from(e).at(&path))?;
    Ok((Shard { path, bytes }, file.tensors))
}

/// A file name and nothing else: no separator of any system, no drive, not the directory or its parent.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
