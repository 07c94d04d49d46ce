//! The GGUF container, versions 2 and 3, little-endian.
//!
//! Source: the specification in ggml's `docs/gguf.md`. Header: magic, version, number of tensors, number of keys;
//! then the keys, then the tensors' entries, then (aligned) their data.

mod cursor;
mod geometry;
mod header;
mod metadata;
mod order;
mod split;
mod type_name;
mod value;

pub(crate) use geometry::matrix;
pub(crate) use header::{DEFAULT_ALIGNMENT, MAGIC, MAX_NAME, parse};
pub use metadata::GgufMetadata;
pub use split::SplitName;
pub(crate) use split::{check_total, parse_part, parts, refuse_part};
pub(crate) use type_name::type_name;
pub use value::{GgufArray, GgufValue};
