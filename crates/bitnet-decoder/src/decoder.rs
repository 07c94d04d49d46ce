//! The decoder: BitNet b1.58 and its relatives, as their papers draw them.
//!
//! A block (arXiv:2504.12285, section 2, with the switches of [`Config`]):
//!
//! ```text
//! x = norm(h);  q, k, v = BitLinear(x);  q, k = rope(q, k)
//! h = h + BitLinear(sub_norm(attention(q, k, v)))
//! x = norm(h)
//! h = h + BitLinear(sub_norm(activation(BitLinear_gate(x)) * BitLinear_up(x)))
//! ```

use crate::{Activated, BitLinear, linear::project, state::State};
use bitnet_device::{Device, DeviceError, Gated, KvShape, Pass, Skipping, Stage};
use bitnet_model::Config;

/// One block of the decoder.
pub struct Block<D: Device> {
    pub(crate) attention_norm: D::Vector,
    pub(crate) query: BitLinear<D>,
    pub(crate) key: BitLinear<D>,
    pub(crate) value: BitLinear<D>,
    /// Norms of query and key heads.
    pub(crate) qk_norms: Option<(D::Vector, D::Vector)>,
    pub(crate) attention_sub_norm: Option<D::Vector>,
    pub(crate) output: BitLinear<D>,
    pub(crate) ffn_norm: D::Vector,
    pub(crate) gate: BitLinear<D>,
    pub(crate) up: BitLinear<D>,
    pub(crate) ffn_sub_norm: Option<D::Vector>,
    pub(crate) down: BitLinear<D>,
}

/// All parameters.
pub struct Weights<D: Device> {
    pub(crate) embedding: D::Matrix,
    pub(crate) blocks: Vec<Block<D>>,
    pub(crate) final_norm: D::Vector,
    /// `None` when tied to the embedding.
    pub(crate) head: Option<D::Matrix>,
    /// Tells which of the head's rows can matter.
    pub(crate) screen: Option<D::Screen>,
    /// The head's form: float for a dense head.
    pub(crate) head_form: bitnet_quant::Activations,
    /// The rank of side paths; 0 where there are none.
    pub(crate) side_rank: usize,
    /// Rotary frequencies, `[head_dim / 2]`.
    pub(crate) frequencies: D::Vector,
}

/// A decoder on a device.
pub struct Model<D: Device> {
    pub(crate) config: Config,
    pub(crate) device: D,
    pub(crate) weights: Weights<D>,
}

impl<D: Device> Model<D> {
    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device it runs on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// How many blocks leave out rows whose gate is closed.
    pub fn skipping_blocks(&self) -> usize {
        let skips = |block: &&Block<D>| block.up.skips_rows(self.config.activation);
        self.weights.blocks.iter().filter(skips).count()
    }

    /// Whether any matrix takes rounded activations: those of trits do, dense ones and blocks of integers take floats.
    pub fn rounds_activations(&self) -> bool {
        let Weights { embedding, blocks, head, .. } = &self.weights;
        let projections = blocks.iter().flat_map(|b| {
            [&b.query, &b.key, &b.value, &b.output, &b.gate, &b.up, &b.down].map(|linear| &linear.weight)
        });
        projections.chain([head.as_ref().unwrap_or(embedding)]).any(|matrix| self.device.is_ternary(matrix))
    }

    /// Runs the model through another handle of the same device from now on: with other threads, for instance.
    pub fn set_device(&mut self, device: D) {
        self.device = device;
    }

    /// The head: the embedding where it is tied.
    pub(crate) fn head(&self) -> &D::Matrix {
        self.weights.head.as_ref().unwrap_or(&self.weights.embedding)
    }

    /// Buffers for steps of up to `tokens` tokens over sequences of up to `context` positions.
    pub(crate) fn state(&self, tokens: usize, context: usize) -> Result<State<D>, DeviceError> {
        State::new(&self.device, &self.config, self.weights.side_rank, tokens, context)
    }

    pub(crate) fn kv_shape(&self) -> KvShape {
        let c = &self.config;
        KvShape { layers: c.layers, heads: c.kv_heads, head_dim: c.head_dim }
    }

    /// All of the model but final norm and head: the residual stream of the batch's `tokens` is in `s.h` then.
    pub(crate) fn blocks(&self, pass: &mut D::Pass<'_>, s: &mut State<D>, tokens: usize) {
        let w = &self.weights;
        pass.embed(&w.embedding, &mut s.h);
        pass.look(Stage::Embedding, &s.h, tokens);
        pass.angles(&w.frequencies, self.config.rope.attention_factor(), &mut s.angles);
        for (layer, block) in w.blocks.iter().enumerate() {
            self.attention(layer, block, pass, s, tokens);
            self.feed_forward(layer, block, pass, s, tokens);
        }
    }

