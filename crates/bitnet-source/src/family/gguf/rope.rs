//! Rotary scaling in the keys of a GGUF file.

use bitnet_format::{GgufKeys, GgufMetadata};
use bitnet_model::{RopeScaling, Yarn};

use crate::error::SourceError;

/// Our converter's key with Llama 3's rotary scaling: factor, low, high, original context. `rope_freqs` holds the
/// same as divisors, rounded.
pub const LLAMA3_ROPE_KEY: &str = "bitnet.rope.llama3";
/// Our converter's key with YaRN: factor, original context, fast and slow beta, the factor of attention, and 1 where the ramp's
/// ends are whole. llama.cpp's own keys hold the same, the factor of attention rounded.
pub const YARN_ROPE_KEY: &str = "bitnet.rope.yarn";

/// Keys of a scaling without the architecture's name.
struct Keys<'a> {
    metadata: &'a GgufMetadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, tail: &str) -> String {
        format!("{}.rope.scaling.{tail}", self.architecture)
    }

    fn number(&self, tail: &str) -> Result<Option<f32>, SourceError> {
        let key = self.key(tail);
        match self.metadata.get(&key).and_then(|value| value.as_u64()) {
            // Context lengths are integers, and some writers make factors integers, too.
            Some(whole) => Ok(Some(whole as f32)),
            None => Ok(self.metadata.opt_f32(&key)?),
        }
    }

    /// The divisor of frequencies, in the older spelling where the newer one is missing. 0 means that there is none.
    fn factor(&self) -> Result<Option<f32>, SourceError> {
        let older = format!("{}.rope.scale_linear", self.architecture);
        let said = match self.number("factor")? {
            Some(factor) => Some(factor),
            None => self.metadata.opt_f32(&older)?,
        };
        Ok(said.filter(|&factor| factor != 0.0))
    }

    /// Refuses a value other than that which changes nothing.
    fn neutral(&self, tail: &str, neutral: f32) -> Result<(), SourceError> {
        match self.number(tail)?.filter(|&x| x != neutral) {
            None => Ok(()),
            Some(x) => Err(SourceError::Unsupported {
                what: format!("a model whose {} is {x}", self.key(tail)),
                cure: format!("{neutral} is implemented; take the model's Hugging Face form"),
            }),
        }
    }
}

/// Reads the scaling; `divisors` is the tensor `rope_freqs` where there is one, `context` what the model is made for.
pub(super) fn scaling(
    metadata: &GgufMetadata,
    architecture: &str,
    divisors: Option<Vec<f32>>,
    context: usize,
) -> Result<RopeScaling, SourceError> {
    if let Some(parameters) = metadata.opt_f32s(LLAMA3_ROPE_KEY)? {
        return match parameters[..] {
            [factor, low, high, original_context] => {
                Ok(RopeScaling::Llama3 { factor, low, high, original_context })
            }
            _ => Err(SourceError::config(LLAMA3_ROPE_KEY, "four numbers", parameters.len())),
        };
    }
    if let Some(parameters) = metadata.opt_f32s(YARN_ROPE_KEY)? {
        return match parameters[..] {
            [factor, original_context, beta_fast, beta_slow, attention_factor, whole] => {
                let truncate = whole != 0.0;
                let yarn =
                    Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate };
                Ok(RopeScaling::Yarn(yarn))
            }
            _ => Err(SourceError::config(YARN_ROPE_KEY, "six numbers", parameters.len())),
        };
    }
    let keys = Keys { metadata, architecture };
    let factor = keys.factor()?;
    let kind = metadata.opt_str(&keys.key("type"))?;
    let divided = factor.is_some_and(|factor| factor != 1.0) && kind != Some("none");
    match (kind, divisors) {
        (None | Some("none" | "linear"), Some(divisors)) if !divided => {
            keys.neutral("attn_factor", 1.0)?;
            Ok(RopeScaling::Divisors(divisors))
        }
        (_, Some(_)) => Err(SourceError::Unsupported {
            what: "a model with both per-frequency divisors (rope_freqs) and rope scaling".into(),
            cure: "one of them is implemented; take the model's Hugging Face form".into(),
        }),
        (Some("yarn"), None) => yarn(&keys, factor, context).map(RopeScaling::Yarn),
        // A factor without a type is linear: so llama.cpp has it.
        (None | Some("none" | "linear"), None) => {
            keys.neutral("attn_factor", 1.0)?;
            match factor.filter(|_| divided) {
                Some(factor) => Ok(RopeScaling::Linear { factor }),
                None if kind == Some("linear") && factor.is_none() => {
                    Err(SourceError::config(keys.key("factor"), "a number, for linear scaling", "nothing"))
                }
                None => Ok(RopeScaling::None),
            }
        }
        (Some(other), None) => Err(SourceError::Unsupported {
            what: format!("a model with '{other}' rope scaling"),
            cure: "linear scaling, yarn and per-frequency divisors (rope_freqs) are implemented".into(),
        }),
    }
}

