//! The decoder: BitNet b1.58 and its relatives, as their papers draw them.
//!
//! A block mixes positions, then works on each of them (arXiv:2504.12285, section 2):
//!
//! ```text
//! h = h + mixer(norm(h))              attention.rs, or delta_net.rs
//! h = h + feed_forward(norm(h))       feed_forward.rs
//! ```

use crate::{BitLinear, attention::Attention, delta_net::DeltaNet, feed_forward::FeedForward, state::State};
use bitnet_device::{Device, DeviceError, KvShape, Pass, RecurrentShape, SequenceShape, Stage};
use bitnet_model::Config;

/// What mixes the positions of a block.
pub(crate) enum Mixer<D: Device> {
    Attention(Attention<D>),
    DeltaNet(DeltaNet<D>),
}

/// One block of the decoder.
pub struct Block<D: Device> {
    pub(crate) mixer_norm: D::Vector,
    pub(crate) mixer: Mixer<D>,
    pub(crate) ffn_norm: D::Vector,
    pub(crate) ffn: FeedForward<D>,
}

impl<D: Device> Block<D> {
    /// The projections of mixer and feed-forward layer, in no promised order.
    pub(crate) fn projections(&self) -> impl Iterator<Item = &BitLinear<D>> {
        let (attention, delta_net) = match &self.mixer {
            Mixer::Attention(attention) => (Some(attention), None),
            Mixer::DeltaNet(delta_net) => (None, Some(delta_net)),
        };
        let attention = attention.into_iter().flat_map(Attention::projections);
        attention.chain(delta_net.into_iter().flat_map(DeltaNet::projections)).chain(self.ffn.projections())
    }
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
    /// Rotary frequencies, `[rotary_dim / 2]`.
    pub(crate) frequencies: D::Vector,
    /// Whether rows of the embedding, and what the head reads, are in the basis of the model's fold.
    pub(crate) folded: Ends,
}

/// Which of the two large tables at the ends of the model are stored in the basis of its fold.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) embedding: bool,
    pub(crate) head: bool,
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
        let skips = |block: &&Block<D>| block.ffn.up.skips_rows(self.config.activation);
        self.weights.blocks.iter().filter(skips).count()
    }

    /// Whether any matrix takes rounded activations: those of trits do, dense ones and blocks of integers take floats.
    pub fn rounds_activations(&self) -> bool {
        let Weights { embedding, blocks, head, .. } = &self.weights;
        let projections = blocks.iter().flat_map(Block::projections).map(|linear| &linear.weight);
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
        State::new(
            &self.device,
            (&self.config, self.sequence_shape()),
            self.weights.side_rank,
            tokens,
            context,
        )
    }

    /// Sizes of what each sequence keeps: keys and values of the blocks with attention, states of the others.
    pub(crate) fn sequence_shape(&self) -> SequenceShape {
        let c = &self.config;
        let layers = c.attention_blocks();
        // A configuration may know sizes of blocks that it has none of.
        let recurrent = c.recurrent.as_ref().filter(|_| layers < c.layers);
        SequenceShape {
            kv: KvShape { layers, heads: c.kv_heads, head_dim: c.head_dim },
            recurrent: recurrent.map(|r| RecurrentShape { layers: c.layers - layers, sizes: r.sizes }),
        }
    }

    /// All of the model but final norm and head: the residual stream of the batch's `tokens` is in `s.h` then.
    pub(crate) fn blocks(&self, pass: &mut D::Pass<'_>, s: &mut State<D>, tokens: usize) {
        let (c, w) = (&self.config, &self.weights);
        if w.folded.embedding {
            pass.embed(&w.embedding, s.x.fresh());
            s.x.unfold(pass, tokens, &mut s.h);
        } else {
            pass.embed(&w.embedding, &mut s.h);
        }
        pass.look(Stage::Embedding, &s.h, tokens);
        pass.angles(&w.frequencies, c.rope.attention_factor(), &mut s.angles);
        for (layer, block) in w.blocks.iter().enumerate() {
            pass.rms_norm(&s.h, tokens, &block.mixer_norm, c.norm_eps, s.x.fresh());
            pass.look(Stage::AttentionNorm(layer), &s.x.rows, tokens);
            match &block.mixer {
                Mixer::Attention(attention) => attention.run((c, layer), pass, s, tokens),
                Mixer::DeltaNet(delta_net) => delta_net.run((c, layer), pass, s, tokens),
            }
            pass.add(&mut s.h, &s.x.rows, tokens);

            pass.rms_norm(&s.h, tokens, &block.ffn_norm, c.norm_eps, s.x.fresh());
            pass.look(Stage::FfnNorm(layer), &s.x.rows, tokens);
            block.ffn.run((c, layer), pass, s, tokens);
            pass.add(&mut s.h, &s.x.rows, tokens);
            pass.look(Stage::BlockOutput(layer), &s.h, tokens);
        }
    }
}
