//! Keys that change what a decoder computes and that this engine has no switch for: each is refused by name unless it says what
//! is computed anyhow. `transformers` and llama.cpp know these keys, for one class or another.

use crate::error::SourceError;

/// What a key may say without changing anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Neutral {
    /// Nothing, 0 or false: it is off.
    Off,
    /// 1: a factor that changes nothing.
    One,
    /// True.
    True,
    /// The dimension of a head.
    HeadDim,
    /// What attention divides its scores by, as a factor: `1 / sqrt(head_dim)`.
    InverseRootHeadDim,
    /// Width of the residual stream.
    Hidden,
    /// The square root of the number of layers.
    RootLayers,
}
use Neutral::{HeadDim, Hidden, InverseRootHeadDim, Off, One, RootLayers, True};

/// A key and what it stands for.
pub(super) struct Rule {
    /// The key in `config.json`, or behind the architecture's name in GGUF.
    pub(super) key: &'static str,
    pub(super) neutral: Neutral,
    /// What a model with it is: "a model with ..." follows "this is".
    pub(super) what: &'static str,
}

const fn rule(key: &'static str, neutral: Neutral, what: &'static str) -> Rule {
    Rule { key, neutral, what }
}

const EXPERTS: &str = "a mixture of experts";
const SOFT_CAP: &str = "a model with soft-capped logits";
const SCALED: &str = "a model with scaled embeddings, residuals or logits";
const ATTENTION_SCALE: &str = "a model with another scale of attention";
const PARTIAL: &str = "a model that rotates a part of each head";
const PARALLEL: &str = "a model with attention beside its feed-forward layers";
const ALIBI: &str = "a model with ALiBi";
const SKIPS: &str = "a model that leaves out layers or parts of them";
const CLIPPED: &str = "a model with clipped queries, keys and values";
const NOT_CAUSAL: &str = "a model that does not look at earlier tokens only";
const LATENT: &str = "a model with latent attention";
const WINDOW: &str = "a model with sliding-window attention";
const GATED: &str = "a model with gated attention or attention sinks";
const SHARED: &str = "a model whose layers share keys and values";
const NORMS: &str = "a model with another kind of norm";
const STATE: &str = "a model with recurrent layers";
const NEIGHBOURS: &str = "a model that rotates neighbouring dimensions";
const UNROTATED: &str = "a model with layers without rotation";

