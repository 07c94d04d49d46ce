//! GGUF files: keys and tensor names of llama.cpp and its BitNet forks.

use bitnet_format::{GgufKeys, GgufMetadata};
use bitnet_model::{Config, GateActivation, Norm, Part, Projection, Rope};

use super::{BITNET, BITNET_B158, LLAMA, QWEN2, QWEN3, QWEN35, huggingface};
use crate::error::SourceError;

mod hybrid;
mod refusals;
mod rope;
mod sizes;

use hybrid::NEXTN_KEY;
pub use rope::{LLAMA3_ROPE_KEY, YARN_ROPE_KEY};
use sizes::to_size;

/// The key under which our own converter says what activations the model was trained with.
pub const ACTIVATIONS_KEY: &str = "bitnet.activations";
/// Its value for int8, one step per token.
pub const INT8_PER_TOKEN: &str = "int8_per_token";
/// Its value for float.
pub const FLOAT: &str = "float";
/// Our converter's key with all stop tokens; llama.cpp's own keys name at most two.
pub const STOP_TOKENS_KEY: &str = "bitnet.eos_token_ids";
/// Our converter's key with the epsilon of norms in front of projections; those of the other norms where it is missing.
pub const INPUT_NORM_KEY: &str = "bitnet.input_norm_epsilon";

/// What a GGUF architecture string stands for.
pub(crate) fn family(architecture: &str) -> Option<&'static str> {
    match architecture {
        "bitnet-b1.58" | "bitnet-25" => Some(BITNET_B158),
        "bitnet" => Some(BITNET),
        "llama" => Some(LLAMA),
        "qwen2" => Some(QWEN2),
        "qwen3" => Some(QWEN3),
        "qwen35" => Some(QWEN35),
        _ => None,
    }
}

/// What `metadata` says the file is.
///
/// # Errors
/// [`SourceError::Unsupported`] for what is no decoder of an architecture in the table of families.
pub(crate) fn known(metadata: &GgufMetadata) -> Result<&str, SourceError> {
    // Adapters name the architecture of their base, projectors one of their own: the kind is told first.
    let architecture = metadata.opt_str("general.architecture")?.unwrap_or("");
    refusals::kinds(metadata, architecture)?;
    let architecture = metadata.architecture()?;
    match family(architecture) {
        Some(_) => Ok(architecture),
        None => Err(SourceError::Unsupported {
            what: format!("a GGUF of architecture '{architecture}'"),
            cure: "it runs bitnet, bitnet-b1.58, bitnet-25, llama, qwen2, qwen3 and qwen35".into(),
        }),
    }
}

/// The key that says which nonlinearity the gate has.
fn activation_key(architecture: &str) -> String {
    format!("{architecture}.hidden_activation")
}

/// A word of doubt where a file's gate is taken to be its architecture's, and the file looks like one of another: converters
/// have written BitNet b1.58 2B-4T, with its squared ReLU, under the architecture of 1bitLLM's models.
pub(crate) fn doubt(metadata: &GgufMetadata, config: &Config) -> Option<String> {
    const LLAMA3_VOCABULARY: usize = 128_256;
    let looks = config.family == BITNET
        && config.vocab == LLAMA3_VOCABULARY
        && metadata.get(&activation_key(BITNET)).is_none();
    looks.then(|| {
        format!(
            "architecture 'bitnet' without {}, with Llama 3's vocabulary: this is probably a BitNet b1.58 2B-4T, whose gates \
             are squared ReLUs, and it is computed with SiLU; convert it anew from its Hugging Face form",
            activation_key(BITNET)
        )
    })
}

