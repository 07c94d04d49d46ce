//! Lossless conversion between files of ternary models, with proof.
//!
//! [`convert`] reads any model that this engine runs, writes it in another form ([`Target`]), opens what it wrote with the
//! ordinary reader, and compares every part: trits and scales are counted, vectors and tables compared bit for bit. The
//! [`ConvertReport`] says how much is equal; a difference that is not announced is an error, and the output is removed.
//!
//! # What each target holds
//! | target | scales | shapes | besides |
//! |---|---|---|---|
//! | `bitnet`, `hf-master` | all | all | |
//! | `hf-packed` | one f32 per matrix | outputs divisible by 4 | models trained with int8 activations |
//! | `gguf-i2_s` | one f32 per matrix | inputs divisible by 128 | no dense projections |
//! | `gguf-tq1_0`, `gguf-tq2_0` | f16 per 256 inputs | inputs divisible by 256 | the same |
//! | `gguf-q2_0` | f16 per 64 inputs | inputs divisible by 64 | the same |
//! | `gguf-pq2_0`, `gguf-ptq1_0` | f16 per 128 inputs | inputs divisible by 128 | the same |
//! | `gguf-q1_0` | f16 per 128 inputs | inputs divisible by 128 | the same, and no weight that is 0 beside others |
//!
//! What a target cannot hold is refused with what can; scales that are rounded to f16 are reported. In architecture `bitnet`,
//! whose readers multiply with a `.scale` tensor, f16 scales stay exact: the tensor holds the factor that is missing.
//!
//! # Invariants
//! - Output appears whole, proved and under its name, or not at all.
//! - One matrix is in memory at a time; a model may be larger than memory.
//! - No `unsafe`; nothing is printed.
//!
//! It does not quantize dense models, and it does not change trits or scales.

#![forbid(unsafe_code)]

mod bitnet_file;
mod config_json;
mod convert;
mod encode;
mod error;
mod gguf;
mod hf;
mod items;
mod master;
mod matrix;
mod mixed;
mod place;
mod report;
mod rope;
mod survey;
mod target;
mod text;
mod verify;

pub use config_json::{QuantizationJson, to_config_json};
pub use convert::{ConvertOptions, ConvertProgress, OnConvertProgress, convert};
pub use error::ConvertError;
pub use mixed::{MixedWriter, stored_bytes};
pub use report::ConvertReport;
pub use target::Target;
