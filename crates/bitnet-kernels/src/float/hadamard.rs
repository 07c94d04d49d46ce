//! The Walsh-Hadamard transform.

use crate::isa::{Isa, Op};

/// Every run of `block` numbers of `x`, a power of two, becomes `H x / sqrt(block)`, with `H` in Sylvester's order: sums and
/// differences of numbers `block / 2` apart first, then half as far, down to neighbours; the factor last.
pub(crate) struct Hadamard<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) block: usize,
}

impl Op for Hadamard<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let factor = 1.0 / (self.block as f32).sqrt();
        for run in self.x.chunks_exact_mut(self.block) {
            let mut apart = self.block / 2;
            while apart >= 16 {
                for pair in run.chunks_exact_mut(2 * apart) {
                    let (first, second) = pair.split_at_mut(apart);
                    for (a, b) in first.iter_mut().zip(second) {
                        (*a, *b) = (*a + *b, *a - *b);
                    }
                }
                apart /= 2;
            }
            // The same within runs of up to 16, with distances that the compiler knows.
            match apart {
                8 => stages::<16>(run),
                4 => stages::<8>(run),
                2 => stages::<4>(run),
                1 => stages::<2>(run),
                _ => {}
            }
            run.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// All stages of runs of `N`.
#[inline(always)]
fn stages<const N: usize>(run: &mut [f32]) {
    for run in run.as_chunks_mut::<N>().0 {
        let mut apart = N / 2;
        while apart > 0 {
            let mut i = 0;
            while i < N {
                if i & apart == 0 {
                    (run[i], run[i + apart]) = (run[i] + run[i + apart], run[i] - run[i + apart]);
                }
                i += 1;
            }
            apart /= 2;
        }
    }
}