    fn attention(
        &self,
        layer: usize,
        block: &Block<D>,
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        tokens: usize,
    ) {
        let c = &self.config;
        pass.rms_norm(&s.h, tokens, &block.attention_norm, c.norm_eps, s.x.fresh());
        pass.look(Stage::AttentionNorm(layer), &s.x.rows, tokens);

        let pairs = [(&block.query, &mut s.q), (&block.key, &mut s.k), (&block.value, &mut s.v)];
        project(pass, &mut s.x, &mut s.own.hidden, &mut s.sides, tokens, pairs);
        pass.look(Stage::Query(layer), &s.q, tokens);
        pass.look(Stage::Key(layer), &s.k, tokens);
        pass.look(Stage::Value(layer), &s.v, tokens);

        if let Some((query_norm, key_norm)) = &block.qk_norms {
            pass.rms_norm_heads(&mut s.q, tokens, query_norm, c.norm_eps);
            pass.rms_norm_heads(&mut s.k, tokens, key_norm, c.norm_eps);
            pass.look(Stage::QueryNorm(layer), &s.q, tokens);
            pass.look(Stage::KeyNorm(layer), &s.k, tokens);
        }
        pass.rope(&mut s.q, tokens, &s.angles);
        pass.rope(&mut s.k, tokens, &s.angles);
        pass.append(layer, &s.k, &s.v);
        pass.attend(layer, &s.q, &mut s.scratch, s.attention.fresh());
        if let Some(norm) = &block.attention_sub_norm {
            // The queries are spent: their buffer takes attention's result while it is normed.
            std::mem::swap(&mut s.q, &mut s.attention.rows);
            pass.rms_norm(&s.q, tokens, norm, c.norm_eps, s.attention.fresh());
        }
        pass.look(Stage::OutputInput(layer), &s.attention.rows, tokens);

        let pairs = [(&block.output, &mut s.x.rows)];
        project(pass, &mut s.attention, &mut s.own.attention, &mut s.sides, tokens, pairs);
        pass.look(Stage::Output(layer), &s.x.rows, tokens);
        pass.add(&mut s.h, &s.x.rows, tokens);
    }

    fn feed_forward(
        &self,
        layer: usize,
        block: &Block<D>,
        pass: &mut D::Pass<'_>,
        s: &mut State<D>,
        tokens: usize,
    ) {
        let c = &self.config;
        pass.rms_norm(&s.h, tokens, &block.ffn_norm, c.norm_eps, s.x.fresh());
        pass.look(Stage::FfnNorm(layer), &s.x.rows, tokens);

        if block.up.skips_rows(c.activation) {
            let pairs = [(&block.gate, s.gate.fresh())];
            project(pass, &mut s.x, &mut s.own.hidden, &mut s.sides, tokens, pairs);
            pass.look(Stage::Gate(layer), &s.gate.rows, tokens);
            s.x.quantize(pass, tokens, block.up.form);
            let Activated { rows, codes, .. } = &s.x;
            let (gate, spare) = (s.gate.fresh(), &mut s.up);
            D::Skip::gate(pass, Gated { up: &block.up.weight, x: rows, codes, gate, spare }, tokens);
        } else {
            let pairs = [(&block.gate, s.gate.fresh()), (&block.up, &mut s.up)];
            project(pass, &mut s.x, &mut s.own.hidden, &mut s.sides, tokens, pairs);
            pass.look(Stage::Gate(layer), &s.gate.rows, tokens);
            pass.look(Stage::Up(layer), &s.up, tokens);
            pass.gate(c.activation, s.gate.fresh(), &s.up, tokens);
        }
        if let Some(norm) = &block.ffn_sub_norm {
            // As above: the spent buffer takes the values while they are normed.
            std::mem::swap(&mut s.up, &mut s.gate.rows);
            pass.rms_norm(&s.up, tokens, norm, c.norm_eps, s.gate.fresh());
        }
        pass.look(Stage::DownInput(layer), &s.gate.rows, tokens);

        let pairs = [(&block.down, &mut s.x.rows)];
        project(pass, &mut s.gate, &mut s.own.ffn, &mut s.sides, tokens, pairs);
        pass.look(Stage::Down(layer), &s.x.rows, tokens);
        pass.add(&mut s.h, &s.x.rows, tokens);
        pass.look(Stage::BlockOutput(layer), &s.h, tokens);
    }
}
