//! Hugging Face directories: `config.json` and the tensor names of `transformers`.

use regex_lite::Regex;
use serde_json::Value;

use super::{BITNET, BITNET_B158, LLAMA, QWEN3};
use crate::{
    Config, GateActivation, ModelError, Norm, Part, Projection, Rope, RopeScaling,
    json::{Fields, int, number},
};

/// Which way a stored `weight_scale` is meant (transformers, `integrations/bitnet.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleMeaning {
    /// `bitlinear`: the stored number is 1 / mean|W|, results are divided by it.
    Divide,
    /// `autobitlinear`: the stored number is mean|W|, results are multiplied with it.
    Multiply,
}

/// What `quantization_config` says.
#[derive(Debug)]
pub struct Quantization {
    /// How packed tensors are scaled.
    pub scale: ScaleMeaning,
    /// Float weights are masters, quantized anew at every use.
    pub online: bool,
    /// Whether an untied head is quantized like a projection: only when modules that stay dense are listed, and it is not
    /// among them. Without a list the head always stays dense.
    pub head: bool,
    /// Patterns of modules that stay dense.
    keep: Vec<Pattern>,
}

/// One entry of `modules_to_not_convert`: it matches as a regular expression at the start of a module's name, or as its end.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Quantization {
    /// Whether all projections stay dense: a float model of a class whose floats are masters otherwise.
    fn keeps_every_projection(&self) -> bool {
        !self.keep.is_empty() && Projection::ALL.iter().all(|&p| self.keeps_dense(&module(0, p)))
    }

    /// Whether the module of that name (without `.weight`) stays dense.
    pub fn keeps_dense(&self, module: &str) -> bool {
        self.keep.iter().any(|pattern| {
            module.ends_with(&pattern.text) || pattern.regex.as_ref().is_some_and(|r| r.is_match(module))
        })
    }
}

/// Reads `config.json` (and the stop tokens of `generation_config.json`).
///
/// # Errors
/// [`ModelError::Unsupported`] for an architecture or a feature that is not in the table of families,
/// [`ModelError::Config`] for values that are missing or cannot be.
pub fn config(
    json: &Value,
    generation: Option<&Value>,
) -> Result<(Config, Option<Quantization>), ModelError> {
    let fields = Fields::new(json, "config.json")?;
    let architecture = architecture(json)?;
    let quantization = quantization(json, &architecture)?;
    let family = match architecture.as_str() {
        "BitNetForCausalLM" => BITNET_B158,
        "BitnetForCausalLM" => BITNET,
        "LlamaForCausalLM" | "MistralForCausalLM" => LLAMA,
        "Qwen3ForCausalLM" => QWEN3,
        other => {
            return Err(ModelError::Unsupported {
                what: format!("a {other}"),
                cure: "it runs BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM, MistralForCausalLM and Qwen3ForCausalLM".into(),
            });
        }
    };
    refuse_windows(json)?;
    let hidden = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    let head_dim = match fields.optional_size("head_dim")? {
        Some(dim) => dim,
        // Qwen3's class has its own default; the others divide.
        None if family == QWEN3 => 128,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(ModelError::config("hidden_size", format!("a multiple of {heads} heads"), hidden));
        }
    };
    let sub_norms = matches!(family, BITNET | BITNET_B158);
    let default_activation = if family == BITNET_B158 { "relu2" } else { "silu" };
    let eos = generation.map(|g| int_list(g, "eos_token_id")).filter(|ids| !ids.is_empty());
    let config = Config {
        family,
        hidden,
        ffn: fields.size("intermediate_size")?,
        layers: fields.size("num_hidden_layers")?,
        heads,
        kv_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        vocab: fields.size("vocab_size")?,
        context: fields.optional_size("max_position_embeddings")?.unwrap_or(2048),
        norm_eps: fields.optional_number("rms_norm_eps")?.unwrap_or(if sub_norms { 1e-5 } else { 1e-6 }),
        // The defaults of the classes in `transformers`.
        rope: rope(json, if family == BITNET_B158 { 500_000.0 } else { 10_000.0 })?,
        activation: activation(fields.optional_str("hidden_act").unwrap_or(default_activation))?,
        sub_norms,
        qk_norms: family == QWEN3,
        input_norm_eps: input_norm_eps(json)?,
        tied_head: fields.optional_bool("tie_word_embeddings").unwrap_or(family == BITNET),
        trained_int8: quantization.as_ref().is_some_and(|q| !q.keeps_every_projection()),
        bos: int_list(json, "bos_token_id").first().copied(),
        eos: eos.unwrap_or_else(|| int_list(json, "eos_token_id")),
    };
    Ok((config.check()?, quantization))
}

