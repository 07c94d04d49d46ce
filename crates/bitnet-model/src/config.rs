//! What a model is: sizes, constants and the few switches in which families differ.

use bitnet_quant::Activations;

use crate::{DeltaNet, HadamardFold, Mixer, ModelError, Rope};

/// The nonlinearity of the feed-forward gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GateActivation {
    /// `x * sigmoid(x)`: the Llama, Qwen3 and 1bitLLM families.
    Silu,
    /// `max(x, 0)^2`: BitNet b1.58 2B-4T.
    SquaredRelu,
}

/// What activations the projections take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActivationChoice {
    /// What the model was trained with; int8 by blocks where that was float.
    #[default]
    Auto,
    /// f32 vectors.
    Float,
    /// int8, one step per token for BitNet models, one per block for others.
    Int8,
}

/// Which blocks are of Gated DeltaNet, and their sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// Sizes, the same in all of them.
    pub sizes: DeltaNet,
    /// For each block of the model, whether it is one of them.
    pub blocks: Vec<bool>,
}

/// A decoder-only transformer with ternary projections.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family's name, as the family tables of `bitnet-source` list them.
    pub family: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Dimensions of a head that are rotated, the first ones: `head_dim` in most models.
    pub rotary_dim: usize,
    /// Whether attention's result is multiplied with the sigmoid of a gate (Qwen3.5).
    pub gated_attention: bool,
    /// The blocks that mix positions by a recurrence, where there are any: all others have attention.
    pub recurrent: Option<Recurrent>,
    /// The basis that some weights are stored in, where it is not the model's own.
    pub fold: Option<HadamardFold>,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// The epsilon of every norm of the residual stream and of the sub-norms.
    pub norm_eps: f32,
    /// Rotary embedding.
    pub rope: Rope,
    /// The gate's nonlinearity.
    pub activation: GateActivation,
    /// Norms before the output and down projections (BitNet b1.58).
    pub sub_norms: bool,
    /// Norms of each query and key head before the rotation (Qwen3).
    pub qk_norms: bool,
    /// The epsilon of a norm in front of every projection (`use_rms_norm`), where there is one.
    pub input_norm_eps: Option<f32>,
    /// Whether the head shares the embedding's matrix.
    pub tied_head: bool,
    /// Whether the model was trained with int8 activations, one step per token.
    pub trained_int8: bool,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
}

/// Sizes above these are taken for damage; the largest real models stay a factor of ten below.
const MAX_WIDTH: usize = 1 << 18;
const MAX_LAYERS: usize = 1 << 12;
const MAX_VOCAB: usize = 1 << 22;
const MAX_CONTEXT: usize = 1 << 26;

impl Config {
    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// What mixes the positions of block `layer`.
    pub fn mixer(&self, layer: usize) -> Mixer {
        match &self.recurrent {
            Some(Recurrent { sizes, blocks }) if blocks.get(layer) == Some(&true) => Mixer::DeltaNet(*sizes),
            _ => Mixer::Attention,
        }
    }

    /// A size of the recurrent blocks; 0 where there are none.
    pub(crate) fn delta(&self, of: impl Fn(&DeltaNet) -> usize) -> usize {
        self.recurrent.as_ref().map_or(0, |recurrent| of(&recurrent.sizes))
    }

    /// What it has beside whole rotated heads of plain attention in every block, in words, for those who know nothing else.
    pub fn peculiarity(&self) -> Option<&'static str> {
        if self.recurrent.is_some() {
            Some("recurrent blocks (Gated DeltaNet)")
        } else if self.gated_attention {
            Some("gated attention")
        } else if self.rotary_dim != self.head_dim {
            Some("heads that are rotated in part")
        } else {
            self.fold.as_ref().map(|_| "weights in the basis of a Hadamard transform")
        }
    }

    /// How many blocks have attention, and so keep keys and values.
    pub fn attention_blocks(&self) -> usize {
        (0..self.layers).filter(|&layer| self.mixer(layer) == Mixer::Attention).count()
    }

    /// Floats that the recurrent blocks keep of a sequence, whatever its length: a matrix for each value head, and the inputs that
    /// the convolution still sees.
    pub fn recurrent_state(&self) -> usize {
        let Some(Recurrent { sizes, .. }) = &self.recurrent else { return 0 };
        (self.layers - self.attention_blocks()) * (sizes.state_len() + sizes.window_len())
    }

    /// The form of activations that ternary projections take under `choice`.
    pub fn activations(&self, choice: ActivationChoice) -> Activations {
        match (choice, self.trained_int8) {
            (ActivationChoice::Float, _) => Activations::Float,
            (_, true) => Activations::Int8PerToken,
            (_, false) => Activations::Int8PerBlock,
        }
    }

    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Refuses what no model can be.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the first value that cannot be.
    pub fn check(self) -> Result<Self, ModelError> {
        let sizes = [
            ("hidden size", self.hidden, MAX_WIDTH),
            ("feed-forward size", self.ffn, MAX_WIDTH),
            ("number of layers", self.layers, MAX_LAYERS),
            ("number of attention heads", self.heads, MAX_WIDTH),
            ("number of key-value heads", self.kv_heads, MAX_WIDTH),
            ("head dimension", self.head_dim, MAX_WIDTH),
            ("vocabulary size", self.vocab, MAX_VOCAB),
            ("context length", self.context, MAX_CONTEXT),
        ];
        for (what, value, most) in sizes {
            if value == 0 || value > most {
                return Err(ModelError::config(what, format!("1 to {most}"), value));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let want = format!("a divisor of the {} attention heads", self.heads);
            return Err(ModelError::config("number of key-value heads", want, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::config("head dimension", "an even number", self.head_dim));
        }
        if self.q_width() > MAX_WIDTH {
            return Err(ModelError::config(
                "width of all heads",
                format!("at most {MAX_WIDTH}"),
                self.q_width(),
            ));
        }
        if self.rotary_dim == 0 || self.rotary_dim > self.head_dim || !self.rotary_dim.is_multiple_of(2) {
            let want = format!("an even number up to the head dimension {}", self.head_dim);
            return Err(ModelError::config("rotated dimensions", want, self.rotary_dim));
        }
        if let Some(Recurrent { sizes, blocks }) = &self.recurrent {
            if blocks.len() != self.layers {
                let want = format!("{}, one for each layer", self.layers);
                return Err(ModelError::config("number of kinds of layers", want, blocks.len()));
            }
            sizes.check(MAX_WIDTH)?;
        }
        let eps_sane = |eps: f32| eps.is_finite() && eps >= 0.0;
        if !eps_sane(self.norm_eps) || !self.input_norm_eps.is_none_or(eps_sane) {
            return Err(ModelError::config("norm epsilon", "a small positive number", self.norm_eps));
        }
        self.rope.check(self.rotary_dim)?;
        Ok(self)
    }
}
