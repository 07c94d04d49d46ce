//! Whether a device computes what the CPU does.
//!
//! Who writes a [`bitnet_device::Device`] calls [`check`] in a test: it runs every operation over hostile shapes, several spans and page
//! edges, then whole small models, on that device and on the CPU's scalar kernel, and lists every difference. A device of
//! [`Exactness::Bits`] must give the same bits; one of [`Exactness::Within`] states how far floats may be off.
//!
//! [`Recording`] is a device that records operations and runs them on another one when the pass is submitted: with it, a test
//! shows that a model reads nothing back in the middle of a step, and what a failure in any operation leaves behind.
//!
//! Not here: speed, and what a model's answers are worth.

#![forbid(unsafe_code)]

mod attention;
mod bench;
mod check;
mod model;
mod operations;
mod products;
mod recording;
mod recurrent;
mod suite;

pub use check::check;
pub use model::{Made, Shape};
pub use recording::{
    Handle, RecordedPass, RecordedRoom, RecordedRows, RecordedScreen, RecordedSkip, Recording,
};
pub use suite::{Difference, Exactness, Report};