/// llama.cpp's keys. `yarn_attn_factor` is what converters write for `attention_factor` of `config.json`, the whole factor;
/// `attn_factor` is multiplied with whatever the whole factor is.
fn yarn(keys: &Keys<'_>, factor: Option<f32>, context: usize) -> Result<Yarn, SourceError> {
    let factor =
        factor.ok_or_else(|| SourceError::config(keys.key("factor"), "a number, for yarn", "nothing"))?;
    // Below 0 stands for nothing said.
    if keys.number("yarn_ext_factor")?.is_some_and(|ext| ext >= 0.0) {
        keys.neutral("yarn_ext_factor", 1.0)?;
    }
    let scale = f64::from(factor);
    // A tenth of `mscale_all_dim`, beside an `mscale` of 1.
    let usual = match keys.number("yarn_log_multiplier")?.filter(|&x| x != 0.0) {
        Some(log) => Yarn::magnitude(scale, 1.0) / Yarn::magnitude(scale, f64::from(log) / 0.1),
        None => Yarn::magnitude(scale, 1.0),
    };
    let whole = keys.number("yarn_attn_factor")?.filter(|&x| x > 0.0).map_or(usual, f64::from);
    let over = keys.number("attn_factor")?.filter(|&x| x != 0.0).map_or(1.0, f64::from);
    let beta =
        |tail, default| Ok::<f32, SourceError>(keys.number(tail)?.filter(|&x| x > 0.0).unwrap_or(default));
    Ok(Yarn {
        factor,
        original_context: keys
            .number("original_context_length")?
            .filter(|&n| n > 0.0)
            .unwrap_or(context as f32),
        beta_fast: beta("yarn_beta_fast", Yarn::BETA_FAST)?,
        beta_slow: beta("yarn_beta_slow", Yarn::BETA_SLOW)?,
        attention_factor: (whole * over) as f32,
        truncate: true,
    })
}

/// Writes the scaling under the names by which files are read; divisors are a tensor.
pub(super) fn to_keys(scaling: &RopeScaling, architecture: &str, keys: &mut GgufKeys) {
    let key = |tail: &str| format!("{architecture}.rope.scaling.{tail}");
    match scaling {
        RopeScaling::Linear { factor } => {
            keys.str(&key("type"), "linear");
            keys.f32(&key("factor"), *factor);
        }
        RopeScaling::Llama3 { factor, low, high, original_context } => {
            keys.f32s(LLAMA3_ROPE_KEY, &[*factor, *low, *high, *original_context]);
        }
        RopeScaling::Yarn(yarn) => {
            let Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } = *yarn;
            keys.str(&key("type"), "yarn");
            keys.f32(&key("factor"), factor);
            keys.u32(&key("original_context_length"), original_context as u32);
            keys.f32(&key("yarn_beta_fast"), beta_fast);
            keys.f32(&key("yarn_beta_slow"), beta_slow);
            let over = f64::from(attention_factor) / Yarn::magnitude(f64::from(factor), 1.0);
            if over as f32 != 1.0 {
                keys.f32(&key("attn_factor"), over as f32);
            }
            let whole = f32::from(u8::from(truncate));
            keys.f32s(
                YARN_ROPE_KEY,
                &[factor, original_context, beta_fast, beta_slow, attention_factor, whole],
            );
        }
        RopeScaling::None | RopeScaling::Divisors(_) => {}
    }
}