/// Reads the hyper-parameters.
///
/// `vocab` is the number of the embedding's rows, `head` whether the file has a head of its own, `input_norms` whether it has
/// norms in front of projections, `rope_divisors` the `rope_freqs` tensor where there is one, and `fine_scales` whether any projection has more than one scale (which no
/// model trained with int8 activations has).
///
/// # Errors
/// [`SourceError::Unsupported`] for an architecture that is not in the table of families.
pub(crate) fn config(
    metadata: &GgufMetadata,
    vocab: usize,
    head: bool,
    input_norms: bool,
    rope_divisors: Option<Vec<f32>>,
    fine_scales: bool,
) -> Result<Config, SourceError> {
    let architecture = known(metadata)?;
    // `known` has found it.
    let family = family(architecture).unwrap_or(LLAMA);
    let key = |tail: &str| format!("{architecture}.{tail}");
    let size = |tail: &str| -> Result<usize, SourceError> { to_size(&key(tail), metadata.u64(&key(tail))?) };
    let optional = |tail: &str| -> Result<Option<usize>, SourceError> {
        metadata.opt_u64(&key(tail))?.map(|n| to_size(&key(tail), n)).transpose()
    };
    let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let head_dim = match optional("attention.key_length")? {
        Some(dim) => dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None if heads == 0 => {
            return Err(SourceError::config(key("attention.head_count"), "1 or more", heads));
        }
        None => {
            return Err(SourceError::config(
                key("embedding_length"),
                format!("a multiple of {heads} heads"),
                hidden,
            ));
        }
    };
    let hybrid = family == QWEN35;
    let rotary_dim = optional("rope.dimension_count")?.unwrap_or(head_dim);
    let rotated = (!hybrid).then_some(("rotated dimensions", Some(rotary_dim)));
    let sizes = [("value length", optional("attention.value_length")?)];
    for (what, said) in sizes.into_iter().chain(rotated) {
        if let Some(n) = said.filter(|&n| n != head_dim) {
            return Err(SourceError::config(what, format!("the head dimension, {head_dim}"), n));
        }
    }
    // The blocks that draft tokens are counted, and stand last.
    let drafting = drafting_blocks(metadata)?;
    let blocks = size("block_count")?;
    let layers = blocks.checked_sub(drafting).ok_or_else(|| {
        SourceError::config(key(NEXTN_KEY), format!("at most the {blocks} blocks there are"), drafting)
    })?;
    let theta = metadata.opt_f32(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let norm_eps = metadata.f32(&key("attention.layer_norm_rms_epsilon"))?;
    let context = optional("context_length")?.unwrap_or(2048);
    let default_activation =
        if family == BITNET_B158 { GateActivation::SquaredRelu } else { GateActivation::Silu };
    let named = metadata.opt_str(&activation_key(architecture))?;
    let activation =
        named.map(|name| huggingface::activation(&activation_key(architecture), name)).transpose()?;
    let config = Config {
        family,
        hidden,
        ffn: size("feed_forward_length")?,
        layers,
        heads,
        kv_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        rotary_dim,
        gated_attention: hybrid,
        recurrent: if hybrid {
            Some(hybrid::recurrent(metadata, architecture, layers, drafting)?)
        } else {
            None
        },
        fold: None,
        vocab,
        context,
        norm_eps,
        rope: Rope { theta, scaling: rope::scaling(metadata, architecture, rope_divisors, context)? },
        activation: activation.unwrap_or(default_activation),
        sub_norms: matches!(family, BITNET | BITNET_B158),
        qk_norms: matches!(family, QWEN3 | QWEN35),
        input_norm_eps: match input_norms {
            true => Some(metadata.opt_f32(INPUT_NORM_KEY)?.unwrap_or(norm_eps)),
            false => None,
        },
        tied_head: !head,
        trained_int8: trained_int8(metadata, family, fine_scales)?,
        bos: metadata.opt_u64("tokenizer.ggml.bos_token_id")?.and_then(|id| u32::try_from(id).ok()),
        eos: stop_tokens(metadata)?,
    };
    refusals::arithmetic(metadata, architecture, &config)?;
    Ok(config.check()?)
}

/// How many blocks at the end of the file draft tokens.
pub(crate) fn drafting_blocks(metadata: &GgufMetadata) -> Result<usize, SourceError> {
    let architecture = metadata.architecture()?;
    let key = format!("{architecture}.{NEXTN_KEY}");
    match family(architecture) {
        Some(QWEN35) => metadata.opt_u64(&key)?.map_or(Ok(0), |n| to_size(&key, n)),
        _ => Ok(0),
    }
}

fn stop_tokens(metadata: &GgufMetadata) -> Result<Vec<u32>, SourceError> {
    if let Some(ids) = metadata.opt_i64s(STOP_TOKENS_KEY)? {
        return Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect());
    }
    let mut ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        ids.extend(metadata.opt_u64(key)?.and_then(|id| u32::try_from(id).ok()));
    }
    Ok(ids)
}

/// Whether the model was trained with int8 activations. Files do not say, ours excepted: BitNet architectures were;
/// Llama- and Qwen2-class files are conversions of BitNet fine-tunes, unless several scales in a matrix or the name
/// give away a TriLM; Qwen3-class ternary models were not.
fn trained_int8(metadata: &GgufMetadata, family: &str, fine_scales: bool) -> Result<bool, SourceError> {
    if let Some(said) = metadata.opt_str(ACTIVATIONS_KEY)? {
        return match said {
            INT8_PER_TOKEN => Ok(true),
            FLOAT => Ok(false),
            other => Err(SourceError::config(ACTIVATIONS_KEY, format!("{INT8_PER_TOKEN} or {FLOAT}"), other)),
        };
    }
    let name = metadata.opt_str("general.name")?.unwrap_or("").to_ascii_lowercase();
    Ok(match family {
        BITNET | BITNET_B158 => true,
        LLAMA | QWEN2 => !fine_scales && !name.contains("trilm"),
        _ => false,
    })
}

