//! Hugging Face directories: `config.json` and the tensor names of `transformers`.

use bitnet_model::{Config, GateActivation, Norm, Part, Projection};
use regex_lite::Regex;
use serde_json::Value;

use super::{BITNET, BITNET_B158, LLAMA, QWEN2, QWEN3, QWEN35};
use crate::{error::SourceError, json::Fields};

mod class;
pub(crate) mod hybrid;
mod refusals;
mod rope;

use class::{architecture, family};

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
        !self.keep.is_empty() && Projection::PLAIN.iter().all(|&p| self.keeps_dense(&module(0, p)))
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
/// [`SourceError::Unsupported`] for an architecture or a feature that is not in the table of families,
/// [`ModelError::Config`](bitnet_model::ModelError::Config) for values that are missing or cannot be.
pub fn config(
    json: &Value,
    generation: Option<&Value>,
) -> Result<(Config, Option<Quantization>), SourceError> {
    let whole = Fields::new(json, "config.json")?;
    let architecture = architecture(&whole)?;
    let family = family(&architecture)?;
    refusals::forms(&whole)?;
    let fields = Fields::new(if family == QWEN35 { hybrid::text(json) } else { json }, "config.json")?;
    // What is said of the whole model holds for its text.
    let outer = if whole.get("quantization_config").is_some() { &whole } else { &fields };
    let quantization = quantization(outer, &architecture)?;
    let hidden = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    let head_dim = match fields.optional_size("head_dim")? {
        Some(dim) => dim,
        // Qwen3's class has its own default; the others divide.
        None if family == QWEN3 => 128,
        None if family == QWEN35 => 256,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None if heads == 0 => return Err(SourceError::config("num_attention_heads", "1 or more", heads)),
        None => {
            return Err(SourceError::config("hidden_size", format!("a multiple of {heads} heads"), hidden));
        }
    };
    let sub_norms = matches!(family, BITNET | BITNET_B158);
    let context = fields.optional_size("max_position_embeddings")?.unwrap_or(2048);
    let eos = match generation {
        Some(json) => Fields::new(json, "generation_config.json")?.ids("eos_token_id")?,
        None => Vec::new(),
    };
    let layers = fields.size("num_hidden_layers")?;
    let hybrid = family == QWEN35;
    // The defaults of the classes in `transformers`.
    let default_theta = if family == BITNET_B158 { 500_000.0 } else { 10_000.0 };
    let config = Config {
        family,
        hidden,
        ffn: fields.size("intermediate_size")?,
        layers,
        heads,
        kv_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        rotary_dim: if hybrid { hybrid::rotary_dim(&fields, head_dim)? } else { head_dim },
        gated_attention: hybrid,
        recurrent: if hybrid { Some(hybrid::recurrent(&fields, layers)?) } else { None },
        fold: None,
        vocab: fields.size("vocab_size")?,
        context,
        norm_eps: fields.optional_number("rms_norm_eps")?.unwrap_or(if sub_norms { 1e-5 } else { 1e-6 }),
        rope: rope::read(&fields, default_theta, context, hybrid)?,
        activation: gate(&fields, family)?,
        sub_norms,
        qk_norms: matches!(family, QWEN3 | QWEN35),
        input_norm_eps: input_norm_eps(outer)?,
        tied_head: tied(&fields)?.or(tied(&whole)?).unwrap_or(family == BITNET),
        trained_int8: quantization.as_ref().is_some_and(|q| !q.keeps_every_projection()),
        bos: fields.ids("bos_token_id")?.first().copied(),
        eos: if eos.is_empty() { fields.ids("eos_token_id")? } else { eos },
    };
    refusals::arithmetic(&fields, &config)?;
    Ok((config.check()?, quantization))
}

fn tied(fields: &Fields<'_>) -> Result<Option<bool>, SourceError> {
    fields.optional_bool("tie_word_embeddings")
}

/// Which biases the class gives a model of this `config.json`: those of attention's inputs, of its output, of the feed-forward
/// layer.
pub(crate) fn biases(json: &Value) -> Result<[bool; 3], SourceError> {
    let family = family(&architecture(&Fields::new(json, "config.json")?)?)?;
    let fields = Fields::new(if family == QWEN35 { hybrid::text(json) } else { json }, "config.json")?;
    let said = |key: &str| Ok::<bool, SourceError>(fields.optional_bool(key)?.unwrap_or(false));
    let attention = said("attention_bias")?;
    Ok(match family {
        QWEN2 => [true, false, false],
        LLAMA => [attention, attention, said("mlp_bias")?],
        _ => [attention, attention, false],
    })
}

