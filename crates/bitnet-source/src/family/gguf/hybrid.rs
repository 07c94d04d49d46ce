//! Hybrids in the keys of a GGUF file: which blocks are recurrent, and the sizes of those (llama.cpp, `src/models/qwen35.cpp`).

use bitnet_format::GgufMetadata;
use bitnet_model::{DeltaNet, Recurrent};

use super::sizes::to_size;
use crate::{error::SourceError, family::huggingface::hybrid::every};

/// The keys that this module reads, or that say what is computed anyhow: sections of positions are one for text, and blocks that
/// draft tokens are left out.
pub(super) const OWN_KEYS: [&str; 5] =
    ["full_attention_interval", "rope.dimension_sections", "ssm.inner_size", "ssm.state_size", NEXTN_KEY];

/// How many blocks at the end draft tokens, behind the architecture's name.
pub(super) const NEXTN_KEY: &str = "nextn_predict_layers";

/// One block in so many has full attention, where nothing else is said.
const INTERVAL: usize = 4;

/// The recurrent blocks of a model of so many, behind which so many blocks draft tokens.
pub(super) fn recurrent(
    metadata: &GgufMetadata,
    architecture: &str,
    layers: usize,
    drafting: usize,
) -> Result<Recurrent, SourceError> {
    let key = |tail: &str| format!("{architecture}.{tail}");
    let size = |tail: &str| -> Result<usize, SourceError> { to_size(&key(tail), metadata.u64(&key(tail))?) };
    let (value_heads, value_width) = (size("ssm.time_step_rank")?, size("ssm.inner_size")?);
    if value_heads == 0 {
        return Err(SourceError::config(key("ssm.time_step_rank"), "1 value head or more", value_heads));
    }
    if !value_width.is_multiple_of(value_heads) {
        let want = format!("a multiple of {value_heads} value heads ({})", key("ssm.time_step_rank"));
        return Err(SourceError::config(key("ssm.inner_size"), want, value_width));
    }
    let sizes = DeltaNet {
        key_heads: size("ssm.group_count")?,
        value_heads,
        key_dim: size("ssm.state_size")?,
        value_dim: value_width / value_heads,
        taps: size("ssm.conv_kernel")?,
    };
    let listed = key("attention.recurrent_layers");
    let blocks = match metadata.get(&listed) {
        Some(value) => {
            let items = value.as_array();
            let all = items
                .and_then(|items| items.iter().map(|item| item.as_bool()).collect::<Option<Vec<bool>>>());
            let mut all =
                all.ok_or_else(|| SourceError::config(listed, "a list of true and false", "something else"))?;
            // llama.cpp's list goes on with the blocks that draft tokens.
            if all.len() == layers + drafting {
                all.truncate(layers);
            }
            all
        }
        None => {
            let interval = metadata.opt_u64(&key("full_attention_interval"))?;
            let interval = interval.map(|n| to_size(&key("full_attention_interval"), n)).transpose()?;
            every(interval.unwrap_or(INTERVAL), layers)
        }
    };
    Ok(Recurrent { sizes, blocks })
}
