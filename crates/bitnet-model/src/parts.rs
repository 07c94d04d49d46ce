//! The parts of a decoder, named independently of any file.

use bitnet_quant::ScreenTable;

use crate::{Config, DeltaNet, Mixer, ModelError, Weight};

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
    /// The weights of a recurrent block's convolution, `[taps, channels]`, the oldest position first.
    Convolution(usize),
    /// How fast each value head of a recurrent block forgets, `[value_heads]`: negative numbers.
    DecayRate(usize),
    /// What is added to a recurrent block's decay before its nonlinearity, `[value_heads]`.
    DecayBias(usize),
}

impl Part {
    /// Every matrix of a model of `config`, in the order in which a token meets them.
    pub fn matrices(config: &Config) -> impl Iterator<Item = Self> + use<> {
        let blocks = (0..config.layers)
            .flat_map(|l| Projection::of(config, l).iter().map(move |&p| Self::Weight(l, p)));
        let blocks: Vec<Self> = blocks.collect();
        let head = (!config.tied_head).then_some(Self::Head);
        std::iter::once(Self::Embedding).chain(blocks).chain(head)
    }

    /// Every vector that a model of `config` must have, biases and the norms in front of projections excepted.
    pub fn vectors(config: &Config) -> Vec<Self> {
        let of_block = |l: usize| {
            let norms = Norm::of(config, l).map(move |norm| Self::Norm(l, norm));
            let recurrent = match config.mixer(l) {
                Mixer::Attention => vec![],
                Mixer::DeltaNet(_) => vec![Self::Convolution(l), Self::DecayRate(l), Self::DecayBias(l)],
            };
            norms.chain(recurrent)
        };
        std::iter::once(Self::FinalNorm).chain((0..config.layers).flat_map(of_block)).collect()
    }

    /// The block that it belongs to.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Embedding | Self::FinalNorm | Self::Head => None,
            Self::Norm(layer, _)
            | Self::Weight(layer, _)
            | Self::Bias(layer, _)
            | Self::InputNorm(layer, _)
            | Self::Convolution(layer)
            | Self::DecayRate(layer)
            | Self::DecayBias(layer) => Some(layer),
        }
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

    /// Whether the matrix is stored in the basis of [`Config::fold`]: a projection or a head takes transformed inputs then, and
    /// a row of the embedding is transformed back.
    fn is_folded(&self, _part: Part) -> bool {
        false
    }

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
    /// Before attention, or what stands in its place, `[hidden]`.
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
    /// Of each value head of a recurrent block's result, `[value_dim]`.
    DeltaOutput,
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
    /// Residual stream to the gate of attention's result.
    AttentionGate,
    /// Residual stream to the queries, keys and values of a recurrent block, side by side.
    DeltaInput,
    /// Residual stream to the gate of a recurrent block's result.
    DeltaGate,
    /// Residual stream to how much each value head takes in.
    DeltaBeta,
    /// Residual stream to how much each value head forgets.
    DeltaDecay,
    /// A recurrent block's result back to the residual stream.
    DeltaOutput,
}

impl Projection {
    /// Those of a block of plain attention, in the order in which it uses them.
    pub const PLAIN: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];
    /// Those of a block of gated attention.
    const GATED: [Self; 8] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::AttentionGate,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];
    /// Those of a block of Gated DeltaNet.
    const DELTA_NET: [Self; 8] = [
        Self::DeltaInput,
        Self::DeltaGate,
        Self::DeltaBeta,
        Self::DeltaDecay,
        Self::DeltaOutput,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The projections of block `layer` of a model of `config`, in the order in which it uses them.
    pub fn of(config: &Config, layer: usize) -> &'static [Self] {
        match config.mixer(layer) {
            Mixer::DeltaNet(_) => &Self::DELTA_NET,
            Mixer::Attention if config.gated_attention => &Self::GATED,
            Mixer::Attention => &Self::PLAIN,
        }
    }

    /// `[outputs, inputs]` in a model of `config`.
    pub fn shape(self, config: &Config) -> [usize; 2] {
        let c = config;
        match self {
            Self::Query | Self::AttentionGate => [c.q_width(), c.hidden],
            Self::Key | Self::Value => [c.kv_width(), c.hidden],
            Self::Output => [c.hidden, c.q_width()],
            Self::Gate | Self::Up => [c.ffn, c.hidden],
            Self::Down => [c.hidden, c.ffn],
            Self::DeltaInput => [c.delta(DeltaNet::channels), c.hidden],
            Self::DeltaGate => [c.delta(DeltaNet::value_width), c.hidden],
            Self::DeltaBeta | Self::DeltaDecay => [c.delta(|d| d.value_heads), c.hidden],
            Self::DeltaOutput => [c.hidden, c.delta(DeltaNet::value_width)],
        }
    }
}

impl Norm {
    /// The norms of block `layer` of a model of `config`.
    pub fn of(config: &Config, layer: usize) -> impl Iterator<Item = Self> + use<> {
        let (qk, sub) = (config.qk_norms, config.sub_norms);
        let attention = config.mixer(layer) == Mixer::Attention;
        let all = [
            Self::Attention,
            Self::Query,
            Self::Key,
            Self::AttentionSub,
            Self::Ffn,
            Self::FfnSub,
            Self::DeltaOutput,
        ];
        all.into_iter().filter(move |norm| match norm {
            Self::Attention | Self::Ffn => true,
            Self::Query | Self::Key => qk && attention,
            Self::AttentionSub => sub && attention,
            Self::FfnSub => sub,
            Self::DeltaOutput => !attention,
        })
    }

    /// Length in a model of `config`.
    pub fn len(self, config: &Config) -> usize {
        match self {
            Self::Attention | Self::Ffn => config.hidden,
            Self::Query | Self::Key => config.head_dim,
            Self::AttentionSub => config.q_width(),
            Self::FfnSub => config.ffn,
            Self::DeltaOutput => config.delta(|d| d.value_dim),
        }
    }
}
