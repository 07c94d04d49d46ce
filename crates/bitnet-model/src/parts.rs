//! The parts of a decoder, named independently of any file.

use bitnet_quant::ScreenTable;

use crate::{Config, ModelError, Weight};

/// One parameter of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// `[vocab, hidden]`.
    Embedding,
    /// `[hidden]`: the norm before the head.
    FinalNorm,
    /// `[vocab, hidden]`; absent when tied to the embedding.
    Head,
    /// A vector of block `0`.
    Norm(usize, Norm),
    /// The weight of a projection of a block.
    Weight(usize, Projection),
    /// The bias of a projection of a block, `[out]`.
    Bias(usize, Projection),
    /// The norm in front of one projection, `[in]` (`use_rms_norm`).
    InputNorm(usize, Projection),
}

impl Part {
    /// Every matrix of a model of `config`, in the order in which a token meets them.
    pub fn matrices(config: &Config) -> impl Iterator<Item = Self> + use<> {
        let blocks = (0..config.layers).flat_map(|l| Projection::ALL.map(|p| Self::Weight(l, p)));
        let head = (!config.tied_head).then_some(Self::Head);
        std::iter::once(Self::Embedding).chain(blocks).chain(head)
    }
}

/// Where a model's parts come from: a file (`Source` of `bitnet-source`), or memory.
pub trait PartSource: Sync {
    /// Sizes and constants.
    fn config(&self) -> &Config;

    /// What errors call `part`.
    fn name(&self, part: Part) -> String;

    /// Bytes of `part` where it comes from, which progress counts.
    fn byte_len(&self, part: Part) -> u64;

    /// A matrix in its exact form.
    ///
    /// # Errors
    /// When it cannot be had.
    fn weight(&self, part: Part) -> Result<Weight, ModelError>;

    /// A vector, or `None` when there is none (biases are optional).
    ///
    /// # Errors
    /// When it cannot be had.
    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError>;

    /// The int8 copy of the head where there is one already.
    ///
    /// # Errors
    /// When it cannot be one of this model's head.
    fn screen(&self) -> Result<Option<ScreenTable>, ModelError> {
        Ok(None)
    }

    /// The rank of the side paths; 0 where there are none.
    fn side_rank(&self) -> usize {
        0
    }

    /// The matrices beside a projection, `[rank, inputs]` and `[outputs, rank]`, if it has a side path.
    fn side_path(&self, _layer: usize, _projection: Projection) -> Option<[Weight; 2]> {
        None
    }
}

/// The norms of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Norm {
    /// Before attention, `[hidden]`.
    Attention,
    /// Of each query head, `[head_dim]`.
    Query,
    /// Of each key head, `[head_dim]`.
    Key,
    /// Before the output projection, `[heads * head_dim]`.
    AttentionSub,
    /// Before the feed-forward layer, `[hidden]`.
    Ffn,
    /// Before the down projection, `[ffn]`.
    FfnSub,
}

/// The projections of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// Residual stream to queries.
    Query,
    /// Residual stream to keys.
    Key,
    /// Residual stream to values.
    Value,
    /// Heads back to the residual stream.
    Output,
    /// Residual stream to the gate.
    Gate,
    /// Residual stream to the gated values.
    Up,
    /// Gated values back to the residual stream.
    Down,
}

impl Projection {
    /// All of them, in the order in which a block uses them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// `[outputs, inputs]` in a model of `config`.
    pub fn shape(self, config: &Config) -> [usize; 2] {
        let c = config;
        match self {
            Self::Query => [c.q_width(), c.hidden],
            Self::Key | Self::Value => [c.kv_width(), c.hidden],
            Self::Output => [c.hidden, c.q_width()],
            Self::Gate | Self::Up => [c.ffn, c.hidden],
            Self::Down => [c.hidden, c.ffn],
        }
    }
}

impl Norm {
    /// The norms of every block of a model of `config`.
    pub fn of(config: &Config) -> impl Iterator<Item = Self> {
        let (qk, sub) = (config.qk_norms, config.sub_norms);
        [Self::Attention, Self::Query, Self::Key, Self::AttentionSub, Self::Ffn, Self::FfnSub]
            .into_iter()
            .filter(move |norm| match norm {
                Self::Attention | Self::Ffn => true,
                Self::Query | Self::Key => qk,
                Self::AttentionSub | Self::FfnSub => sub,
            })
    }

    /// Length in a model of `config`.
    pub fn len(self, config: &Config) -> usize {
        match self {
            Self::Attention | Self::Ffn => config.hidden,
            Self::Query | Self::Key => config.head_dim,
            Self::AttentionSub => config.q_width(),
            Self::FfnSub => config.ffn,
        }
    }
}
