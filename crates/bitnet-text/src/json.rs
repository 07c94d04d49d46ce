//! tokenizer.json: reading with everything checked that the library takes on trust, and writing.

pub(crate) mod normalizer;
mod post_processor;

use crate::added::{AddedToken, AddedTokens};
use crate::error::TextError;
use crate::pieces::{DecodePlan, Entry, Pieces};
use crate::spellings::{SPELLINGS, is_end};
use ahash::AHashMap;
use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{NormalizedString, PreTokenizerWrapper};

const NORMALIZERS: &str = "BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Prepend, Replace, Sequence, Strip, StripAccents";
const PRE_TOKENIZERS: &str = "BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, Metaspace, Punctuation, \
     Sequence, Split, UnicodeScripts, Whitespace, WhitespaceSplit";
/// Steps in one normalizer or pre-tokenizer; real files have at most a dozen.
const MAX_STEPS: usize = 64;
/// Ids may leave holes, but a table over them must stay in proportion to the file.
const MAX_HOLES: usize = 1 << 16;

/// The sections of the file, with the big ones already in their final form.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Option<Value>,
    #[serde(default)]
    pre_tokenizer: Option<Value>,
    #[serde(default)]
    post_processor: Option<Value>,
    #[serde(default)]
    decoder: Option<Value>,
    model: ModelFile,
}

#[derive(Deserialize)]
struct ModelFile {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    vocab: AHashMap<String, u32>,
    merges: Vec<Merge>,
}

/// `"a b"` in files before 0.20, `["a", "b"]` since.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Merge, E> {
                match text.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => Ok(Merge(left.into(), right.into())),
                    _ => Err(E::custom(format!("the merge {text:?} is not two tokens with a space between"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let (Some(left), Some(right)) = (seq.next_element()?, seq.next_element()?) else {
                    return Err(de::Error::custom("a merge of fewer than two tokens"));
                };
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(Merge(left, right)),
                    Some(_) => Err(de::Error::custom("a merge of more than two tokens")),
                }
            }
        }
        deserializer.deserialize_any(MergeVisitor)
    }
}

/// The small sections as they stand in the file, for writing it again.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sections {
    pub(crate) normalizer: Option<Value>,
    pub(crate) pre_tokenizer: Option<Value>,
    pub(crate) post_processor: Option<Value>,
    pub(crate) decoder: Option<Value>,
}

/// The steps that text goes through before the model.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) normalizer: normalizer::Steps,
    pub(crate) pre_tokenizer: Option<PreTokenizerWrapper>,
}

/// What a tokenizer.json holds, after all checks.
pub(crate) struct Parsed {
    pub(crate) sections: Sections,
    pub(crate) steps: Steps,
    /// The bytes that each id stands for.
    pub(crate) pieces: Pieces,
    /// Ids that a post-processor puts before and after a text.
    pub(crate) around: (Vec<u32>, Vec<u32>),
    pub(crate) added: AddedTokens,
    pub(crate) model: BPE,
}

impl Parsed {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, TextError> {
        let file: File = serde_json::from_slice(bytes).map_err(|e| explain(bytes, &e))?;
        if file.version.as_deref().is_some_and(|v| v != "1.0") {
            return Err(TextError::Unsupported {
                part: "tokenizer.json version",
                found: file.version.unwrap_or_default(),
                supported: "1.0",
            });
        }
        check_kind(file.model.kind.as_deref())?;
        let added = assign_ids(with_ends(file.added_tokens, &file.model.vocab), &file.model.vocab)?;
        let size = table_size(&file.model.vocab, &added)?;
        let sections = Sections {
            normalizer: file.normalizer.filter(|v| !v.is_null()),
            pre_tokenizer: file.pre_tokenizer.filter(|v| !v.is_null()),
            post_processor: file.post_processor.filter(|v| !v.is_null()),
            decoder: file.decoder.filter(|v| !v.is_null()),
        };
        let steps = Steps::from_sections(&sections)?;
        let plan = DecodePlan::from_json(sections.decoder.as_ref())?;
        let pieces = pieces(&file.model.vocab, &added, &steps, plan, size)?;
        Ok(Self {
            around: post_processor::around(sections.post_processor.as_ref(), size)?,
            added: AddedTokens::new(added, |text| normalize(&steps, text))?,
            model: build_model(file.model)?,
            pieces,
            steps,
            sections,
        })
    }
}