/// Keys of `config.json`.
pub(super) const CONFIG_JSON: &[Rule] = &[
    rule("num_experts", Off, EXPERTS),
    rule("num_local_experts", Off, EXPERTS),
    rule("n_routed_experts", Off, EXPERTS),
    rule("moe_num_experts", Off, EXPERTS),
    rule("n_shared_experts", Off, EXPERTS),
    rule("attn_logit_softcapping", Off, SOFT_CAP),
    rule("attn_logit_softcap", Off, SOFT_CAP),
    rule("attention_logit_softcapping", Off, SOFT_CAP),
    rule("final_logit_softcapping", Off, SOFT_CAP),
    rule("final_logit_softcap", Off, SOFT_CAP),
    rule("logit_softcapping", Off, SOFT_CAP),
    rule("logits_soft_cap", Off, SOFT_CAP),
    rule("embedding_multiplier", One, SCALED),
    rule("embedding_scale", One, SCALED),
    rule("scale_embedding", Off, SCALED),
    rule("scale_emb", One, SCALED),
    rule("embed_scale", One, SCALED),
    rule("residual_multiplier", One, SCALED),
    rule("residual_scale", One, SCALED),
    rule("scale_depth", RootLayers, SCALED),
    rule("dim_model_base", Hidden, SCALED),
    rule("logits_scaling", One, SCALED),
    rule("logit_scale", One, SCALED),
    rule("logits_scale", One, SCALED),
    rule("lm_head_multiplier", One, SCALED),
    rule("mup_width_multiplier", One, SCALED),
    rule("mup_width_scale", One, SCALED),
    rule("mup_embeddings_scale", One, SCALED),
    rule("mup_output_alpha", One, SCALED),
    rule("key_multiplier", One, SCALED),
    rule("attention_in_multiplier", One, SCALED),
    rule("attention_out_multiplier", One, SCALED),
    rule("mlp_multipliers", One, SCALED),
    rule("attention_multiplier", InverseRootHeadDim, ATTENTION_SCALE),
    rule("attention_scale", InverseRootHeadDim, ATTENTION_SCALE),
    rule("attn_scale", InverseRootHeadDim, ATTENTION_SCALE),
    rule("softmax_scale", InverseRootHeadDim, ATTENTION_SCALE),
    rule("query_pre_attn_scalar", HeadDim, ATTENTION_SCALE),
    rule("attn_temperature_tuning", Off, ATTENTION_SCALE),
    rule("attention_temperature", One, ATTENTION_SCALE),
    rule("scale_attn_weights", True, ATTENTION_SCALE),
    rule("scale_attn_by_inverse_layer_idx", Off, ATTENTION_SCALE),
    rule("clip_qkv", Off, CLIPPED),
    rule("clamp_kqv", Off, CLIPPED),
    rule("partial_rotary_factor", One, PARTIAL),
    rule("rotary_pct", One, PARTIAL),
    rule("rotary_percent", One, PARTIAL),
    rule("rope_pct", One, PARTIAL),
    rule("rotary_dim", HeadDim, PARTIAL),
    rule("rotary_emb_dim", HeadDim, PARTIAL),
    rule("rope_interleaved", Off, NEIGHBOURS),
    rule("rope_interleave", Off, NEIGHBOURS),
    rule("rotary_interleaved", Off, NEIGHBOURS),
    rule("rope_traditional", Off, NEIGHBOURS),
    rule("rope_local_base_freq", Off, WINDOW),
    rule("local_rope_theta", Off, WINDOW),
    rule("no_rope_layer_interval", Off, UNROTATED),
    rule("nope_layer_interval", Off, UNROTATED),
    rule("attention_chunk_size", Off, WINDOW),
    rule("attention_window_size", Off, WINDOW),
    rule("sliding_window_size", Off, WINDOW),
    rule("use_parallel_residual", Off, PARALLEL),
    rule("parallel_residual", Off, PARALLEL),
    rule("parallel_attn", Off, PARALLEL),
    rule("parallel_attention", Off, PARALLEL),
    rule("new_decoder_architecture", Off, PARALLEL),
    rule("alibi", Off, ALIBI),
    rule("use_alibi", Off, ALIBI),
    rule("max_alibi_bias", Off, ALIBI),
    rule("alibi_bias_max", Off, ALIBI),
    rule("skip_layers", Off, SKIPS),
    rule("layers_to_skip", Off, SKIPS),
    rule("skip_layer_ids", Off, SKIPS),
    rule("drop_layers", Off, SKIPS),
    rule("exit_layer", Off, SKIPS),
    rule("early_exit_layer", Off, SKIPS),
    rule("block_configs", Off, SKIPS),
    rule("is_causal", True, NOT_CAUSAL),
    rule("causal", True, NOT_CAUSAL),
    rule("use_bidirectional_attention", Off, NOT_CAUSAL),
    rule("bidirectional", Off, NOT_CAUSAL),
    rule("is_encoder_decoder", Off, NOT_CAUSAL),
    rule("q_lora_rank", Off, LATENT),
    rule("kv_lora_rank", Off, LATENT),
    rule("attn_output_gate", Off, GATED),
    rule("attention_gate", Off, GATED),
    rule("use_attn_gate", Off, GATED),
    rule("use_gated_attention", Off, GATED),
    rule("attention_sink", Off, GATED),
    rule("use_sinks", Off, GATED),
    rule("num_kv_shared_layers", Off, SHARED),
    rule("cla_share_factor", One, SHARED),
    rule("zero_centered_norm", Off, NORMS),
    rule("rms_norm_add_unit_offset", Off, NORMS),
    rule("apply_layernorm_1p", Off, NORMS),
    rule("full_attention_interval", One, STATE),
];

