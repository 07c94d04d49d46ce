//! Sizes of published models, for synthetic ones of the same shape.

use bitnet_model::{Config, GateActivation, Rope, RopeScaling};
use bitnet_source::family;

use crate::BenchmarkError;

/// A published model's sizes and switches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelShape {
    /// The name that `--synthetic` takes.
    pub name: &'static str,
    /// The model that has these sizes.
    pub model: &'static str,
    /// The family, as [`family`] names them.
    pub family: &'static str,
    /// Width of the residual stream, in elements.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// The number of blocks of the model.
    pub layers: usize,
    /// The numbers of query heads and of key heads.
    pub heads: [usize; 2],
    /// Dimensions of an attention head.
    pub head_dim: usize,
    /// Rows of the embedding, one for each token.
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// The base of the rotary angles.
    pub theta: f32,
    /// Columns that share a scale; one scale per matrix when `None`.
    pub group: Option<usize>,
}

const B2: ModelShape = ModelShape {
    name: "2b4t",
    model: "microsoft/bitnet-b1.58-2B-4T",
    family: family::BITNET_B158,
    hidden: 2560,
    ffn: 6912,
    layers: 30,
    heads: [20, 5],
    head_dim: 128,
    vocab: 128_256,
    context: 4096,
    tied: true,
    theta: 5e5,
    group: None,
};

const LARGE: ModelShape = ModelShape {
    name: "large",
    model: "1bitLLM/bitnet_b1_58-large",
    family: family::BITNET,
    hidden: 1536,
    ffn: 4096,
    layers: 24,
    heads: [16, 16],
    head_dim: 96,
    vocab: 32_002,
    context: 2048,
    tied: true,
    theta: 1e4,
    group: None,
};

const FALCON_1B: ModelShape = ModelShape {
    name: "falcon3-1b",
    model: "tiiuae/Falcon3-1B-Instruct-1.58bit",
    family: family::LLAMA,
    hidden: 2048,
    ffn: 8192,
    layers: 18,
    heads: [8, 4],
    head_dim: 256,
    vocab: 131_072,
    context: 8192,
    tied: false,
    theta: 1_000_042.0,
    group: None,
};

const LLAMA_8B: ModelShape = ModelShape {
    name: "llama3-8b",
    model: "HF1BitLLM/Llama3-8B-1.58-100B-tokens",
    family: family::LLAMA,
    hidden: 4096,
    ffn: 14_336,
    layers: 32,
    heads: [32, 8],
    head_dim: 128,
    vocab: 128_256,
    context: 8192,
    tied: false,
    theta: 5e5,
    group: None,
};

/// Every shape there is. The first one is nobody's: it is there to be fast.
pub const SHAPES: [ModelShape; 10] = [
    ModelShape {
        name: "tiny",
        model: "no published model",
        hidden: 256,
        ffn: 512,
        layers: 2,
        heads: [4, 2],
        head_dim: 64,
        vocab: 1024,
        ..B2
    },
    ModelShape {
        name: "trilm-99m",
        model: "SpectraSuite/TriLM_99M_Unpacked",
        family: family::LLAMA,
        hidden: 512,
        ffn: 1280,
        layers: 16,
        heads: [8, 8],
        head_dim: 64,
        vocab: 50_304,
        context: 2048,
        tied: false,
        theta: 1e4,
        group: None,
    },
    LARGE,
    FALCON_1B,
    B2,
    ModelShape {
        name: "qwen3-1.7b",
        model: "Ternary-Bonsai 1.7B (a Qwen3 with a scale for every 128 weights)",
        family: family::QWEN3,
        hidden: 2048,
        ffn: 6144,
        layers: 28,
        heads: [16, 8],
        head_dim: 128,
        vocab: 151_936,
        context: 32_768,
        tied: true,
        theta: 1e6,
        group: Some(128),
    },
    ModelShape {
        name: "3b",
        model: "1bitLLM/bitnet_b1_58-3B",
        hidden: 3200,
        ffn: 8640,
        layers: 26,
        heads: [32, 32],
        head_dim: 100,
        ..LARGE
    },
    ModelShape {
        name: "falcon3-7b",
        model: "tiiuae/Falcon3-7B-Instruct-1.58bit",
        hidden: 3072,
        ffn: 23_040,
        layers: 28,
        heads: [12, 4],
        ..FALCON_1B
    },
    LLAMA_8B,
    ModelShape {
        name: "falcon3-10b",
        model: "tiiuae/Falcon3-10B-Instruct-1.58bit",
        hidden: 3072,
        ffn: 23_040,
        layers: 40,
        heads: [12, 4],
        context: 32_768,
        ..FALCON_1B
    },
];

impl ModelShape {
    /// The shape called `name`.
    ///
    /// # Errors
    /// [`BenchmarkError::Shape`] with the names there are.
    pub fn named(name: &str) -> Result<Self, BenchmarkError> {
        SHAPES.into_iter().find(|s| s.name == name).ok_or_else(|| BenchmarkError::Shape {
            name: name.to_owned(),
            known: SHAPES.map(|s| s.name).join(", "),
        })
    }

    /// The configuration of a model of this shape.
    pub fn config(&self) -> Config {
        let bitnet = [family::BITNET_B158, family::BITNET].contains(&self.family);
        Config {
            family: self.family,
            hidden: self.hidden,
            ffn: self.ffn,
            layers: self.layers,
            heads: self.heads[0],
            kv_heads: self.heads[1],
            head_dim: self.head_dim,
            rotary_dim: self.head_dim,
            gated_attention: false,
            recurrent: None,
            fold: None,
            vocab: self.vocab,
            context: self.context,
            norm_eps: 1e-5,
            rope: Rope { theta: self.theta, scaling: RopeScaling::None },
            activation: if self.family == family::BITNET_B158 {
                GateActivation::SquaredRelu
            } else {
                GateActivation::Silu
            },
            sub_norms: bitnet,
            qk_norms: self.family == family::QWEN3,
            input_norm_eps: None,
            tied_head: self.tied,
            // Those of TriLM and Ternary-Bonsai were trained with float activations.
            trained_int8: !self.name.starts_with("trilm") && self.group.is_none(),
            bos: None,
            eos: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_can_be_a_model() {
        for shape in SHAPES {
            shape.config().check().unwrap();
            assert_eq!(ModelShape::named(shape.name).unwrap(), shape);
        }
        let unknown = ModelShape::named("4b").unwrap_err().to_string();
        assert!(unknown.contains("2b4t") && unknown.contains("tiny"), "{unknown}");
    }

    #[test]
    fn the_common_shape_has_its_published_size() {
        let c = ModelShape::named("2b4t").unwrap().config();
        let trits: usize =
            bitnet_model::Projection::PLAIN.iter().map(|p| p.shape(&c).iter().product::<usize>()).sum();
        assert_eq!((trits * c.layers, c.vocab * c.hidden), (2_084_044_800, 328_335_360));
    }
}