fn architecture(json: &Value) -> Result<String, ModelError> {
    let named = json.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
    let by_type = || match json.get("model_type").and_then(Value::as_str) {
        Some("bitnet") => Some("BitNetForCausalLM"),
        Some("llama") => Some("LlamaForCausalLM"),
        Some("qwen3") => Some("Qwen3ForCausalLM"),
        _ => None,
    };
    named.or_else(by_type).map(str::to_owned).ok_or_else(|| {
        ModelError::config("architectures in config.json", "the name of a model class", "none")
    })
}

/// BitNet quantization by `quantization_config`, or by what the class is known to be trained with.
fn quantization(json: &Value, architecture: &str) -> Result<Option<Quantization>, ModelError> {
    let Some(q) = json.get("quantization_config").filter(|q| !q.is_null()) else {
        // The BitNet classes have no float twin: without further words their floats are masters.
        let masters = architecture.to_ascii_lowercase().starts_with("bitnet");
        return Ok(masters.then(|| Quantization {
            scale: ScaleMeaning::Multiply,
            online: true,
            head: false,
            keep: Vec::new(),
        }));
    };
    let text = |key: &str| q.get(key).and_then(Value::as_str);
    match text("quant_method") {
        Some("bitnet") => {}
        other => {
            return Err(ModelError::Unsupported {
                what: format!("a model quantized with {}", other.unwrap_or("an unnamed method")),
                cure: "take a BitNet (`quant_method: bitnet`) copy of it".into(),
            });
        }
    }
    let scale = match text("linear_class").unwrap_or("bitlinear") {
        "bitlinear" => ScaleMeaning::Divide,
        "autobitlinear" => ScaleMeaning::Multiply,
        other => return Err(ModelError::config("linear_class", "bitlinear or autobitlinear", other)),
    };
    let online = match text("quantization_mode").unwrap_or("offline") {
        "offline" => false,
        "online" => true,
        other => return Err(ModelError::config("quantization_mode", "offline or online", other)),
    };
    let listed = q.get("modules_to_not_convert").and_then(Value::as_array);
    let pattern = |text: &str| Pattern {
        text: text.to_owned(),
        // An entry that is no expression still matches as the end of a name.
        regex: Regex::new(&format!("^(?:{text})")).ok(),
    };
    let keep = listed.into_iter().flatten().filter_map(Value::as_str).map(pattern).collect();
    let mut quantization = Quantization { scale, online, head: false, keep };
    quantization.head = listed.is_some() && !quantization.keeps_dense("lm_head");
    Ok(Some(quantization))
}

/// The epsilon of `use_rms_norm`'s norms, which the class takes from `quantization_config`.
fn input_norm_eps(json: &Value) -> Result<Option<f32>, ModelError> {
    let Some(q) = json.get("quantization_config").filter(|q| q.is_object()) else { return Ok(None) };
    let fields = Fields::new(q, "quantization_config")?;
    match fields.optional_bool("use_rms_norm") {
        Some(true) => Ok(Some(fields.optional_number("rms_norm_eps")?.unwrap_or(1e-6))),
        _ => Ok(None),
    }
}

fn activation(name: &str) -> Result<GateActivation, ModelError> {
    match name {
        "silu" | "swish" => Ok(GateActivation::Silu),
        "relu2" => Ok(GateActivation::SquaredRelu),
        other => Err(ModelError::config("hidden_act", "silu or relu2", other)),
    }
}

/// Attention that does not see all earlier positions would silently be computed wrongly.
fn refuse_windows(json: &Value) -> Result<(), ModelError> {
    let set = |key: &str| json.get(key).is_some_and(|v| !v.is_null());
    let off = json.get("use_sliding_window") == Some(&Value::Bool(false));
    let sliding = json.get("use_sliding_window") == Some(&Value::Bool(true));
    if sliding || set("sliding_window") && !off {
        return Err(ModelError::Unsupported {
            what: "a model with sliding-window attention".into(),
            cure: "only full attention is implemented".into(),
        });
    }
    Ok(())
}

