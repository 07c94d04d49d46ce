//! Whether a device computes what the CPU does.
//!
//! Who writes a [`Device`] calls [`check`] in a test: it runs every operation over hostile shapes, several spans and page
//! edges, then whole small models, on that device and on the CPU's scalar kernel, and lists every difference. A device of
//! [`Exactness::Bits`] must give the same bits; one of [`Exactness::Within`] states how far floats may be off, and its
//! integers must still be equal, since they are what the floats are made of.
//!
//! [`Recording`] is a device that records operations and runs them on another one when the pass is submitted: with it, a test
//! shows that a model reads nothing back in the middle of a step, and what a failure in any operation leaves behind.
//!
//! Not here: speed, and what a model's answers are worth.

#![forbid(unsafe_code)]

use std::{fmt, sync::Arc};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_cpu::{Cpu, KvType};
use bitnet_decoder::DecoderError;
use bitnet_device::{Device, DeviceError};
use bitnet_kernels::KernelError;

mod attention;
mod bench;
mod model;
mod operations;
mod products;
mod recording;

pub use model::{Made, Shape};
pub use recording::Recording;

/// How close a device's floats are to the CPU's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exactness {
    /// The same bits.
    Bits,
    /// Within this part of the largest number of a row.
    Within(f32),
}

/// An operation whose result is another than the CPU's.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The operation and its shape.
    pub case: String,
    /// Where in the result.
    pub index: usize,
    /// What the device gave; `None` where it gave fewer numbers.
    pub got: Option<f32>,
    /// What the CPU gave.
    pub want: f32,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, index, got, want } = self;
        write!(f, "{case}: number {index} is {got:?} instead of {want:?}")
    }
}

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Cases that were run.
    pub cases: usize,
    /// Those that differ, in order, each with its first difference.
    pub differences: Vec<Difference>,
}

/// Runs every operation and every small model on `device` and on the CPU's scalar kernel. Keys and values of `device` are kept
/// as `kv`.
///
/// # Errors
/// When a device fails, or refuses what a model of this engine may ask for.
pub fn check<D: Device + Clone>(
    device: &D,
    kv: KvType,
    exactness: Exactness,
) -> Result<Report, DecoderError> {
    let reference = reference(kv).map_err(|error| DeviceError::Failed {
        operation: "the search for the scalar kernel",
        reason: error.to_string(),
    })?;
    let mut suite = Suite { device, reference, exactness, report: Report::default() };
    operations::check(&mut suite)?;
    products::check(&mut suite)?;
    attention::check(&mut suite)?;
    model::check(&mut suite)?;
    Ok(suite.report)
}

/// The scalar kernel on one thread: what every device is compared with.
fn reference(kv: KvType) -> Result<Cpu, KernelError> {
    let kernel = bitnet_kernels::by_name("scalar")?;
    Ok(Cpu::new(kernel, Arc::new(ThreadPool::new(1)), HybridMemoryPool::new()).with_kv(kv))
}

/// A device beside the CPU.
struct Suite<'a, D> {
    device: &'a D,
    reference: Cpu,
    exactness: Exactness,
    report: Report,
}

impl<D: Device> Suite<'_, D> {
    /// Takes in what both gave for a case; `width` is that of a row.
    fn compare(&mut self, case: String, width: usize, got: &[f32], want: &[f32]) {
        self.compare_within(self.exactness, case, width, got, want);
    }

    fn compare_within(
        &mut self,
        exactness: Exactness,
        case: String,
        width: usize,
        got: &[f32],
        want: &[f32],
    ) {
        self.report.cases += 1;
        let rows = want.chunks(width.max(1));
        let mut largest = rows.map(|row| row.iter().fold(0.0f32, |most, x| most.max(x.abs())));
        let mut bound = 0.0;
        for (index, &want) in want.iter().enumerate() {
            if index % width.max(1) == 0 {
                bound = largest.next().unwrap_or(0.0);
            }
            let got = got.get(index).copied();
            let same = got.is_some_and(|got| match exactness {
                Exactness::Bits => got.to_bits() == want.to_bits(),
                Exactness::Within(part) => {
                    (got - want).abs() <= part * bound || got.to_bits() == want.to_bits()
                }
            });
            if !same {
                self.report.differences.push(Difference { case, index, got, want });
                return;
            }
        }
    }
}

/// Runs the same work on the device and on the CPU. A closure cannot be generic, a macro can.
macro_rules! both {
    ($suite:expr, $case:expr, $width:expr, |$device:ident| $work:expr) => {{
        let got: Vec<f32> = {
            let $device = $suite.device;
            $work?
        };
        let want: Vec<f32> = {
            let $device = &$suite.reference;
            $work?
        };
        $suite.compare($case, $width, &got, &want);
    }};
}
use both;
