//! The forms a model can be converted to.

use std::fmt;

use bitnet_format::TensorType;

/// A form that a model can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A directory for transformers: packed uint8, `autobitlinear` offline (or `bitlinear`, where only that is exact).
    HfPacked,
    /// A directory of floats: online masters of BitNet models, exact weights of others.
    HfMaster,
    /// GGUF for bitnet.cpp: two bits a weight, one f32 scale per matrix.
    GgufI2S,
    /// GGUF: 1.69 bits a weight, f16 scales.
    GgufTq1_0,
    /// GGUF: 2.06 bits a weight, f16 scales.
    GgufTq2_0,
    /// GGUF: 2.25 bits a weight, an f16 scale per 64.
    GgufQ2_0,
    /// GGUF for PrismML's llama.cpp: 2.13 bits a weight, an f16 scale per 128.
    GgufPq2_0,
    /// GGUF for PrismML's llama.cpp: 1.75 bits a weight, an f16 scale per 128.
    GgufPtq1_0,
    /// GGUF: 1.13 bits a weight, an f16 scale per 128, no zeros.
    GgufQ1_0,
    /// Our own file: strips that run from the map.
    Bitnet,
}

impl Target {
    /// Every target, in the order of the help text.
    pub const ALL: [Self; 10] = [
        Self::HfPacked,
        Self::HfMaster,
        Self::GgufI2S,
        Self::GgufTq1_0,
        Self::GgufTq2_0,
        Self::GgufQ2_0,
        Self::GgufPq2_0,
        Self::GgufPtq1_0,
        Self::GgufQ1_0,
        Self::Bitnet,
    ];

    /// The target's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HfPacked => "hf-packed",
            Self::HfMaster => "hf-master",
            Self::GgufI2S => "gguf-i2_s",
            Self::GgufTq1_0 => "gguf-tq1_0",
            Self::GgufTq2_0 => "gguf-tq2_0",
            Self::GgufQ2_0 => "gguf-q2_0",
            Self::GgufPq2_0 => "gguf-pq2_0",
            Self::GgufPtq1_0 => "gguf-ptq1_0",
            Self::GgufQ1_0 => "gguf-q1_0",
            Self::Bitnet => "bitnet",
        }
    }

    /// Whether a directory is written, as opposed to a file.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::HfPacked | Self::HfMaster)
    }

    /// The tensor type of projections in a GGUF target, with its `general.file_type`.
    pub(crate) fn gguf(self) -> Option<(TensorType, u32)> {
        match self {
            Self::GgufI2S => Some((TensorType::I2S, 40)),
            Self::GgufTq1_0 => Some((TensorType::Tq1_0, 36)),
            Self::GgufTq2_0 => Some((TensorType::Tq2_0, 37)),
            Self::GgufQ2_0 => Some((TensorType::Q2_0 { group: 64 }, 41)),
            // As in PrismML's own files.
            Self::GgufPq2_0 => Some((TensorType::Q2_0 { group: 128 }, 141)),
            Self::GgufPtq1_0 => Some((TensorType::Ptq1_0, 143)),
            Self::GgufQ1_0 => Some((TensorType::Q1_0, 40)),
            Self::HfPacked | Self::HfMaster | Self::Bitnet => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
