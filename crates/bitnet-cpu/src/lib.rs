//! The CPU as a device: the specification of every operation, on the kernel that suits this machine.
//!
//! [`Cpu`] computes an operation when it is called; any other device proves itself by equal results (`bitnet-conformance`).
//! Results do not depend on threads, on the kernel, or on the form in which a matrix is held.

#![forbid(unsafe_code)]

mod attention;
mod cpu;
mod device;
mod feed_forward;
mod matrix;
mod options;
mod pages;
mod pass;
mod recurrent;
mod rows;
mod screen;
mod sequences;
mod stock;

pub use attention::AttentionScratch;
pub use cpu::Cpu;
pub use feed_forward::CpuSkip;
pub use matrix::Matrix;
pub use options::{HeadChoice, KvType};
pub use pages::KvPages;
pub use pass::CpuPass;
pub use recurrent::RecurrentStates;
pub use rows::Rows;
pub use screen::{Screen, ScreenRoom};
pub use sequences::SequenceMemory;
