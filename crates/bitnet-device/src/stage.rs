//! Points of a forward pass that an observer can look at.

use std::fmt;

/// Where in the decoder some rows were made. The names that it displays are those of `transformers`' modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Embedding rows.
    Embedding,
    /// After the norm before attention.
    AttentionNorm(usize),
    /// Queries before norm and rotation.
    Query(usize),
    /// Keys before norm and rotation.
    Key(usize),
    /// Values.
    Value(usize),
    /// Queries after their norm (Qwen3).
    QueryNorm(usize),
    /// Keys after their norm (Qwen3).
    KeyNorm(usize),
    /// The gate of attention's result, before its sigmoid (Qwen3.5).
    AttentionGate(usize),
    /// Queries, keys and values of a recurrent block, before its convolution.
    DeltaInput(usize),
    /// The gate of a recurrent block's result, before its nonlinearity.
    DeltaGate(usize),
    /// What a recurrent block's output projection takes: the result, normed and gated.
    DeltaOutputInput(usize),
    /// A recurrent block's output projection.
    DeltaOutput(usize),
    /// What the output projection takes: attention, after the sub-norm or the gate where there is one.
    OutputInput(usize),
    /// The output projection.
    Output(usize),
    /// After the norm before the feed-forward layer.
    FfnNorm(usize),
    /// The gate before its nonlinearity.
    Gate(usize),
    /// The values to be gated. Never seen where rows of the projection are left out.
    Up(usize),
    /// What the down projection takes: gated values, after the sub-norm where there is one.
    DownInput(usize),
    /// The down projection.
    Down(usize),
    /// The residual stream behind the block.
    BlockOutput(usize),
    /// What the head reads.
    FinalNorm,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layer, name) = match self {
            Self::Embedding => return f.write_str("embed"),
            Self::FinalNorm => return f.write_str("final_norm"),
            Self::AttentionNorm(l) => (l, "input_layernorm"),
            Self::Query(l) => (l, "q_proj"),
            Self::Key(l) => (l, "k_proj"),
            Self::Value(l) => (l, "v_proj"),
            Self::QueryNorm(l) => (l, "q_norm"),
            Self::KeyNorm(l) => (l, "k_norm"),
            Self::AttentionGate(l) => (l, "q_proj_gate"),
            Self::DeltaInput(l) => (l, "linear_attn.in_proj_qkv"),
            Self::DeltaGate(l) => (l, "linear_attn.in_proj_z"),
            Self::DeltaOutputInput(l) => (l, "linear_attn.norm"),
            Self::DeltaOutput(l) => (l, "linear_attn.out_proj"),
            Self::OutputInput(l) => (l, "o_proj_in"),
            Self::Output(l) => (l, "o_proj"),
            Self::FfnNorm(l) => (l, "post_attention_layernorm"),
            Self::Gate(l) => (l, "gate_proj"),
            Self::Up(l) => (l, "up_proj"),
            Self::DownInput(l) => (l, "down_proj_in"),
            Self::Down(l) => (l, "down_proj"),
            Self::BlockOutput(l) => (l, "out"),
        };
        write!(f, "l{layer}.{name}")
    }
}
