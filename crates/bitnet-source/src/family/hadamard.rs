//! The contract under which weights are stored folded with a Walsh-Hadamard transform (keys `prism.hadamard.*`, version 1).
//!
//! A folded matrix is stored as `W diag(s) H`, blockwise along its inputs, so its product is `W' (H (s * x))`: signs first, then the
//! transform in blocks, divided by the square root of the block. The signs are those of the input's width. A table whose rows are
//! looked up gives `s * (H z)` for a stored row `z`. A step left out gives fluent text of another model, so a contract is whole and
//! known in every word, or the model is refused. Source: PrismML's llama.cpp, which writes and reads it.

use std::{collections::BTreeSet, path::Path};

use bitnet_format::{GgufMetadata, GgufValue};
use bitnet_model::HadamardFold;
use serde_json::{Map, Value};

use crate::error::SourceError;

/// How all keys begin.
pub const PREFIX: &str = "prism.hadamard.";
/// All keys, without [`PREFIX`].
const KEYS: [&str; 10] = [
    "version",
    "block_size",
    "transform",
    "axis",
    "sign_mode",
    "sign_widths",
    "sign_values",
    "weight_names",
    "inverse_weight_names",
    "gdn_v_grouped",
];
/// The largest block: sums of so many numbers lose no more than the norms do.
const MAX_BLOCK: u64 = 1 << 16;
/// More names or signs than a model has.
const MAX_ITEMS: usize = 1 << 20;
/// GGUF's number of the type of arrays.
const ARRAY: u32 = 9;

/// A contract that was checked against the tensors of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    fold: HadamardFold,
    weights: BTreeSet<String>,
    inverse: BTreeSet<String>,
    gdn_v_grouped: bool,
}

/// What a kind of file calls the matrices that a contract can name.
struct Names {
    /// The last part but one of their names; the last is `weight`.
    folded: &'static [&'static str],
    /// The same for the table whose rows are looked up.
    embedding: &'static str,
}

const GGUF: Names = Names {
    folded: &[
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_qkv",
        "attn_gate",
        "attn_output",
        "ssm_out",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
        "output",
    ],
    embedding: "token_embd",
};

const HUGGING_FACE: Names = Names {
    folded: &[
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "in_proj_qkv",
        "in_proj_z",
        "out_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "lm_head",
    ],
    embedding: "embed_tokens",
};

impl Contract {
    /// The contract of a GGUF file; `None` where it has no key of it, and its weights are what they are. `inputs` gives the width of
    /// the rows of a tensor that the file has.
    ///
    /// # Errors
    /// [`SourceError::Model`] naming the first key that is missing, unknown, or not what version 1 says.
    pub fn of_gguf(
        metadata: &GgufMetadata,
        inputs: impl Fn(&str) -> Option<usize>,
    ) -> Result<Option<Self>, SourceError> {
        let keys: Map<String, Value> = metadata
            .iter()
            .filter(|(key, _)| key.starts_with(PREFIX))
            .map(|(key, value)| (key.to_owned(), if known(key) { json(&value) } else { Value::Null }))
            .collect();
        if keys.is_empty() { Ok(None) } else { Self::check(&keys, &GGUF, inputs).map(Some) }
    }

    /// The contract of `hadamard.json`, which stands beside the weights of a model in MLX's form. `inputs` gives the number of
    /// weights in a row of a tensor, whatever they are packed in.
    ///
    /// # Errors
    /// As [`Contract::of_gguf`]; no key is no contract, and an error.
    pub fn of_json(file: &Value, inputs: impl Fn(&str) -> Option<usize>) -> Result<Self, SourceError> {
        match file {
            Value::Object(keys) => Self::check(keys, &HUGGING_FACE, inputs),
            _ => Err(SourceError::config("hadamard.json", "a JSON object", "something else")),
        }
    }

    /// The transform: its block, and its signs for the widths of all matrices that are folded, or none where inputs keep theirs.
    pub fn fold(&self) -> &HadamardFold {
        &self.fold
    }

    /// Whether the product with this matrix needs its input transformed. A table that is [inverted](Self::inverts) does too where it
    /// is multiplied as the head.
    pub fn folds(&self, name: &str) -> bool {
        self.weights.contains(name)
    }

    /// Whether the rows that are looked up in this table must be transformed back.
    pub fn inverts(&self, name: &str) -> bool {
        self.inverse.contains(name)
    }

