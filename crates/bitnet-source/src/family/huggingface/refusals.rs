//! What `config.json` can say that this engine does not compute.

use bitnet_model::Config;
use serde_json::Value;

use super::{
    super::{
        QWEN2, QWEN3,
        arithmetic::{CONFIG_JSON, Said, Sizes},
    },
    class::architecture,
    hybrid::OWN_KEYS,
};
use crate::{error::SourceError, json::Fields};

fn unsupported(what: impl Into<String>, cure: &str) -> SourceError {
    SourceError::Unsupported { what: what.into(), cure: cure.into() }
}

/// Refuses forms of weights that are none of this engine's, whatever else the file says.
pub(super) fn forms(fields: &Fields<'_>) -> Result<(), SourceError> {
    // MLX writes its own key, and since 2025 the same under `quantization_config`.
    let keys = ["quantization", "quantization_config"];
    for key in keys {
        let Some(q) = fields.get(key).filter(|q| q.get("quant_method").is_none()) else { continue };
        if let (Some(bits), Some(group)) = (q.get("bits"), q.get("group_size")) {
            return Err(unsupported(
                format!("a model that MLX has quantized to {bits} bits in groups of {group}"),
                "take the original, in safetensors or GGUF, of which it was made",
            ));
        }
    }
    Ok(())
}

/// Refuses every key that changes what is computed and that `config` has no word for.
pub(super) fn arithmetic(fields: &Fields<'_>, config: &Config) -> Result<(), SourceError> {
    let sizes = Sizes { head_dim: config.head_dim, hidden: config.hidden, layers: config.layers };
    let own = if config.recurrent.is_some() { &OWN_KEYS[..] } else { &[] };
    for rule in CONFIG_JSON.iter().filter(|rule| !own.contains(&rule.key)) {
        if let Some(value) = fields.get(rule.key) {
            rule.check(&said(value), sizes, rule.key, &value.to_string())?;
        }
    }
    windows(fields, config)?;
    head_norms(fields, config)?;
    rotated_layers(fields)?;
    if let Some(kind) = fields.optional_str("position_embedding_type")?
        && !["rope", "rotary"].iter().any(|known| kind.to_ascii_lowercase().contains(known))
    {
        return Err(unsupported(
            format!("a model with '{kind}' positions"),
            "rotary embeddings are implemented",
        ));
    }
    // 1bitLLM's class: ternary weights, int8 activations.
    for (key, known) in [("weight_bits", [1.0, 1.58, 2.0]), ("input_bits", [8.0; 3])] {
        if let Some(bits) = fields.optional_number(key)?.filter(|bits| !known.contains(bits)) {
            return Err(SourceError::config(format!("{key} in config.json"), known[0], bits));
        }
    }
    Ok(())
}

fn said(value: &Value) -> Said {
    match value {
        Value::Bool(yes) => Said::Bool(*yes),
        Value::Number(n) => n.as_f64().map_or(Said::Other, Said::Number),
        Value::Array(items) => Said::List(items.iter().map(Value::as_f64).collect()),
        _ => Said::Other,
    }
}

/// Attention that does not see all earlier positions would silently be computed wrongly. A window as wide as the context hides
/// nothing.
fn windows(fields: &Fields<'_>, config: &Config) -> Result<(), SourceError> {
    if config.recurrent.is_some() {
        // Its kinds of layers have been read, and none of them has a window.
        return Ok(());
    }
    let qwen = matches!(config.family, QWEN2 | QWEN3);
    let used = fields.optional_bool("use_sliding_window")?.unwrap_or(!qwen);
    // Mistral's class has a window where nothing is said, not even null.
    let unsaid = !fields.names("sliding_window") && architecture(fields)? == "MistralForCausalLM";
    let window = if unsaid { Some(4096) } else { fields.optional_size("sliding_window")? };
    let bites = used && window.is_some_and(|window| window < config.context);
    // Qwen's classes slide from this layer on.
    let from = match qwen {
        true => fields.optional_size("max_window_layers")?.unwrap_or(28),
        false => 0,
    };
    let kinds = fields.optional_list("layer_types")?;
    let other = |kind: &Value| kind.as_str() != Some("full_attention");
    if let Some(kind) = kinds.into_iter().flatten().find(|kind| other(kind))
        && (bites || kind.as_str() != Some("sliding_attention"))
    {
        return Err(unsupported(
            format!("a model with layers of type {kind}"),
            "only full attention is implemented",
        ));
    }
    if bites && kinds.is_none() && from < config.layers {
        return Err(unsupported(
            "a model with sliding-window attention",
            "only full attention is implemented",
        ));
    }
    Ok(())
}

/// Norms of queries and keys belong to a class, whatever a key wishes.
fn head_norms(fields: &Fields<'_>, config: &Config) -> Result<(), SourceError> {
    for key in ["use_qk_norm", "qk_norm", "qk_layernorm", "use_qk_layernorm"] {
        if let Some(wanted) = fields.optional_bool(key)?.filter(|&wanted| wanted != config.qk_norms) {
            let what = if wanted { "with" } else { "without" };
            return Err(unsupported(
                format!("a {} model {what} norms of queries and keys ({key} is {wanted})", config.family),
                "Qwen3- and Qwen3.5-class models have them, and no others",
            ));
        }
    }
    Ok(())
}

/// `no_rope_layers` says 1 for every layer that is rotated.
fn rotated_layers(fields: &Fields<'_>) -> Result<(), SourceError> {
    let layers = fields.optional_numbers("no_rope_layers")?.unwrap_or_default();
    if layers.contains(&0.0) {
        return Err(unsupported("a model with layers without rotation", "every layer is rotated here"));
    }
    Ok(())
}
