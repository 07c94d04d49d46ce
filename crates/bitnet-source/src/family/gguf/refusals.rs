//! What the keys of a GGUF file can say that this engine does not compute.

use bitnet_format::{GgufMetadata, GgufValue};
use bitnet_model::Config;

use super::{
    super::arithmetic::{GGUF, Said, Sizes},
    hybrid::OWN_KEYS,
};
use crate::error::SourceError;

fn unsupported(what: impl Into<String>, cure: &str) -> SourceError {
    SourceError::Unsupported { what: what.into(), cure: cure.into() }
}

/// Refuses files that are no models, and models that are no decoders.
pub(super) fn kinds(metadata: &GgufMetadata, architecture: &str) -> Result<(), SourceError> {
    match metadata.opt_str("general.type")?.unwrap_or("model") {
        "model" => {}
        "adapter" => {
            let base = metadata.opt_str("general.base_model.0.name")?.unwrap_or("its base");
            return Err(unsupported(
                "an adapter (general.type), not a model, in GGUF",
                &format!(
                    "give the model that it was made for ({base}), and the adapter in the form of PEFT with --adapter DIR"
                ),
            ));
        }
        other => {
            return Err(unsupported(
                format!("a GGUF of type '{other}' (general.type), not a model"),
                "give the file of the model that it goes with",
            ));
        }
    }
    if metadata.opt_u64(&format!("{architecture}.pooling_type"))?.is_some_and(|kind| kind != 0) {
        return Err(unsupported(
            "an embedding model (its GGUF names a pooling)",
            "it makes one vector of a text, and this engine continues texts",
        ));
    }
    if let Some(experts) = metadata.opt_u64(&format!("{architecture}.expert_count"))?.filter(|&n| n > 0) {
        return Err(unsupported(
            "a mixture of experts",
            &format!(
                "{architecture}.expert_count is {experts}, and one feed-forward layer in a block is implemented"
            ),
        ));
    }
    Ok(())
}

/// Refuses every key that changes what is computed and that `config` has no word for.
pub(super) fn arithmetic(
    metadata: &GgufMetadata,
    architecture: &str,
    config: &Config,
) -> Result<(), SourceError> {
    let sizes = Sizes { head_dim: config.head_dim, hidden: config.hidden, layers: config.layers };
    let own = if config.recurrent.is_some() { &OWN_KEYS[..] } else { &[] };
    for rule in GGUF.iter().filter(|rule| !own.contains(&rule.key)) {
        let key = format!("{architecture}.{}", rule.key);
        let Some(value) = metadata.get(&key) else { continue };
        let said = said(&value);
        if !matches!(said, Said::Number(0.0)) {
            rule.check(&said, sizes, &key, &shown(&value))?;
        }
    }
    let key = format!("{architecture}.attention.sliding_window");
    match metadata.opt_u64(&key)? {
        // A window as wide as the context hides nothing.
        Some(window) if window > 0 && window < config.context as u64 => Err(unsupported(
            format!("a model with sliding-window attention ({key} is {window})"),
            "only full attention is implemented",
        )),
        _ => Ok(()),
    }
}

/// A value as a person reads it.
fn shown(value: &GgufValue<'_>) -> String {
    match (value.as_bool(), number(value), value.as_array()) {
        (Some(yes), ..) => yes.to_string(),
        (_, Some(x), _) => x.to_string(),
        (.., Some(items)) => format!("a list of {}", items.len()),
        _ => "something else".into(),
    }
}

fn said(value: &GgufValue<'_>) -> Said {
    if let Some(yes) = value.as_bool() {
        return Said::Bool(yes);
    }
    match (number(value), value.as_array()) {
        (Some(x), _) => Said::Number(x),
        (None, Some(items)) => {
            let one = |v: GgufValue<'_>| v.as_bool().map(f64::from).or_else(|| number(&v));
            Said::List(items.iter().map(one).collect())
        }
        (None, None) => Said::Other,
    }
}

fn number(value: &GgufValue<'_>) -> Option<f64> {
    value.as_i64().map(|n| n as f64).or_else(|| value.as_f32().map(f64::from))
}