/// `rope_theta` and `rope_scaling`, or the newer `rope_parameters` that hold both.
fn rope(json: &Value, default_theta: f32) -> Result<Rope, ModelError> {
    let object = |key: &str| json.get(key).filter(|v| v.is_object());
    let scaling = object("rope_parameters").or_else(|| object("rope_scaling"));
    let theta = number(json.get("rope_theta")).or_else(|| number(scaling.and_then(|s| s.get("rope_theta"))));
    let theta = theta.unwrap_or(default_theta);
    let Some(scaling) = scaling else { return Ok(Rope { theta, scaling: RopeScaling::None }) };
    let fields = Fields::new(scaling, "rope_scaling")?;
    let kind = fields.optional_str("rope_type").or_else(|| fields.optional_str("type")).unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: fields.number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: fields.number("factor")?,
            low: fields.number("low_freq_factor")?,
            high: fields.number("high_freq_factor")?,
            original_context: fields.number("original_max_position_embeddings")?,
        },
        "longrope" => RopeScaling::Divisors(long_rope(scaling)?),
        other => {
            return Err(ModelError::Unsupported {
                what: format!("a model with '{other}' rope scaling"),
                cure: "default, linear, llama3, and longrope with the same factors for short and long texts are implemented".into(),
            });
        }
    };
    Ok(Rope { theta, scaling })
}

/// The divisors of longrope, when they do not depend on the length of a text, and nothing else is scaled.
fn long_rope(scaling: &Value) -> Result<Vec<f32>, ModelError> {
    let list = |key: &str| -> Option<Vec<f32>> {
        scaling.get(key)?.as_array()?.iter().map(|v| number(Some(v))).collect()
    };
    let (short, long) = (list("short_factor"), list("long_factor"));
    match short {
        Some(divisors)
            if Some(&divisors) == long.as_ref() && number(scaling.get("attention_factor")) == Some(1.0) =>
        {
            Ok(divisors)
        }
        _ => Err(ModelError::Unsupported {
            what: "a model whose rotary frequencies depend on the length of the text".into(),
            cure:
                "longrope is implemented where short_factor and long_factor agree and attention_factor is 1"
                    .into(),
        }),
    }
}

/// A token id or a list of them.
fn int_list(json: &Value, key: &str) -> Vec<u32> {
    match json.get(key) {
        Some(Value::Array(items)) => items.iter().filter_map(|v| int(Some(v))).collect(),
        one => int(one).into_iter().collect(),
    }
}

/// The names a part may have, most usual first.
pub fn names(part: Part) -> Vec<String> {
    let one = |name: String| vec![name];
    match part {
        Part::Embedding => one("model.embed_tokens.weight".into()),
        Part::FinalNorm => one("model.norm.weight".into()),
        Part::Head => one("lm_head.weight".into()),
        Part::Norm(layer, norm) => {
            // 1bitLLM names its sub-norms after the paper's figure.
            let tails: &[&str] = match norm {
                Norm::Attention => &["input_layernorm"],
                Norm::Query => &["self_attn.q_norm"],
                Norm::Key => &["self_attn.k_norm"],
                Norm::AttentionSub => &["self_attn.attn_sub_norm", "self_attn.inner_attn_ln"],
                Norm::Ffn => &["post_attention_layernorm"],
                Norm::FfnSub => &["mlp.ffn_sub_norm", "mlp.ffn_layernorm"],
            };
            tails.iter().map(|tail| format!("model.layers.{layer}.{tail}.weight")).collect()
        }
        Part::Weight(layer, projection) => one(format!("{}.weight", module(layer, projection))),
        Part::Bias(layer, projection) => one(format!("{}.bias", module(layer, projection))),
        Part::InputNorm(layer, projection) => one(format!("{}.rms_norm.weight", module(layer, projection))),
    }
}

/// The module of a projection, as patterns of `modules_to_not_convert` see it.
pub fn module(layer: usize, projection: Projection) -> String {
    let tail = match projection {
        Projection::Query => "self_attn.q_proj",
        Projection::Key => "self_attn.k_proj",
        Projection::Value => "self_attn.v_proj",
        Projection::Output => "self_attn.o_proj",
        Projection::Gate => "mlp.gate_proj",
        Projection::Up => "mlp.up_proj",
        Projection::Down => "mlp.down_proj",
    };
    format!("model.layers.{layer}.{tail}")
}