    /// All names of folded matrices, for whoever must know that none was passed over.
    pub fn weights(&self) -> impl Iterator<Item = &str> {
        self.weights.iter().map(String::as_str)
    }

    /// Whether the columns of the recurrent layers' output stand with the value heads of one key head together, whatever the order
    /// of the rows that make its input.
    pub fn gdn_v_grouped(&self) -> bool {
        self.gdn_v_grouped
    }

    fn check(
        object: &Map<String, Value>,
        names: &Names,
        inputs: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, SourceError> {
        let keys = Keys(object);
        keys.refuse_unknown()?;
        keys.word("version", "1", |v| v.as_u64() == Some(1))?;
        let power = |n: &u64| n.is_power_of_two() && *n <= MAX_BLOCK;
        let expected = format!("a power of two up to {MAX_BLOCK}");
        let block = keys.take("block_size", &expected, |v| v.as_u64().filter(power))? as usize;
        for (key, word) in
            [("transform", "normalized-sylvester-walsh-hadamard"), ("axis", "input-last-dimension")]
        {
            keys.word(key, word, |v| v.as_str() == Some(word))?;
        }
        let explicit = keys.take("sign_mode", "identity or explicit", |v| match v.as_str()? {
            "identity" => Some(false),
            "explicit" => Some(true),
            _ => None,
        })?;
        let signs = if explicit { keys.signs(block)? } else { keys.no_signs()? };
        let weights = keys.names("weight_names")?;
        let inverse = keys.names("inverse_weight_names")?;
        let gdn_v_grouped = keys.take("gdn_v_grouped", "true or false", Value::as_bool)?;
        if weights.is_empty() {
            return Err(keys.wrong("weight_names", "the names of the folded matrices", "none"));
        }
        let fold = HadamardFold { block, signs };
        let contract = Self { fold, weights, inverse, gdn_v_grouped };
        for name in &contract.weights {
            let known = stem(name).is_some_and(|stem| names.folded.contains(&stem));
            contract.check_name(&keys, "weight_names", name, known, &inputs)?;
        }
        for name in &contract.inverse {
            let known = stem(name) == Some(names.embedding) && !contract.folds(name);
            contract.check_name(&keys, "inverse_weight_names", name, known, &inputs)?;
        }
        Ok(contract)
    }

    /// A name must be of a matrix that the transform is known for, and its rows whole blocks with signs.
    fn check_name(
        &self,
        keys: &Keys<'_>,
        key: &str,
        name: &str,
        known: bool,
        inputs: &impl Fn(&str) -> Option<usize>,
    ) -> Result<(), SourceError> {
        let wrong = |expected: &str| Err(keys.wrong(key, expected, &shown(name)));
        if !known {
            return wrong(match key {
                "weight_names" => "projections and the head alone",
                _ => "the embedding alone",
            });
        }
        let Some(width) = inputs(name) else { return wrong("names of tensors that the model has") };
        let HadamardFold { block, signs } = &self.fold;
        if width == 0 || !width.is_multiple_of(*block) {
            return wrong(&format!("matrices whose inputs are blocks of {block}"));
        }
        if !signs.is_empty() && !signs.iter().any(|(of, _)| *of == width) {
            return wrong(&format!("matrices with inputs of a width in {PREFIX}sign_widths, not {width}"));
        }
        Ok(())
    }
}

/// Refuses a directory of weights whose contract stands in a file of its own: such weights are known in GGUF alone.
pub(crate) fn refuse_beside<'a>(mut files: impl Iterator<Item = &'a Path>) -> Result<(), SourceError> {
    let contract = |file: &Path| Some(file.parent()?.join("hadamard.json")).filter(|path| path.exists());
    match files.find_map(contract) {
        None => Ok(()),
        Some(path) => Err(SourceError::Unsupported {
            what: format!(
                "a directory whose weights are folded with a Hadamard transform ({})",
                path.display()
            ),
            cure: "take the model's GGUF form, or its floats without that transform".into(),
        }),
    }
}

