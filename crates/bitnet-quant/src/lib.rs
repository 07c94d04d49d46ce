//! What W1.58A8 means: ternary weights, int8 activations, and the layouts that kernels read.
//!
//! - [`weights`]: the absmean quantizer from float masters to trits (BitNet b1.58, arXiv:2402.17764, section 2).
//! - [`activations`]: the absmax quantizer from a token's vector to int8 and a step.
//! - [`TernaryMatrix`]: exact trits and scales, the form in which files are read, converted and compared.
//! - [`PackedTernary`]: the same trits in the order in which every kernel streams them.
//! - [`PackedBase3`]: the same at five trits to a byte.
//! - [`TernaryLines`]: the same by rows or by columns, for products that leave some of them out.
//! - [`screen`]: an int8 copy of a head's rows, with a proven bound on what it can miss.
//!
//! Training and inference share these definitions. Invariants: no I/O, no instruction set, no `unsafe`; the
//! functions here *are* the specification, and the vector kernels must return their bits.

#![forbid(unsafe_code)]

pub mod activations;
mod base3;
mod error;
mod lines;
mod packed;
pub mod screen;
mod strip_scales;
mod ternary;
pub mod weights;

pub use activations::{Activations, QuantizedRows};
pub use base3::PackedBase3;
pub use error::QuantError;
pub use lines::{Axis, TernaryLines};
pub use packed::PackedTernary;
pub use screen::{Probe, Probes, ScreenTable};
pub use strip_scales::StripScales;
pub use ternary::{Granularity, Scales, TernaryMatrix, TritCounts};
pub use weights::QuantConfig;
