//! The model class that a `config.json` names.

use serde_json::Value;

use super::super::{BITNET, BITNET_B158, LLAMA, QWEN2, QWEN3, QWEN35};
use crate::{error::SourceError, json::Fields};

/// What a class in `architectures` stands for.
pub(super) fn family(architecture: &str) -> Result<&'static str, SourceError> {
    Ok(match architecture {
        "BitNetForCausalLM" => BITNET_B158,
        "BitnetForCausalLM" => BITNET,
        "LlamaForCausalLM" | "MistralForCausalLM" => LLAMA,
        "Qwen2ForCausalLM" => QWEN2,
        "Qwen3ForCausalLM" => QWEN3,
        "Qwen3_5ForCausalLM" | "Qwen3_5ForConditionalGeneration" => QWEN35,
        other => {
            return Err(SourceError::Unsupported {
                what: format!("a {other}"),
                cure: "it runs BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM, MistralForCausalLM, \
                       Qwen2ForCausalLM, Qwen3ForCausalLM, Qwen3_5ForCausalLM and Qwen3_5ForConditionalGeneration"
                    .into(),
            });
        }
    })
}

/// The name of the class: of `architectures`, or the one that `model_type` means.
pub(super) fn architecture(fields: &Fields<'_>) -> Result<String, SourceError> {
    let list = fields.optional_list("architectures")?.map_or(&[][..], Vec::as_slice);
    let model_type = fields.optional_str("model_type")?;
    let by_type = || match model_type {
        Some("bitnet") => Some("BitNetForCausalLM"),
        Some("llama") => Some("LlamaForCausalLM"),
        Some("mistral") => Some("MistralForCausalLM"),
        Some("qwen2") => Some("Qwen2ForCausalLM"),
        Some("qwen3") => Some("Qwen3ForCausalLM"),
        Some("qwen3_5_text") => Some("Qwen3_5ForCausalLM"),
        Some("qwen3_5") => Some("Qwen3_5ForConditionalGeneration"),
        _ => None,
    };
    let named = match list.first() {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(_) => return Err(fields.wrong("architectures", "a list of names of model classes")),
        None => by_type(),
    };
    named.map(str::to_owned).ok_or_else(|| match model_type {
        Some(other) => SourceError::Unsupported {
            what: format!("a model of type '{other}'"),
            cure: "config.json names no class in `architectures`; bitnet, llama, mistral, qwen2, qwen3, qwen3_5 and qwen3_5_text are known".into(),
        },
        None => SourceError::config("architectures in config.json", "the name of a model class", "none"),
    })
}
