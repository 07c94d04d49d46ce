//! Hybrids in `config.json`: which layers are recurrent, and the sizes of those (`transformers`, `configuration_qwen3_5.py`).

use bitnet_model::{DeltaNet, Recurrent};
use serde_json::Value;

use crate::{error::SourceError, json::Fields};

/// Every so many layers one has full attention, where nothing else is said.
const INTERVAL: usize = 4;
/// The share of each head that is rotated, where nothing else is said.
const ROTATED: f32 = 0.25;

/// The keys that this module reads, or that say what the class computes anyhow.
pub(super) const OWN_KEYS: [&str; 3] =
    ["attn_output_gate", "full_attention_interval", "partial_rotary_factor"];

/// The part of a configuration that is about text: of a model that sees, the object `text_config`.
pub(crate) fn text(json: &Value) -> &Value {
    json.get("text_config").filter(|text| text.is_object()).unwrap_or(json)
}

/// The recurrent layers of a model of so many.
pub(super) fn recurrent(fields: &Fields<'_>, layers: usize) -> Result<Recurrent, SourceError> {
    if fields.optional_bool("attn_output_gate")? == Some(false) {
        return Err(fields.wrong("attn_output_gate", "true: the class gates attention's result"));
    }
    let sizes = DeltaNet {
        key_heads: fields.size("linear_num_key_heads")?,
        value_heads: fields.size("linear_num_value_heads")?,
        key_dim: fields.size("linear_key_head_dim")?,
        value_dim: fields.size("linear_value_head_dim")?,
        taps: fields.size("linear_conv_kernel_dim")?,
    };
    let blocks = match fields.optional_list("layer_types")? {
        Some(kinds) => kinds.iter().map(|kind| is_recurrent(fields, kind)).collect::<Result<_, _>>()?,
        None => every(fields.optional_size("full_attention_interval")?.unwrap_or(INTERVAL), layers),
    };
    Ok(Recurrent { sizes, blocks })
}

fn is_recurrent(fields: &Fields<'_>, kind: &Value) -> Result<bool, SourceError> {
    match kind.as_str() {
        Some("linear_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(fields.wrong("layer_types", "a list of linear_attention and full_attention")),
    }
}

/// For each layer whether it is recurrent, where one in `interval` is not. An interval of 0 leaves no attention.
pub(crate) fn every(interval: usize, layers: usize) -> Vec<bool> {
    (1..=layers.min(MOST_LAYERS)).map(|layer| interval == 0 || !layer.is_multiple_of(interval)).collect()
}

/// More layers than any model has: what is listed for so many is refused for its length.
const MOST_LAYERS: usize = 1 << 13;

/// Dimensions of a head that are rotated.
pub(super) fn rotary_dim(fields: &Fields<'_>, head_dim: usize) -> Result<usize, SourceError> {
    let key = "partial_rotary_factor";
    let inner = fields.optional_object("rope_parameters")?.or(fields.optional_object("rope_scaling")?);
    let inner = inner.map(|object| Fields::new(object, "rope_parameters")).transpose()?;
    let said = match inner.as_ref().map(|inner| inner.optional_number(key)).transpose()?.flatten() {
        Some(factor) => factor,
        None => fields.optional_number(key)?.unwrap_or(ROTATED),
    };
    if !(0.0..=1.0).contains(&said) {
        return Err(fields.wrong(key, "a share between 0 and 1"));
    }
    Ok((head_dim as f32 * said) as usize)
}
