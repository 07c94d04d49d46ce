//! The reference: plain loops that define what every other kernel must return.

use crate::isa::{Block, Isa, Lanes, Op, Word};

/// The instruction set that every CPU has.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// Always true: plain Rust for the baseline of the target.
pub(crate) fn supported() -> bool {
    true
}

/// Compiles `op` for the baseline of the target.
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(Scalar)
}

impl Isa for Scalar {
    type Floats = crate::simd::Array;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 1;
    const TOKENS: usize = 1;

    #[inline]
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        let mut sums = [0; 16];
        for (block, x) in blocks.iter().zip(x) {
            for (row, sum) in sums.iter_mut().enumerate() {
                for (column, &x) in x.iter().enumerate() {
                    let byte = block[4 * row + column % 4];
                    let code = byte >> (2 * (column / 4)) & 3;
                    *sum += i32::from(code) * i32::from(x);
                }
            }
        }
        sums
    }

    fn call<O: Op>(self, part: O) -> O::Output {
        run(part)
    }

    #[inline]
    fn tile<const S: usize, const T: usize>(
        self,
        strips: [&[Block]; S],
        x: [&[Word]; T],
        out: &mut [[Lanes<i32>; T]; S],
    ) {
        for (strip, out) in strips.iter().zip(out) {
            for (x, out) in x.iter().zip(out) {
                *out = self.dot(strip, x);
            }
        }
    }

    #[inline]
    fn multiply(self, rounds: u64) -> (u64, i32) {
        let mut sums = [0i32; 16];
        for round in 0..rounds {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = sum.wrapping_add(i32::from(round as u8 & 3) * i32::from(round as i8 ^ j as i8));
            }
        }
        (16 * rounds, sums.iter().fold(0, |a, &b| a.wrapping_add(b)))
    }
}
