//! Attention: what mixes the positions of most blocks.
//!
//! ```text
//! q, k, v = BitLinear(x);  q, k = rope(q, k)
//! y = BitLinear(sub_norm(attention(q, k, v)))
//! ```
//!
//! Gated attention (Qwen3.5) multiplies the result with `sigmoid(BitLinear_gate(x))`.

use crate::{
    BitLinear,
    linear::project,
    state::{AttentionRooms, State},
};
use bitnet_device::{Device, Pass, Stage};
use bitnet_model::Config;

/// The parameters of one block's attention.
pub(crate) struct Attention<D: Device> {
    /// Its place among the blocks that keep keys and values.
    pub(crate) index: usize,
    pub(crate) query: BitLinear<D>,
    pub(crate) key: BitLinear<D>,
    pub(crate) value: BitLinear<D>,
    /// The gate of the result.
    pub(crate) gate: Option<BitLinear<D>>,
    /// Norms of query and key heads.
    pub(crate) qk_norms: Option<(D::Vector, D::Vector)>,
    pub(crate) sub_norm: Option<D::Vector>,
    pub(crate) output: BitLinear<D>,
}

impl<D: Device> Attention<D> {
    /// Its projections, in no promised order.
    pub(crate) fn projections(&self) -> impl Iterator<Item = &BitLinear<D>> {
        [&self.query, &self.key, &self.value, &self.output].into_iter().chain(&self.gate)
    }

    /// Mixes the normed rows in `s.x` and leaves the result there.
    pub(crate) fn run(
        &self,
        (c, layer): (&Config, usize),
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        tokens: usize,
    ) {
        let State { x, angles, own, sides, attention: rooms, .. } = s;
        let AttentionRooms { q, k, v, gate, scratch, result } = rooms;
        project(
            pass,
            x,
            &mut own.hidden,
            sides,
            tokens,
            [(&self.query, &mut *q), (&self.key, k), (&self.value, v)],
        );
        pass.look(Stage::Query(layer), q, tokens);
        pass.look(Stage::Key(layer), k, tokens);
        pass.look(Stage::Value(layer), v, tokens);

        if let Some((query_norm, key_norm)) = &self.qk_norms {
            pass.rms_norm_heads(q, tokens, query_norm, c.norm_eps);
            pass.rms_norm_heads(k, tokens, key_norm, c.norm_eps);
            pass.look(Stage::QueryNorm(layer), q, tokens);
            pass.look(Stage::KeyNorm(layer), k, tokens);
        }
        pass.rope(q, tokens, c.head_dim, angles);
        pass.rope(k, tokens, c.head_dim, angles);
        pass.append(self.index, k, v);
        pass.attend(self.index, q, scratch, result.fresh());
        if let Some(norm) = &self.sub_norm {
            // The queries are spent: their buffer takes attention's result while it is normed.
            std::mem::swap(q, &mut result.rows);
            pass.rms_norm(q, tokens, norm, c.norm_eps, result.fresh());
        }
        if let (Some(linear), Some(gate)) = (&self.gate, gate) {
            project(pass, x, &mut own.hidden, sides, tokens, [(linear, &mut *gate)]);
            pass.look(Stage::AttentionGate(layer), gate, tokens);
            pass.sigmoid_gate(gate, &result.rows, tokens);
            std::mem::swap(gate, result.fresh());
        }
        pass.look(Stage::OutputInput(layer), &result.rows, tokens);
        project(pass, result, &mut own.attention, sides, tokens, [(&self.output, x.fresh())]);
        pass.look(Stage::Output(layer), &x.rows, tokens);
    }
}