/// Keys of GGUF, behind the architecture's name. The number 0 means that there is no such thing.
pub(super) const GGUF: &[Rule] = &[
    rule("expert_used_count", Off, EXPERTS),
    rule("expert_shared_count", Off, EXPERTS),
    rule("attn_logit_softcapping", Off, SOFT_CAP),
    rule("final_logit_softcapping", Off, SOFT_CAP),
    rule("router_logit_softcapping", Off, SOFT_CAP),
    rule("embedding_scale", One, SCALED),
    rule("residual_scale", One, SCALED),
    rule("logit_scale", One, SCALED),
    rule("attention.output_scale", One, SCALED),
    rule("attention.value_scale", One, SCALED),
    rule("attention.scale", InverseRootHeadDim, ATTENTION_SCALE),
    rule("attention.temperature_length", Off, ATTENTION_SCALE),
    rule("attention.temperature_scale", Off, ATTENTION_SCALE),
    rule("attention.clamp_kqv", Off, CLIPPED),
    rule("attention.max_alibi_bias", Off, ALIBI),
    rule("attention.causal", True, NOT_CAUSAL),
    rule("attention.sliding_window_pattern", Off, WINDOW),
    rule("attention.chunk_size", Off, WINDOW),
    rule("attention.q_lora_rank", Off, LATENT),
    rule("attention.kv_lora_rank", Off, LATENT),
    rule("attention.shared_kv_layers", Off, SHARED),
    rule("use_parallel_residual", Off, PARALLEL),
    rule("swin_norm", Off, NORMS),
    rule("attention.group_norm_groups", Off, NORMS),
    rule("rope.dimension_sections", Off, "a model with positions in several dimensions"),
    rule("rope.scaling.alpha", Off, "a model with rotary frequencies scaled by alpha"),
    rule("rope.freq_base_swa", Off, WINDOW),
    rule("full_attention_interval", One, STATE),
    rule("ssm.inner_size", Off, STATE),
    rule("ssm.state_size", Off, STATE),
    rule("wkv.head_size", Off, STATE),
    rule("shortconv.l_cache", Off, STATE),
    rule("nextn_predict_layers", Off, "a model with layers that predict several tokens"),
    rule("n_deepstack_layers", Off, "a model with layers that take images"),
    rule("embedding_length_per_layer_input", Off, "a model with embeddings in every layer"),
    rule("hyper_connection.count", Off, "a model with several residual streams"),
    rule("attention.indexer.head_count", Off, "a model with sparse attention"),
];

/// What a file says under a key, in whichever form.
pub(super) enum Said {
    Number(f64),
    Bool(bool),
    /// A list, with the numbers in it where it has no others.
    List(Option<Vec<f64>>),
    /// Anything else.
    Other,
}

/// The sizes that neutral values are told by.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) head_dim: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
}

impl Rule {
    /// Refuses what would have to be computed otherwise. `key` is the whole key, `shown` what it says, and `place` the file.
    pub(super) fn check(&self, said: &Said, sizes: Sizes, key: &str, shown: &str) -> Result<(), SourceError> {
        let near = |x: f64, y: f64| (x - y).abs() <= 1e-6 * y.abs();
        let neutral = match (self.neutral, said) {
            (_, Said::Other) => {
                return Err(SourceError::config(key, "a number, a list, or true or false", shown));
            }
            (Off, Said::Number(x)) => *x == 0.0,
            (Off, Said::Bool(yes)) => !yes,
            (Off, Said::List(numbers)) => numbers.as_ref().is_some_and(|list| list.iter().all(|x| *x == 0.0)),
            (True, Said::Bool(yes)) => *yes,
            // Where a file says that there is no such factor.
            (One | InverseRootHeadDim | RootLayers | Hidden | HeadDim, Said::Bool(false)) => true,
            (One, Said::Number(x)) => *x == 1.0,
            (One, Said::List(numbers)) => numbers.as_ref().is_some_and(|list| list.iter().all(|x| *x == 1.0)),
            (HeadDim, Said::Number(x)) => *x == sizes.head_dim as f64,
            (Hidden, Said::Number(x)) => *x == sizes.hidden as f64,
            (InverseRootHeadDim, Said::Number(x)) => near(*x, 1.0 / (sizes.head_dim as f64).sqrt()),
            (RootLayers, Said::Number(x)) => near(*x, (sizes.layers as f64).sqrt()),
            _ => false,
        };
        if neutral {
            return Ok(());
        }
        Err(SourceError::Unsupported {
            what: format!("{} ({key} is {shown})", self.what),
            cure: "it computes plain Llama-, Qwen- and BitNet-class blocks; take a model of such a class"
                .into(),
        })
    }
}
