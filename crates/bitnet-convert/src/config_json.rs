//! `config.json` from a configuration.

use bitnet_model::{Config, GateActivation, RopeScaling, Yarn};
use bitnet_source::family::{LLAMA, QWEN2, QWEN3};
use serde_json::{Map, Value, json};

/// What a directory says of its quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizationJson {
    /// `autobitlinear` (scales multiply) or `bitlinear` (scales divide).
    pub linear_class: &'static str,
    /// `offline` (packed trits) or `online` (masters, quantized at every use).
    pub mode: &'static str,
    /// Projections that stay dense, by their modules' names.
    pub dense: Vec<String>,
    /// Whether an untied head is ternary, too.
    pub head: bool,
}

/// A number as JSON with the digits that a person would write.
fn number(x: f32) -> Value {
    let short = x.to_string().parse::<f64>().ok().filter(|&y| y as f32 == x);
    json!(short.unwrap_or(f64::from(x)))
}

/// The same, without a fraction where there is none.
fn count(x: f32) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { number(x) }
}

/// `quantization_config` of a BitNet model.
pub(crate) fn quantization(config: &Config, q: &QuantizationJson) -> Value {
    let keep: Vec<&str> =
        (!q.head).then_some("lm_head").into_iter().chain(q.dense.iter().map(String::as_str)).collect();
    let mut map = json!({
        "quant_method": "bitnet",
        "linear_class": q.linear_class,
        "quantization_mode": q.mode,
        "modules_to_not_convert": keep,
    });
    if let (Some(eps), Some(map)) = (config.input_norm_eps, map.as_object_mut()) {
        map.insert("use_rms_norm".into(), json!(true));
        map.insert("rms_norm_eps".into(), number(eps));
    }
    map
}

/// The text of a `config.json` that transformers and this engine read back as `config`.
///
/// `scaling` is the rotary scaling, by parameters where there are such, `biases` says which projections have one (attention's
/// inputs, its output, feed-forward), `dtype` names the type of most float tensors, and `quantization` is that of a BitNet model.
pub fn to_config_json(
    config: &Config,
    scaling: &RopeScaling,
    biases: [bool; 3],
    dtype: &str,
    quantization: Option<&QuantizationJson>,
) -> Value {
    let (class, model_type) = match config.family {
        // Llama's class has biases of all attention's projections or of none; Qwen2's is the same model with those of its inputs.
        LLAMA | QWEN2 if biases == [true, false, false] => ("Qwen2ForCausalLM", "qwen2"),
        LLAMA | QWEN2 => ("LlamaForCausalLM", "llama"),
        QWEN3 => ("Qwen3ForCausalLM", "qwen3"),
        _ => ("BitNetForCausalLM", "bitnet"),
    };
    let activation = match config.activation {
        GateActivation::Silu => "silu",
        GateActivation::SquaredRelu => "relu2",
    };
    let mut json = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": activation,
        "max_position_embeddings": config.context,
        "rms_norm_eps": number(config.norm_eps),
        "rope_theta": number(config.rope.theta),
        "rope_scaling": rope_scaling(scaling, config.context),
        "attention_bias": biases[0] || biases[1],
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": config.bos,
        "eos_token_id": match &config.eos[..] {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        },
        "torch_dtype": dtype,
        "use_cache": true,
    });
    if let Some(map) = json.as_object_mut() {
        if model_type == "llama" {
            map.insert("mlp_bias".into(), json!(biases[2]));
        }
        if matches!(model_type, "qwen2" | "qwen3") {
            map.insert("use_sliding_window".into(), json!(false));
        }
        if let Some(q) = quantization {
            map.insert("quantization_config".into(), self::quantization(config, q));
        }
    }
    json
}

fn rope_scaling(scaling: &RopeScaling, context: usize) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        // transformers divides by one list up to the original context and by the other beyond.
        RopeScaling::Divisors(divisors) => {
            let list: Vec<Value> = divisors.iter().map(|&d| number(d)).collect();
            json!({
                "rope_type": "longrope",
                "short_factor": list,
                "long_factor": list,
                "factor": 1.0,
                "attention_factor": 1.0,
                "original_max_position_embeddings": context,
            })
        }
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": number(*factor) }),
        RopeScaling::Yarn(yarn) => {
            let Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } = *yarn;
            json!({
                "rope_type": "yarn",
                "factor": number(factor),
                "original_max_position_embeddings": count(original_context),
                "beta_fast": number(beta_fast),
                "beta_slow": number(beta_slow),
                "attention_factor": number(attention_factor),
                "truncate": truncate,
            })
        }
        RopeScaling::Llama3 { factor, low, high, original_context } => json!({
            "rope_type": "llama3",
            "factor": number(*factor),
            "low_freq_factor": number(*low),
            "high_freq_factor": number(*high),
            "original_max_position_embeddings": count(*original_context),
        }),
    }
}

/// A `config.json` that came with the model, with what the conversion changes.
pub(crate) fn patched(
    original: &Value,
    config: &Config,
    dtype: &str,
    quantization: Option<&QuantizationJson>,
) -> Value {
    let mut map: Map<String, Value> = original.as_object().cloned().unwrap_or_default();
    // 1bitLLM's class needs code of its own; transformers' class is the same model under other names.
    let renamed = map.get("architectures") == Some(&json!(["BitnetForCausalLM"]));
    if renamed {
        map.insert("architectures".into(), json!(["BitNetForCausalLM"]));
        map.insert("model_type".into(), json!("bitnet"));
        // What the two classes take for granted is not the same.
        map.insert("hidden_act".into(), json!("silu"));
        map.insert("rms_norm_eps".into(), number(config.norm_eps));
        ["weight_bits", "input_bits"].into_iter().for_each(|key| drop(map.remove(key)));
    }
    // It names code beside the original.
    map.remove("auto_map");
    map.insert("tie_word_embeddings".into(), json!(config.tied_head));
    let key = if map.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    map.insert(key.into(), json!(dtype));
    match quantization {
        Some(q) => map.insert("quantization_config".into(), self::quantization(config, q)),
        None => map.remove("quantization_config"),
    };
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits_and_read_back_equal() {
        assert_eq!(number(1e-5), json!(1e-5));
        assert_eq!(number(1_000_042.0).to_string(), "1000042.0");
        assert_eq!(count(8192.0).to_string(), "8192");
        for x in [0.1f32, 1e-6, f32::MIN_POSITIVE, f32::MAX, 1.0 / 3.0, 500_000.03] {
            assert_eq!(number(x).as_f64().unwrap() as f32, x);
        }
    }
}
