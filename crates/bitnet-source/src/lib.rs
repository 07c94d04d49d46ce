//! What files of models mean: which decoder a file holds, what its tensors are called, and how their bytes become parts.
//!
//! - [`open()`] opens what somebody calls a model, and says what it is when it is something else.
//! - [`family`]: one table of names per family and file convention, and the keys that are refused.
//! - [`Source`]: a model's parts, read from a checkpoint through its family's table. A [`PartSource`](bitnet_model::PartSource).
//! - [`Adapter`]: side paths (LoRA) in the form of PEFT; [`Adapted`] puts them beside the parts of another source.
//!
//! # Invariants
//! - Every key and every tensor of a file is obeyed, known to change nothing, or refused by name.
//! - A part is exact: trits, scales and floats are those of the file, reordered where its converter has moved rows.
//!
//! Not here: bytes, maps and codecs of files (`bitnet-format`), what a decoder computes and in which form a device holds it
//! (`bitnet-model`).

#![forbid(unsafe_code)]

mod adapter;
mod error;
pub mod family;
mod json;
mod open;
mod source;
mod table;

pub use adapter::{Adapted, Adapter};
pub use error::SourceError;
pub use open::open;
pub use source::{Source, learned::Learned};
pub use table::{block_table, table};