/// The table of the bytes that each id stands for.
fn pieces(
    vocab: &AHashMap<String, u32>,
    added: &[AddedToken],
    steps: &Steps,
    plan: DecodePlan,
    size: usize,
) -> Result<Pieces, TextError> {
    // An added token that is normalized for searching is also written in that form, as the library does.
    let form =
        |t: &AddedToken| if t.normalized { normalize(steps, &t.content) } else { Ok(t.content.clone()) };
    let forms: Vec<String> = added.iter().map(form).collect::<Result<_, _>>()?;
    let words = vocab.iter().map(|(text, &id)| Entry { id, text, special: false, literal: false });
    let specials = added.iter().zip(&forms);
    let specials = specials.map(|(t, text)| Entry { id: t.id, text, special: t.special, literal: false });
    Pieces::build(size, plan, words.chain(specials))
}

/// `text` as the file's normalizer leaves it.
pub(crate) fn normalize(steps: &Steps, text: &str) -> Result<String, TextError> {
    let mut text = NormalizedString::from(text);
    steps.normalizer.apply(&mut text).map_err(|e| TextError::invalid("normalizer", e.to_string()))?;
    Ok(text.get().to_string())
}

/// A clearer sentence where the model section is of another kind, whose fields have other shapes.
fn explain(bytes: &[u8], error: &serde_json::Error) -> TextError {
    #[derive(Deserialize)]
    struct Outline {
        model: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    match serde_json::from_slice::<Outline>(bytes) {
        Ok(outline) => match check_kind(outline.model.kind.as_deref()) {
            Err(kind) => kind,
            Ok(()) => TextError::Json(error.to_string()),
        },
        Err(_) => TextError::Json(error.to_string()),
    }
}

fn check_kind(kind: Option<&str>) -> Result<(), TextError> {
    match kind {
        None | Some("BPE") => Ok(()),
        Some(other) => {
            Err(TextError::Unsupported { part: "model.type", found: other.to_string(), supported: "BPE" })
        }
    }
}

/// What ends a turn by its spelling is a control token, even where the file lists it among ordinary text.
fn with_ends(mut tokens: Vec<AddedToken>, vocab: &AHashMap<String, u32>) -> Vec<AddedToken> {
    tokens.iter_mut().filter(|t| is_end(&t.content)).for_each(|t| t.special = true);
    for end in SPELLINGS {
        if let Some(&id) = vocab.get(end)
            && !tokens.iter().any(|t| t.content == end)
        {
            tokens.push(AddedToken::control(id, end.to_owned()));
        }
    }
    tokens
}

/// Gives added tokens their ids as the library does: the vocabulary's id where it has the text, else the next free one.
/// The `id` in the file is only a note.
fn assign_ids(tokens: Vec<AddedToken>, vocab: &AHashMap<String, u32>) -> Result<Vec<AddedToken>, TextError> {
    let base =
        u32::try_from(vocab.len()).map_err(|_| TextError::invalid("model.vocab", "too many tokens"))?;
    let mut next = base;
    let mut seen: AHashMap<String, usize> = AHashMap::new();
    let mut assigned: Vec<AddedToken> = Vec::with_capacity(tokens.len());
    for mut token in tokens.into_iter().filter(|t| !t.content.is_empty()) {
        if let Some(&index) = seen.get(&token.content) {
            token.id = assigned[index].id;
            assigned[index] = token;
            continue;
        }
        token.id = match vocab.get(&token.content) {
            Some(&id) => id,
            None => {
                let id = next;
                next = next
                    .checked_add(1)
                    .ok_or_else(|| TextError::invalid("added_tokens", "no ids are left"))?;
                id
            }
        };
        seen.insert(token.content.clone(), assigned.len());
        assigned.push(token);
    }
    Ok(assigned)
}

fn table_size(vocab: &AHashMap<String, u32>, added: &[AddedToken]) -> Result<usize, TextError> {
    let largest = vocab.values().copied().chain(added.iter().map(|t| t.id)).max();
    let size = largest.map_or(0, |id| id as usize + 1);
    let count = vocab.len() + added.len();
    if size > count.saturating_mul(2).saturating_add(MAX_HOLES) {
        return Err(TextError::invalid(
            "model.vocab",
            format!("the largest id is {size} for {count} tokens"),
        ));
    }
    let mut taken = vec![false; size];
    for (token, &id) in vocab {
        if std::mem::replace(&mut taken[id as usize], true) {
            return Err(TextError::invalid(
                "model.vocab",
                format!("{token:?} has the id {id} of another token"),
            ));
        }
    }
    Ok(size)
}

fn build_model(file: ModelFile) -> Result<BPE, TextError> {
    let affix = |s: &Option<String>| s.as_deref().is_some_and(|s| !s.is_empty());
    if affix(&file.continuing_subword_prefix) || affix(&file.end_of_word_suffix) {
        return Err(TextError::Unsupported {
            part: "model",
            found: "continuing_subword_prefix or end_of_word_suffix".into(),
            supported: "BPE without them",
        });
    }
    // The library writes the merged token into a buffer as long as the longest token before it looks it up.
    let longest = file.vocab.keys().map(String::len).max().unwrap_or(0);
    let too_long = |m: &&Merge| m.0.len().saturating_add(m.1.len()) > longest;
    if let Some(Merge(left, right)) = file.merges.iter().find(too_long) {
        let reason = format!("{left:?} + {right:?} is longer than every token");
        return Err(TextError::invalid("model.merges", reason));
    }
    if let Some(unk) = file.unk_token.as_ref().filter(|unk| !file.vocab.contains_key(*unk)) {
        return Err(TextError::invalid("model.unk_token", format!("{unk:?} is not in the vocabulary")));
    }
    // `dropout` makes encoding random, which is for training only.
    let mut builder = BPE::builder()
        .vocab_and_merges(file.vocab, file.merges.into_iter().map(|Merge(l, r)| (l, r)).collect())
        .fuse_unk(file.fuse_unk.unwrap_or(false))
        .byte_fallback(file.byte_fallback.unwrap_or(false))
        .ignore_merges(file.ignore_merges.unwrap_or(false));
    if let Some(unk) = file.unk_token {
        builder = builder.unk_token(unk);
    }
    builder.build().map_err(|e| TextError::invalid("model.merges", e.to_string()))
}

impl Steps {
    pub(crate) fn from_sections(sections: &Sections) -> Result<Self, TextError> {
        if let Some(value) = &sections.normalizer {
            check_steps(value, "normalizer", "normalizers", NORMALIZERS, &mut 0)?;
        }
        if let Some(value) = &sections.pre_tokenizer {
            check_steps(value, "pre_tokenizer", "pretokenizers", PRE_TOKENIZERS, &mut 0)?;
        }
        Ok(Self {
            normalizer: match &sections.normalizer {
                Some(section) => normalizer::Steps::read(section)?,
                None => normalizer::Steps::default(),
            },
            pre_tokenizer: library(sections.pre_tokenizer.as_ref(), "pre_tokenizer")?,
        })
    }
}

fn library<T: de::DeserializeOwned>(
    value: Option<&Value>,
    part: &'static str,
) -> Result<Option<T>, TextError> {
    value.map(|v| T::deserialize(v).map_err(|e| TextError::invalid(part, e.to_string()))).transpose()
}

/// Every step must be of a known kind (`Precompiled` would hand a binary trie to a parser that trusts it).
fn check_steps(
    value: &Value,
    part: &'static str,
    list: &str,
    known: &'static str,
    count: &mut usize,
) -> Result<(), TextError> {
    *count += 1;
    if *count > MAX_STEPS {
        return Err(TextError::invalid(part, format!("more than {MAX_STEPS} steps")));
    }
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("");
    if kind.is_empty() || !known.split(", ").any(|k| k.trim() == kind) {
        return Err(TextError::Unsupported { part, found: kind.to_string(), supported: known });
    }
    let too_short = |key| value.get(key).and_then(Value::as_u64) == Some(0);
    if kind == "FixedLength" && too_short("length") {
        return Err(TextError::invalid(part, "FixedLength of 0"));
    }
    for inner in value.get(list).and_then(Value::as_array).into_iter().flatten() {
        check_steps(inner, part, list, known, count)?;
    }
    Ok(())
}

/// The file, written in the order in which the Hugging Face library writes it.
#[derive(Serialize)]
pub(crate) struct Written<'a> {
    pub(crate) version: &'static str,
    pub(crate) truncation: (),
    pub(crate) padding: (),
    pub(crate) added_tokens: Vec<AddedToken>,
    pub(crate) normalizer: Option<&'a Value>,
    pub(crate) pre_tokenizer: Option<&'a Value>,
    pub(crate) post_processor: Option<&'a Value>,
    pub(crate) decoder: Option<&'a Value>,
    pub(crate) model: &'a BPE,
}

impl<'a> Written<'a> {
    pub(crate) fn new(sections: &'a Sections, added: &[AddedToken], model: &'a BPE) -> Self {
        let mut added_tokens = added.to_vec();
        added_tokens.sort_by_key(|t| t.id);
        Self {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens,
            normalizer: sections.normalizer.as_ref(),
            pre_tokenizer: sections.pre_tokenizer.as_ref(),
            post_processor: sections.post_processor.as_ref(),
            decoder: sections.decoder.as_ref(),
            model,
        }
    }
}
