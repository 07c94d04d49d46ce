//! Both results of a case, compared.

use std::fmt;

use bitnet_cpu::Cpu;
use bitnet_device::Device;

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

/// A device beside the CPU.
pub(crate) struct Suite<'a, D> {
    pub(crate) device: &'a D,
    pub(crate) reference: Cpu,
    pub(crate) exactness: Exactness,
    pub(crate) report: Report,
}

impl<D: Device> Suite<'_, D> {
    /// Takes in what both gave for a case; `width` is that of a row.
    pub(crate) fn compare(&mut self, case: String, width: usize, got: &[f32], want: &[f32]) {
        self.compare_within(self.exactness, case, width, got, want);
    }

    pub(crate) fn compare_within(
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
pub(crate) use both;