/// The keys of a contract, whole ones.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn wrong(&self, key: &str, expected: &str, got: &str) -> SourceError {
        SourceError::config(format!("{PREFIX}{key}"), expected, got)
    }

    fn refuse_unknown(&self) -> Result<(), SourceError> {
        match self.0.keys().find(|key| !known(key)) {
            Some(key) => Err(SourceError::config(
                shown(key),
                "no key of the Hadamard transform that version 1 does not have",
                "one",
            )),
            None => Ok(()),
        }
    }

    /// What `read` makes of the value of a key that must be there.
    fn take<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, SourceError> {
        let value = self.0.get(&format!("{PREFIX}{key}"));
        let got = || value.map_or("nothing: the key is missing".into(), |v| shown(&v.to_string()));
        value.and_then(read).ok_or_else(|| self.wrong(key, expected, &got()))
    }

    fn word(&self, key: &str, expected: &str, is: impl FnOnce(&Value) -> bool) -> Result<(), SourceError> {
        self.take(key, expected, |v| is(v).then_some(()))
    }

    fn names(&self, key: &str) -> Result<BTreeSet<String>, SourceError> {
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let all: Vec<String> =
            self.take(key, "a list of names", |v| v.as_array()?.iter().map(text).collect())?;
        let mut set = BTreeSet::new();
        for name in all {
            if let Some(twice) = set.replace(name) {
                return Err(self.wrong(key, "each name once", &format!("{} twice", shown(&twice))));
            }
        }
        Ok(set)
    }

    /// The vectors of `sign_values`, which stand one after another in the order of `sign_widths`.
    fn signs(&self, block: usize) -> Result<Vec<(usize, Vec<f32>)>, SourceError> {
        let whole = |v: &Value| usize::try_from(v.as_u64()?).ok();
        let widths: Vec<usize> =
            self.take("sign_widths", "a list of widths", |v| v.as_array()?.iter().map(whole).collect())?;
        let number = |v: &Value| v.as_f64().filter(|x| x.abs() == 1.0).map(|x| x as f32);
        let values: Vec<f32> = self
            .take("sign_values", "+1 or -1 for each input", |v| v.as_array()?.iter().map(number).collect())?;
        let mut signs: Vec<(usize, Vec<f32>)> = Vec::new();
        let mut rest = &values[..];
        for width in widths {
            if width == 0 || !width.is_multiple_of(block) {
                let expected = format!("multiples of the block, {block}");
                return Err(self.wrong("sign_widths", &expected, &width.to_string()));
            }
            if signs.iter().any(|(of, _)| *of == width) {
                return Err(self.wrong("sign_widths", "each width once", &format!("{width} twice")));
            }
            let Some((vector, behind)) = rest.split_at_checked(width) else {
                return Err(self.wrong(
                    "sign_values",
                    "as many as sign_widths add up to",
                    &values.len().to_string(),
                ));
            };
            signs.push((width, vector.to_vec()));
            rest = behind;
        }
        match (signs.is_empty(), rest.len()) {
            // No signs would be those of the other mode.
            (true, _) => Err(self.wrong("sign_widths", "the widths of inputs", "none")),
            (false, 0) => Ok(signs),
            (false, _) => {
                Err(self.wrong("sign_values", "as many as sign_widths add up to", &values.len().to_string()))
            }
        }
    }

    /// Inputs that keep their signs have no vectors.
    fn no_signs(&self) -> Result<Vec<(usize, Vec<f32>)>, SourceError> {
        for key in ["sign_widths", "sign_values"] {
            let value = self.0.get(&format!("{PREFIX}{key}"));
            if let Some(value) = value.filter(|v| v.as_array().is_none_or(|items| !items.is_empty())) {
                let expected = "nothing beside the sign_mode identity";
                return Err(self.wrong(key, expected, &shown(&value.to_string())));
            }
        }
        Ok(Vec::new())
    }
}

/// `q_proj` of `model.layers.0.self_attn.q_proj.weight`.
fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(".weight")?.rsplit('.').next()
}

/// A value of a GGUF file as JSON has it; null for what JSON has not.
fn json(value: &GgufValue<'_>) -> Value {
    if let Some(array) = value.as_array() {
        // Items take more memory as JSON, and no contract has so many, or arrays within arrays.
        let known = array.len() <= MAX_ITEMS && array.item_type() != ARRAY;
        return if known { array.iter().map(|item| json(&item)).collect() } else { Value::Null };
    }
    let whole = value.as_u64().map(Value::from).or_else(|| value.as_i64().map(Value::from));
    let text = || value.as_str().map(Value::from);
    let flag = || value.as_bool().map(Value::from);
    let float = || value.as_f32().map(|x| Value::from(f64::from(x)));
    whole.or_else(text).or_else(flag).or_else(float).unwrap_or(Value::Null)
}

/// Whether version 1 has this key.
fn known(key: &str) -> bool {
    key.strip_prefix(PREFIX).is_some_and(|tail| KEYS.contains(&tail))
}

/// What a file says, cut to what a person reads.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
