//! How BitNet-Rust is fast: exact ternary matrix products and fixed-order float helpers, one file per instruction
//! set, one table, chosen at run time in one binary.
//!
//! - [`select`] gives the [`Kernel`] to use; the variable `BITNET_KERNEL` (or an argument) forces one by name. Before
//!   a kernel is handed out it must agree with the scalar reference on this CPU.
//! - A [`Kernel`] has every operation a transformer needs on the CPU as a method. [`Kernel::matmul`] is the ternary
//!   product; the others are float helpers.
//!
//! # Invariants
//! - Integer sums are exact: the i32 that `scalar.rs` returns, on every instruction set. Scales are applied in one
//!   place (`ternary.rs`), in one order.
//! - Float sums have one lane order (see `float.rs`); no fused multiply-add; one exponential. So every operation returns
//!   the same bits on every kernel, whatever the threads and batches (NaN payloads excepted).
//! - No operation allocates, spawns, prints, or sees a file. All are single-threaded; callers cut work by rows,
//!   tokens, heads or chunks, and results never depend on the cut.
//! - `unsafe` stands here and in `bitnet-core` only: for vector loads and stores, the assembly of instructions without
//!   stable intrinsics and of one tile that fills every register, and the calls into functions compiled for an instruction
//!   set that was detected.
//!
//! # Panics
//! Operations check the lengths of their slices and panic when they disagree: that is a bug of the caller.

// Where no instruction set is known, only the scalar kernel is compiled: what the sets share has no user.
#![cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code, unused_imports))]

#[cfg(target_arch = "aarch64")]
mod aarch64_dotprod;
#[cfg(target_arch = "aarch64")]
mod aarch64_i8mm;
#[cfg(target_arch = "aarch64")]
mod aarch64_neon;
mod api;
mod block;
mod blocks;
mod float;
mod isa;
mod scalar;
mod screen;
mod select;
mod selftest;
mod simd;
mod table;
mod ternary;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512vnni;
#[cfg(target_arch = "x86_64")]
mod x86_avxvnni;
#[cfg(target_arch = "x86_64")]
mod x86_sse41;

pub use api::ATTENTION_CHUNK;
pub use bitnet_core::threads::ColumnsMut;
pub use blocks::{BlockType, Blocks};
pub use float::{
    attention::{KvChunk, Queries, layout::KvChunkMut},
    exp::exp,
    recurrent::DeltaStep,
};
pub use screen::{StripBounds, StripPeaks};
pub use select::{KERNEL_VARIABLE, select};
pub use table::{Kernel, KernelError, all_names, available, by_name};
