//! Model files: GGUF, safetensors (packed, master, sharded) and the load-instantly `.bitnet` file.
//!
//! - [`Checkpoint::open`] maps a file or a directory and gives [`Metadata`], names, shapes and bytes.
//! - [`TensorView`] decodes a tensor: rows of floats, a [`TernaryMatrix`](bitnet_quant::TernaryMatrix), or dense
//!   floats straight from the map.
//! - [`GgufWriter`] and [`SafetensorsWriter`] write files that appear whole or not at all; [`encode`] makes the
//!   bytes of ternary tensors and refuses what a format cannot hold.
//!
//! Invariants: every size, offset, count and name of a file is checked before it is used; nothing from a file
//! panics, hangs, or allocates out of proportion to the file; each mistake has its own [`FormatErrorKind`]. The type of
//! a GGUF tensor follows from its bytes, its type number is only a hint. `unsafe` maps files and does nothing else.
//!
//! Not here: what tensors mean (names of families, which layer they belong to), quantizers, tokenizers, kernels' layouts.

#![deny(unsafe_code)]

pub mod bitnet_keys;
mod blocks;
mod checkpoint;
mod digest;
pub mod encode;
mod error;
mod gguf;
mod huggingface;
pub mod json;
mod map;
mod options;
pub mod output;
mod packed_rows;
mod recognize;
mod safetensors;
mod shard;
mod tensor;
mod tensor_type;
mod weights;
mod write;

pub use checkpoint::{BitnetMetadata, Checkpoint, Metadata};
pub use error::{FormatError, FormatErrorKind};
pub use gguf::{GgufArray, GgufMetadata, GgufValue, SplitName};
pub use huggingface::{
    HfMetadata, OtherTokenizer, TEXT_FILES, TextSource, read_bytes, read_sentencepiece, read_text,
    shard_index,
};
pub use map::explain_lost_pages;
pub use options::OpenOptions;
pub use packed_rows::hf_packed_to_ternary;
pub use recognize::recognize_ternary;
pub use tensor::{TensorInfo, TensorView};
pub use tensor_type::TensorType;
pub use write::{AtomicFile, GgufKeys, GgufWriter, SafetensorsWriter, TensorSpec};
