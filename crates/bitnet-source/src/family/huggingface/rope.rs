//! Rotary embedding in `config.json`: `rope_theta` beside `rope_scaling`, or the newer `rope_parameters` that hold both.

use std::collections::BTreeMap;

use bitnet_model::{Rope, RopeScaling, Yarn};
use serde_json::Value;

use crate::{error::SourceError, json::Fields};

/// Keys that `transformers` knows for one type of scaling or another. Those that are not the type's own it does not read.
const KNOWN: [&str; 15] = [
    "type",
    "rope_type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "low_freq_factor",
    "high_freq_factor",
    "short_factor",
    "long_factor",
];

/// Reads base and scaling; `context` is what the model is made for. Of a hybrid other keys than those of the scaling stand in the
/// same object: the share of a head that is rotated, and sections of positions in several dimensions, which are one for text.
pub(super) fn read(
    fields: &Fields<'_>,
    default_theta: f32,
    context: usize,
    hybrid: bool,
) -> Result<Rope, SourceError> {
    let outer = fields.optional_number("rope_theta")?;
    let Some((name, object)) = scaling(fields)? else {
        return Ok(Rope { theta: outer.unwrap_or(default_theta), scaling: RopeScaling::None });
    };
    let inner = Fields::new(object, name)?;
    known_keys(&inner, name, hybrid)?;
    // The one inside is what newer files mean; `transformers` reads it first, too.
    let theta = inner.optional_number("rope_theta")?.or(outer).unwrap_or(default_theta);
    let kind = match (inner.optional_str("rope_type")?, inner.optional_str("type")?) {
        (Some(a), Some(b)) if a != b => return Err(inner.wrong("type", &format!("'{a}', as rope_type says"))),
        (a, b) => a.or(b).unwrap_or("default"),
    };
    let original = || original_context(fields, &inner, context);
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: inner.number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: inner.number("factor")?,
            low: inner.number("low_freq_factor")?,
            high: inner.number("high_freq_factor")?,
            original_context: original()? as f32,
        },
        "yarn" => RopeScaling::Yarn(yarn(&inner, context, original()?)?),
        "longrope" | "su" => RopeScaling::Divisors(long_rope(&inner)?),
        other => {
            return Err(SourceError::Unsupported {
                what: format!("a model with '{other}' rope scaling"),
                cure: "default, linear, llama3, yarn, and longrope with the same factors for short and long texts are implemented".into(),
            });
        }
    };
    Ok(Rope { theta, scaling })
}

/// The object that describes the scaling, and its name. Two that say different things are one too many.
fn scaling<'a>(fields: &Fields<'a>) -> Result<Option<(&'static str, &'a Value)>, SourceError> {
    let (old, new) = ("rope_scaling", "rope_parameters");
    Ok(match (fields.optional_object(old)?, fields.optional_object(new)?) {
        (Some(a), Some(b)) if plain(a) != plain(b) => {
            return Err(fields.wrong(old, "the same scaling as in rope_parameters, or none"));
        }
        (_, Some(b)) => Some((new, b)),
        (Some(a), None) => Some((old, a)),
        (None, None) => None,
    })
}

/// A scaling without what only its spelling has.
fn plain(scaling: &Value) -> BTreeMap<&str, &Value> {
    let entries = scaling.as_object().into_iter().flatten();
    let said = entries.filter(|(key, value)| *key != "rope_theta" && !value.is_null());
    said.map(|(key, value)| (if key == "type" { "rope_type" } else { key.as_str() }, value)).collect()
}

/// Refuses keys that mean something in code of their own.
fn known_keys(inner: &Fields<'_>, name: &str, hybrid: bool) -> Result<(), SourceError> {
    if !hybrid
        && let Some(factor) = inner.optional_number("partial_rotary_factor")?.filter(|&factor| factor != 1.0)
    {
        return Err(SourceError::Unsupported {
            what: format!("a model that rotates a part of each head (partial_rotary_factor is {factor})"),
            cure: "whole heads are rotated here".into(),
        });
    }
    let own = ["partial_rotary_factor", "finetuned"];
    let sections = if hybrid { &["mrope_section", "mrope_interleaved"][..] } else { &[] };
    let known = |key: &&str| KNOWN.contains(key) || own.contains(key) || sections.contains(key);
    match inner.keys().find(|key| !known(key)) {
        None => Ok(()),
        Some(key) => Err(SourceError::Unsupported {
            what: format!("a model with '{key}' in {name}"),
            cure: format!("the keys that transformers' classes know are implemented: {}", KNOWN.join(", ")),
        }),
    }
}

/// The context of the first training. A key beside the scaling counts more than one in it, and without either it is the
/// model's context: so `transformers` has it.
fn original_context(fields: &Fields<'_>, inner: &Fields<'_>, context: usize) -> Result<f64, SourceError> {
    let key = "original_max_position_embeddings";
    let said = match fields.optional_double(key)? {
        Some(outer) => Some(outer),
        None => inner.optional_double(key)?,
    };
    Ok(said.unwrap_or(context as f64))
}

fn yarn(inner: &Fields<'_>, context: usize, original: f64) -> Result<Yarn, SourceError> {
    let factor = match inner.optional_double("factor")? {
        Some(factor) => factor,
        // Said to be nothing: the two contexts tell it. Not said at all: nobody computes such a model.
        None if inner.names("factor") => context as f64 / original,
        None => return Err(inner.wrong("factor", "a number")),
    };
    // Python takes 0 for nothing said.
    let or_default = |key: &str, default: f32| -> Result<f32, SourceError> {
        Ok(inner.optional_number(key)?.filter(|&x| x != 0.0).unwrap_or(default))
    };
    let scales = (inner.optional_double("mscale")?, inner.optional_double("mscale_all_dim")?);
    let attention_factor = match (inner.optional_double("attention_factor")?, scales) {
        (Some(said), _) => said,
        (None, (Some(one), Some(all))) if one != 0.0 && all != 0.0 => {
            Yarn::magnitude(factor, one) / Yarn::magnitude(factor, all)
        }
        _ => Yarn::magnitude(factor, 1.0),
    };
    Ok(Yarn {
        factor: factor as f32,
        original_context: original as f32,
        beta_fast: or_default("beta_fast", Yarn::BETA_FAST)?,
        beta_slow: or_default("beta_slow", Yarn::BETA_SLOW)?,
        attention_factor: attention_factor as f32,
        truncate: inner.optional_bool("truncate")?.unwrap_or(true),
    })
}

/// The divisors of longrope, when they do not depend on the length of a text, and nothing else is scaled.
fn long_rope(inner: &Fields<'_>) -> Result<Vec<f32>, SourceError> {
    let (short, long) = (inner.optional_numbers("short_factor")?, inner.optional_numbers("long_factor")?);
    match short {
        Some(divisors)
            if Some(&divisors) == long.as_ref()
                && inner.optional_number("attention_factor")? == Some(1.0) =>
        {
            Ok(divisors)
        }
        _ => Err(SourceError::Unsupported {
            what: "a model whose rotary frequencies depend on the length of the text".into(),
            cure:
                "longrope is implemented where short_factor and long_factor agree and attention_factor is 1"
                    .into(),
        }),
    }
}