/// Writes the hyper-parameters of `config` as keys of `architecture`, under the names by which files are read.
pub fn to_keys(config: &Config, architecture: &str, keys: &mut GgufKeys) {
    let key = |tail: &str| format!("{architecture}.{tail}");
    // Configurations are checked: no size is beyond 2^26.
    let sizes = [
        ("vocab_size", config.vocab),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.ffn),
        ("rope.dimension_count", config.head_dim),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ];
    for (tail, size) in sizes {
        keys.u32(&key(tail), u32::try_from(size).unwrap_or(u32::MAX));
    }
    keys.f32(&key("attention.layer_norm_rms_epsilon"), config.norm_eps);
    keys.f32(&key("rope.freq_base"), config.rope.theta);
    rope::to_keys(&config.rope.scaling, architecture, keys);
    let activations = if config.trained_int8 { INT8_PER_TOKEN } else { FLOAT };
    keys.str(ACTIVATIONS_KEY, activations);
    if let Some(eps) = config.input_norm_eps {
        keys.f32(INPUT_NORM_KEY, eps);
    }
}

/// The name of a part.
pub fn name(part: Part) -> String {
    let block = |layer: usize, stem: &str, tail: &str| format!("blk.{layer}.{stem}.{tail}");
    match part {
        Part::Embedding => "token_embd.weight".into(),
        Part::FinalNorm => "output_norm.weight".into(),
        Part::Head => "output.weight".into(),
        Part::Norm(layer, norm) => {
            let stem = match norm {
                Norm::Attention => "attn_norm",
                Norm::Query => "attn_q_norm",
                Norm::Key => "attn_k_norm",
                Norm::AttentionSub => "attn_sub_norm",
                Norm::Ffn => "ffn_norm",
                Norm::FfnSub => "ffn_sub_norm",
                Norm::DeltaOutput => "ssm_norm",
            };
            block(layer, stem, "weight")
        }
        Part::Weight(layer, projection) => block(layer, stem(projection), "weight"),
        Part::Bias(layer, projection) => block(layer, stem(projection), "bias"),
        Part::InputNorm(layer, projection) => {
            block(layer, &format!("{}_norm_in", stem(projection)), "weight")
        }
        Part::Convolution(layer) => block(layer, "ssm_conv1d", "weight"),
        Part::DecayRate(layer) => format!("blk.{layer}.ssm_a"),
        Part::DecayBias(layer) => block(layer, "ssm_dt", "bias"),
    }
}

/// The name of a part in a file of `family`.
pub(crate) fn name_in(family: &str, part: Part) -> String {
    match part {
        Part::Norm(layer, Norm::Ffn) if family == QWEN35 => format!("blk.{layer}.post_attention_norm.weight"),
        part => name(part),
    }
}

/// The optional tensor with a factor of a projection's scale.
pub fn scale_name(layer: usize, projection: Projection) -> String {
    format!("blk.{layer}.{}.scale", stem(projection))
}

fn stem(projection: Projection) -> &'static str {
    match projection {
        // Queries and their gates are rows of one matrix.
        Projection::Query | Projection::AttentionGate => "attn_q",
        Projection::Key => "attn_k",
        Projection::Value => "attn_v",
        Projection::Output => "attn_output",
        Projection::Gate => "ffn_gate",
        Projection::Up => "ffn_up",
        Projection::Down => "ffn_down",
        Projection::DeltaInput => "attn_qkv",
        Projection::DeltaGate => "attn_gate",
        Projection::DeltaBeta => "ssm_beta",
        Projection::DeltaDecay => "ssm_alpha",
        Projection::DeltaOutput => "ssm_out",
    }
}

/// Where each row of the half-split rotary order stands in a file of architecture `llama`, whose converter
/// interleaves the halves of every head: row `2 i + half` there is row `half * head_dim / 2 + i` here.
pub fn half_split_order(heads: usize, head_dim: usize) -> Vec<usize> {
    let rows =
        (0..heads).flat_map(|h| (0..2).flat_map(move |half| (0..head_dim / 2).map(move |i| (h, half, i))));
    rows.map(|(h, half, i)| h * head_dim + 2 * i + half).collect()
}

/// The inverse of [`half_split_order`]: where each row of such a file stands in the half-split order.
pub fn interleaved_order(heads: usize, head_dim: usize) -> Vec<usize> {
    let rows = (0..heads).flat_map(|h| (0..head_dim).map(move |r| (h, r)));
    rows.map(|(h, r)| h * head_dim + r % 2 * (head_dim / 2) + r / 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_orders_undo_each_other() {
        let (to, from) = (half_split_order(3, 8), interleaved_order(3, 8));
        assert_eq!(to[..8], [0, 2, 4, 6, 1, 3, 5, 7]);
        assert!((0..24).all(|i| to[from[i]] == i));
    }
}
