//! Measures a ternary model beside the limits of the machine, in the same run.
//!
//! - [`Subject`]: a model to measure, from files or of a published [`ModelShape`] with random trits.
//! - [`run`]: every combination of a [`BenchmarkPlan`] as a [`Row`]: tokens/s with their spread, bytes or operations per token, the
//!   limit that [`Yardsticks`] found on the same threads around the same repetition, and the part of it that was reached.
//! - [`kernels()`] compares vector kernels with the scalar reference, [`write_gguf`] gives a synthetic model to other engines.
//! - [`compare`] tells a regression from noise, [`svg`] draws a sweep, [`chart`] any curves.
//!
//! # Invariants
//! - Models and inputs are made, and results are checked, outside the clock: logits are finite, and the same for every repetition
//!   and number of threads; anything else is an error.
//! - Work that outruns the limit measured beside it is marked as unreliable.
//! - Nothing prints; a [`Watcher`] hears of progress and may stop the run.
//!
//! Not here: what a model computes, how files look, tables for people.

#![forbid(unsafe_code)]

mod assemble;
mod breakdown;
pub mod chart;
mod compare;
mod decode;
mod energy;
mod error;
mod gguf;
mod kernels;
mod load;
mod measure;
pub mod picture;
mod plan;
mod plot;
mod prefill;
mod row;
mod run;
mod shapes;
mod statistics;
mod subject;
mod synthetic;
mod system;
mod yardsticks;

pub use breakdown::TimeShare;
pub use compare::{RowChange, Verdict, compare};
pub use error::BenchmarkError;
pub use gguf::write_gguf;
pub use kernels::{KernelRow, kernels};
pub use load::fair_share;
pub use plan::{BenchmarkPlan, Test, Watcher};
pub use plot::svg;
pub use row::{Bytes, Limits, Loaded, Row, RowMemory, Setting};
pub use run::run;
pub use shapes::{ModelShape, SHAPES};
pub use statistics::{Summary, median};
pub use subject::{Subject, SubjectOptions};
pub use synthetic::Synthetic;
pub use system::{Process, cpu_name, huge_pages};
pub use yardsticks::Yardsticks;
