//! What a model's own files say of how its next token should be chosen.

use bitnet_format::{Checkpoint, Metadata};
use serde_json::Value;

use crate::{EngineError, LARGEST_SHIFT};

/// What a model's files suggest, each where they say it: `general.sampling.*` of GGUF files as llama.cpp writes it, or
/// `generation_config.json`. Suggestions only: no generation obeys them unless its options are made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// See [`SamplingOptions`](crate::SamplingOptions), as for all fields.
    pub temperature: Option<f32>,
    /// How many of the likeliest tokens are chosen among; 0 is all.
    pub top_k: Option<usize>,
    /// The probability that the tokens chosen among have together; 1 is all.
    pub top_p: Option<f32>,
    /// The least share of the likeliest token's probability; 0 is all.
    pub min_p: Option<f32>,
    /// 1 is off.
    pub repetition_penalty: Option<f32>,
    /// 0 is no token.
    pub penalty_window: Option<usize>,
}

impl SamplingDefaults {
    /// Those of a checkpoint. A `generation_config.json` that says `do_sample: false` says nothing of how to sample.
    ///
    /// # Errors
    /// [`EngineError::Sampling`] naming a key whose value cannot be.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, EngineError> {
        match checkpoint.metadata() {
            Metadata::Gguf(m) => Self::read(|(key, _)| {
                let key = key.map(|tail| format!("general.sampling.{tail}"))?;
                let value = m.get(&key)?;
                let number = value.as_i64().map(|n| n as f64).or(value.as_f32().map(f64::from));
                Some((key, number.ok_or_else(|| "something else".to_owned())))
            }),
            Metadata::HuggingFace(m) => Self::of_json(m.generation_config.as_ref()),
            Metadata::Bitnet(m) => Self::of_json(m.hf.generation_config.as_ref()),
            _ => Ok(Self::default()),
        }
    }

    fn of_json(file: Option<&Value>) -> Result<Self, EngineError> {
        let Some(file) = file.filter(|file| file.get("do_sample") != Some(&Value::Bool(false))) else {
            return Ok(Self::default());
        };
        Self::read(|(_, key)| {
            let value = file.get(key?).filter(|value| !value.is_null())?;
            let number = value.as_f64().ok_or_else(|| value.to_string().chars().take(40).collect());
            Some((format!("{} in generation_config.json", key?), number))
        })
    }

    /// `get` finds the value of a key, given in the spelling of GGUF and in that of JSON, and what to call it.
    fn read(get: impl Fn(Spellings) -> Option<(String, Result<f64, String>)>) -> Result<Self, EngineError> {
        let number = |spellings: Spellings, expected: &str, good: fn(f64) -> bool| match get(spellings) {
            None => Ok(None),
            Some((_, Ok(x))) if x.is_finite() && good(x) => Ok(Some(x)),
            Some((key, got)) => {
                let got = got.map_or_else(|text| text, |x| x.to_string());
                Err(EngineError::Sampling(format!("{key} of the model must be {expected}, not {got}")))
            }
        };
        let float = |x: f64| x as f32;
        // Below 0 everybody means 0 here, and -1 is llama.cpp's word for all.
        let count = |x: f64| x.max(0.0) as usize;
        let any = |_: f64| true;
        let ratio = |x: f64| (1.0 / f64::from(LARGEST_SHIFT)..=f64::from(LARGEST_SHIFT)).contains(&x);
        let temperature = number((Some("temp"), Some("temperature")), "a number", |x| x <= 1e6)?;
        let top_k = number((Some("top_k"), Some("top_k")), "a number", any)?;
        let top_p = number((Some("top_p"), Some("top_p")), "above 0", |x| x > 0.0)?;
        let min_p = number((Some("min_p"), Some("min_p")), "at most 1", |x| x <= 1.0)?;
        let penalty =
            number((Some("penalty_repeat"), Some("repetition_penalty")), "from 0.000001 to 1000000", ratio)?;
        let window = number((Some("penalty_last_n"), None), "a number", any)?;
        Ok(Self {
            temperature: temperature.map(|x| float(x.max(0.0))),
            top_k: top_k.map(count),
            top_p: top_p.map(|x| float(x.min(1.0))),
            min_p: min_p.map(|x| float(x.max(0.0))),
            repetition_penalty: penalty.map(float),
            penalty_window: window.map(|x| if x < 0.0 { usize::MAX } else { count(x) }),
        })
    }
}

/// A key without its prefix in a GGUF file, and in `generation_config.json`.
type Spellings = (Option<&'static str>, Option<&'static str>);