/// BitNet quantization by `quantization_config`, or by what the class is known to be trained with.
fn quantization(fields: &Fields<'_>, architecture: &str) -> Result<Option<Quantization>, SourceError> {
    let Some(q) = fields.optional_object("quantization_config")? else {
        // The BitNet classes have no float twin: without further words their floats are masters.
        let masters = architecture.to_ascii_lowercase().starts_with("bitnet");
        return Ok(masters.then(|| Quantization {
            scale: ScaleMeaning::Multiply,
            online: true,
            head: false,
            keep: Vec::new(),
        }));
    };
    let q = Fields::new(q, "quantization_config")?;
    match q.optional_str("quant_method")? {
        Some("bitnet") => {}
        other => {
            return Err(SourceError::Unsupported {
                what: format!("a model quantized with {}", other.unwrap_or("an unnamed method")),
                cure: "take a BitNet (`quant_method: bitnet`) copy of it, or the floats that it was made of"
                    .into(),
            });
        }
    }
    let scale = match q.optional_str("linear_class")?.unwrap_or("bitlinear") {
        "bitlinear" => ScaleMeaning::Divide,
        "autobitlinear" => ScaleMeaning::Multiply,
        other => return Err(SourceError::config("linear_class", "bitlinear or autobitlinear", other)),
    };
    let online = match q.optional_str("quantization_mode")?.unwrap_or("offline") {
        "offline" => false,
        "online" => true,
        other => return Err(SourceError::config("quantization_mode", "offline or online", other)),
    };
    let listed = q.optional_list("modules_to_not_convert")?;
    let pattern = |entry: &Value| {
        let text = entry.as_str().ok_or_else(|| q.wrong("modules_to_not_convert", "a list of names"))?;
        // An entry that is no expression still matches as the end of a name.
        Ok(Pattern { text: text.to_owned(), regex: Regex::new(&format!("^(?:{text})")).ok() })
    };
    let keep = listed.into_iter().flatten().map(pattern).collect::<Result<_, SourceError>>()?;
    let mut quantization = Quantization { scale, online, head: false, keep };
    quantization.head = listed.is_some() && !quantization.keeps_dense("lm_head");
    Ok(Some(quantization))
}

/// The epsilon of `use_rms_norm`'s norms, which the class takes from `quantization_config`.
fn input_norm_eps(fields: &Fields<'_>) -> Result<Option<f32>, SourceError> {
    let Some(q) = fields.optional_object("quantization_config")? else { return Ok(None) };
    let q = Fields::new(q, "quantization_config")?;
    match q.optional_bool("use_rms_norm")? {
        Some(true) => Ok(Some(q.optional_number("rms_norm_eps")?.unwrap_or(1e-6))),
        _ => Ok(None),
    }
}

/// The gate's nonlinearity: `hidden_act`, or `hidden_activation`, as some classes call it.
fn gate(fields: &Fields<'_>, family: &str) -> Result<GateActivation, SourceError> {
    let default = if family == BITNET_B158 { "relu2" } else { "silu" };
    let (act, activation) = (fields.optional_str("hidden_act")?, fields.optional_str("hidden_activation")?);
    let said = self::activation("hidden_act", act.or(activation).unwrap_or(default))?;
    match activation {
        Some(other) if self::activation("hidden_activation", other)? != said => {
            Err(fields.wrong("hidden_activation", "what hidden_act says"))
        }
        _ => Ok(said),
    }
}

/// The nonlinearity that a file calls `name` under `key`.
pub(super) fn activation(key: &str, name: &str) -> Result<GateActivation, SourceError> {
    match name {
        "silu" | "swish" => Ok(GateActivation::Silu),
        "relu2" => Ok(GateActivation::SquaredRelu),
        other => Err(SourceError::config(key, "silu or relu2", other)),
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
                Norm::DeltaOutput => &["linear_attn.norm"],
            };
            tails.iter().map(|tail| format!("model.layers.{layer}.{tail}.weight")).collect()
        }
        Part::Weight(layer, projection) => one(format!("{}.weight", module(layer, projection))),
        Part::Bias(layer, projection) => one(format!("{}.bias", module(layer, projection))),
        Part::InputNorm(layer, projection) => one(format!("{}.rms_norm.weight", module(layer, projection))),
        Part::Convolution(layer) => one(format!("model.layers.{layer}.linear_attn.conv1d.weight")),
        Part::DecayRate(layer) => one(format!("model.layers.{layer}.linear_attn.A_log")),
        Part::DecayBias(layer) => one(format!("model.layers.{layer}.linear_attn.dt_bias")),
    }
}

/// The module of a projection, as patterns of `modules_to_not_convert` see it.
pub fn module(layer: usize, projection: Projection) -> String {
    let tail = match projection {
        // Queries and their gates are rows of one matrix.
        Projection::Query | Projection::AttentionGate => "self_attn.q_proj",
        Projection::Key => "self_attn.k_proj",
        Projection::Value => "self_attn.v_proj",
        Projection::Output => "self_attn.o_proj",
        Projection::Gate => "mlp.gate_proj",
        Projection::Up => "mlp.up_proj",
        Projection::Down => "mlp.down_proj",
        Projection::DeltaInput => "linear_attn.in_proj_qkv",
        Projection::DeltaGate => "linear_attn.in_proj_z",
        Projection::DeltaBeta => "linear_attn.in_proj_b",
        Projection::DeltaDecay => "linear_attn.in_proj_a",
        Projection::DeltaOutput => "linear_attn.out_proj",
    };
    format!("model.layers.{layer}.{tail}")
}
