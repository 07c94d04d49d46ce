//! How a processor keeps keys and values, and how it computes heads.

use bitnet_kernels::{ATTENTION_CHUNK, Kernel};
use bitnet_model::Config;
use half::f16;

/// How the head is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadChoice {
    /// Screened where it is large enough to pay.
    #[default]
    Auto,
    /// Always in full.
    Full,
    /// Screened whatever its size, where it can be at all.
    Screened,
}

/// How keys and values are kept. Each is a computation of its own: of one type, results are the same for any threads,
/// kernel and cut of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// binary32, as they come.
    F32,
    /// binary16, rounded to nearest: half of the memory.
    #[default]
    F16,
    /// int8 with one step per position and head: a quarter of the memory, and attention in integers. Heads may have up to 512
    /// dimensions.
    Int8,
}

impl KvType {
    /// Bytes of one head's chunk.
    pub(crate) fn chunk_bytes(self, head_dim: usize) -> usize {
        let len = Kernel::kv_chunk_len(head_dim);
        match self {
            Self::F32 => len * size_of::<f32>(),
            Self::F16 => len * size_of::<f16>(),
            Self::Int8 => Kernel::kv_codes_len(head_dim) + Kernel::KV_STEPS * size_of::<f32>(),
        }
    }

    /// Bytes of all blocks' keys and values for one position.
    pub fn bytes_per_position(self, config: &Config) -> usize {
        config.attention_blocks() * config.kv_heads * self.chunk_bytes(config.head_dim) / ATTENTION_CHUNK
    }
}
