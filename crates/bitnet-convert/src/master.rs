//! Masters: float weights that absmean turns back into given trits and exactly the given scale.
//!
//! Absmean takes `m = mean|W|` over all weights, zeros included, and rounds `W / m` (arXiv:2402.17764, section 2). With
//! `n` of `N` weights nonzero, magnitudes of `m * N / n` have the mean `m` and round to one, since `N / n >= 1`; zeros stay zero.
//! What is left is the last bit: the magnitude is rounded down to f32, as many weights as the lack is worth get the next larger
//! f32, and the rest, less than one such step, is put on one weight whose trit is zero and stays zero. Where no weight is zero,
//! the magnitude is `m` itself. All sums are exact in f64, so the mean is `m` to far below half a bit of f32.

use bitnet_quant::{TernaryMatrix, weights::MIN_MEAN};

/// The magnitudes of a master's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Master {
    /// The magnitude of most nonzero weights.
    low: f32,
    /// Of the first `raised` nonzero weights: the next f32 above `low`.
    high: f32,
    raised: u64,
    /// Of the first weight whose trit is zero.
    rest: f32,
}

impl Master {
    /// The master of a matrix of `weights` weights, `nonzero` of them other than 0, with one `scale`; `None` when absmean can
    /// give no such scale (it never goes below [`MIN_MEAN`], and magnitudes must be finite).
    pub(crate) fn new(weights: u64, nonzero: u64, scale: f32) -> Option<Self> {
        if nonzero == 0 {
            // The scale of nothing but zeros does not matter.
            return Some(Self { low: 0.0, high: 0.0, raised: 0, rest: 0.0 });
        }
        if scale < MIN_MEAN {
            return None;
        }
        let sum = f64::from(scale) * weights as f64;
        let exact = sum / nonzero as f64;
        let rounded = exact as f32;
        let low = if f64::from(rounded) > exact { rounded.next_down() } else { rounded };
        let high = low.next_up();
        if !high.is_finite() {
            return None;
        }
        let lack = (sum - f64::from(low) * nonzero as f64).max(0.0);
        let step = f64::from(high) - f64::from(low);
        let raised = ((lack / step) as u64).min(nonzero);
        let rest = (lack - raised as f64 * step).max(0.0) as f32;
        Some(Self { low, high, raised, rest })
    }

    /// Calls `sink` with the weights of each row, in order.
    pub(crate) fn rows<E>(
        self,
        matrix: &TernaryMatrix,
        mut sink: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut trits, mut weights) = (vec![0i8; matrix.cols()], vec![0.0f32; matrix.cols()]);
        let (mut raised, mut rest) = (self.raised, Some(self.rest));
        for row in 0..matrix.rows() {
            matrix.row_trits(row, &mut trits);
            for (weight, &trit) in weights.iter_mut().zip(&trits) {
                *weight = match trit {
                    0 => rest.take().unwrap_or(0.0),
                    _ if raised > 0 => {
                        raised -= 1;
                        self.high * f32::from(trit)
                    }
                    _ => self.low * f32::from(trit),
                };
            }
            sink(&weights)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bitnet_quant::{QuantConfig, Scales, weights::absmean};
    use proptest::prelude::*;

    use super::*;

    fn master_of(matrix: &TernaryMatrix, scale: f32) -> Option<Vec<f32>> {
        let counts = matrix.counts();
        let master = Master::new((matrix.rows() * matrix.cols()) as u64, counts.minus + counts.plus, scale)?;
        let mut weights = Vec::new();
        master
            .rows(matrix, |row| {
                weights.extend_from_slice(row);
                Ok::<(), ()>(())
            })
            .unwrap();
        Some(weights)
    }

    fn trits(rows: usize, cols: usize, one_in: u32, seed: u64) -> Vec<i8> {
        let mut state = seed | 1;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32
        };
        let trit =
            |r: u32, sign: u32| if r.is_multiple_of(one_in) { if sign & 1 == 0 { 1 } else { -1 } } else { 0 };
        (0..rows * cols).map(|_| trit(random(), random())).collect()
    }

    fn check(rows: usize, cols: usize, trits: &[i8], scale: f32) {
        let matrix = TernaryMatrix::from_trits(rows, cols, trits, Scales::Tensor(scale)).unwrap();
        let weights = master_of(&matrix, scale).unwrap();
        let back = absmean(rows, cols, &weights, QuantConfig::default()).unwrap();
        if trits.iter().any(|&t| t != 0) {
            assert_eq!(back, matrix, "scale {scale:e}");
        } else {
            assert_eq!(back.codes(), matrix.codes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn absmean_gives_back_trits_and_scale(
            rows in 1usize..40, cols in 1usize..70, one_in in 1u32..200, seed in any::<u64>(),
            mantissa in 0u32..1 << 23, exponent in 111u32..240,
        ) {
            // Every mantissa of f32, from just above the smallest mean that absmean gives.
            check(rows, cols, &trits(rows, cols, one_in, seed), f32::from_bits(exponent << 23 | mantissa));
        }
    }

    #[test]
    fn the_corners_too() {
        for scale in
            [MIN_MEAN, MIN_MEAN.next_up(), 1.0, 1.0f32.next_down(), 1.0f32.next_up(), 1.999_999_9, 0.1, 1e30]
        {
            for (rows, cols) in [(1, 1), (1, 2), (1, 3), (3, 1), (7, 5), (31, 33), (300, 1000)] {
                let n = rows * cols;
                check(rows, cols, &vec![1; n], scale);
                check(rows, cols, &vec![0; n], scale);
                let mut single = vec![0; n];
                single[n - 1] = -1;
                check(rows, cols, &single, scale);
                let mut but_one = vec![-1; n];
                but_one[n / 2] = 0;
                check(rows, cols, &but_one, scale);
                check(rows, cols, &trits(rows, cols, 3, n as u64), scale);
            }
        }
    }

    #[test]
    fn what_absmean_cannot_give_is_refused() {
        assert_eq!(Master::new(100, 50, MIN_MEAN.next_down()), None);
        assert_eq!(Master::new(1 << 20, 1, f32::MAX), None);
        assert_eq!(Master::new(100, 50, 0.0), None);
    }
}
