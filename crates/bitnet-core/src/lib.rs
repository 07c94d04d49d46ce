//! The ground floor of BitNet-Rust: what every other room stands on.
//!
//! - [`DeviceKind`]: where buffers live and operations run.
//! - [`memory`]: [`HybridMemoryPool`], aligned and huge-page-aware arenas with statistics by purpose.
//! - [`tensor`]: dense matrices of f32, f16 or bf16 over shared bytes.
//! - [`threads`]: a fork-join pool whose workers spin briefly, then park.
//! - [`Error`]: the words in which memory and shape mistakes are told.
//!
//! Invariants: nothing here does I/O, prints, or knows what a quantizer or a model is.
//! `unsafe` lives in `memory` (arena slices) and `threads` (borrowed jobs), nowhere else.

mod device;
mod error;
pub mod memory;
pub mod tensor;
pub mod threads;

pub use device::DeviceKind;
pub use error::{Error, Result};
pub use memory::{Buffer, HybridMemoryPool, MemoryUse, Pages, Purpose, SharedBytes};
pub use tensor::{DType, DenseMatrix};
pub use threads::ThreadPool;
