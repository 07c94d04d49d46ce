//! What calibration text says of a projection's inputs, and the feedback that follows from it.

use bitnet_core::ThreadPool;

/// Rows of the statistics that a thread takes at a time.
const ROWS: usize = 16;

/// `X^T X` of inputs `X`, `[width, width]` in f64.
#[derive(Clone)]
pub struct Hessian {
    width: usize,
    /// The upper triangle; what is below is not looked at.
    sums: Vec<f64>,
    tokens: usize,
}

impl Hessian {
    /// Statistics of inputs of `width` columns, of which none has been seen.
    pub fn new(width: usize) -> Self {
        Self { width, sums: vec![0.0; width * width], tokens: 0 }
    }

    /// How many inputs (rows of activations) have been added.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds the inputs `rows`, `[tokens, width]`. Sums run in the order of the tokens, whoever sums.
    pub fn add(&mut self, rows: &[f32], threads: &ThreadPool) {
        let width = self.width;
        self.tokens += rows.len() / width;
        threads.for_each_chunk_mut(&mut self.sums, ROWS * width, |chunk, sums| {
            for x in rows.chunks_exact(width) {
                for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                    let at = chunk * ROWS + i;
                    let factor = f64::from(x[at]);
                    sums[at..].iter_mut().zip(&x[at..]).for_each(|(s, &v)| *s += factor * f64::from(v));
                }
            }
        });
    }

    /// `sum over tokens of (error . x)^2`: what an error of a row of weights does to the row's outputs.
    pub fn weighted(&self, error: &[f32]) -> f64 {
        let rows = self.sums.chunks_exact(self.width).enumerate();
        let of_row = |(i, sums): (usize, &[f64])| {
            let e = f64::from(error[i]);
            if e == 0.0 {
                return 0.0;
            }
            let behind: f64 = sums[i + 1..].iter().zip(&error[i + 1..]).map(|(s, &e)| s * f64::from(e)).sum();
            e * (sums[i] * e + 2.0 * behind)
        };
        rows.map(of_row).sum()
    }

    /// The upper triangular `U` with `(H + damping * mean(diag H) * I)^-1 = U^T U`, which tells how the error of a column is made
    /// good by those behind it (GPTQ, arXiv:2210.17323, algorithm 1). `None` when the statistics are not positive definite.
    ///
    /// `H = R R^T` with an upper triangular `R` gives `U = R^-1`, so the inverse itself is never formed.
    pub fn feedback(mut self, damping: f64, threads: &ThreadPool) -> Option<Feedback> {
        let n = self.width;
        let mean = (0..n).map(|i| self.sums[i * n + i]).sum::<f64>() / n as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        (0..n).for_each(|i| self.sums[i * n + i] += damping * mean);
        // Reversed in both directions, its upper triangle is a lower one, and R becomes the ordinary Cholesky factor.
        self.sums.reverse();
        let lower = cholesky(self.sums, n, threads)?;
        let mut rows = vec![0.0f32; n * n];
        threads.for_each_chunk_mut(&mut rows, ROWS * n, |chunk, rows| {
            let mut left = vec![0.0f64; n];
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                inverse_row(&lower, n, chunk * ROWS + i, &mut left, row);
            }
        });
        Some(Feedback { width: n, rows })
    }
}

/// The lower Cholesky factor of the matrix whose lower triangle `a` holds, in its place.
fn cholesky(mut a: Vec<f64>, n: usize, threads: &ThreadPool) -> Option<Vec<f64>> {
    let mut pivot = vec![0.0; n];
    for j in 0..n {
        let row = &mut a[j * n..=j * n + j];
        let left = row[j] - row[..j].iter().map(|x| x * x).sum::<f64>();
        if !(left.is_finite() && left > 0.0) {
            return None;
        }
        row[j] = left.sqrt();
        pivot[..=j].copy_from_slice(row);
        let (pivot, behind) = (&pivot[..=j], &mut a[(j + 1) * n..]);
        threads.for_each_chunk_mut(behind, ROWS * n, |_, rows| {
            for row in rows.chunks_exact_mut(n) {
                row[j] = (row[j] - dot(&row[..j], &pivot[..j])) / pivot[j];
            }
        });
    }
    Some(a)
}

/// Eight sums side by side, then together: one order, whatever the processor.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        (0..8).for_each(|l| lanes[l] += a[l] * b[l]);
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Row `i` of `R^-1`, where `R[k][j]` is `lower` reversed in both directions.
fn inverse_row(lower: &[f64], n: usize, i: usize, left: &mut [f64], out: &mut [f32]) {
    left.fill(0.0);
    left[i] = 1.0;
    for k in i..n {
        // Row k of R from its diagonal on is row n - 1 - k of the factor, column by column backwards.
        let column = |j: usize| lower[(n - 1 - k) * n + (n - 1 - j)];
        let value = left[k] / column(k);
        out[k] = value as f32;
        (k + 1..n).for_each(|j| left[j] -= value * column(j));
    }
}

/// The factors of error feedback, made by [`Hessian::feedback`].
pub struct Feedback {
    width: usize,
    rows: Vec<f32>,
}

impl Feedback {
    /// Columns of the inputs that the factors are for.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `column` of `U` from its diagonal on.
    pub(crate) fn from(&self, column: usize) -> &[f32] {
        &self.rows[column * self.width + column..(column + 1) * self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(tokens: usize, width: usize) -> Vec<f32> {
        (0..tokens * width).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect()
    }

    fn of(tokens: usize, width: usize, threads: usize) -> Hessian {
        let (mut h, pool) = (Hessian::new(width), ThreadPool::new(threads));
        let x = inputs(tokens, width);
        x.chunks(5 * width).for_each(|rows| h.add(rows, &pool));
        h
    }

    #[test]
    fn the_factor_gives_the_inverse() {
        let (n, pool) = (21, ThreadPool::new(2));
        let h = of(60, n, 2);
        let damping = 0.01;
        let mean = (0..n).map(|i| h.sums[i * n + i]).sum::<f64>() / n as f64;
        let at =
            |i: usize, j: usize| h.sums[i.min(j) * n + i.max(j)] + if i == j { damping * mean } else { 0.0 };
        let f = h.clone().feedback(damping, &pool).unwrap();
        let u = |i: usize, j: usize| if j < i { 0.0 } else { f64::from(f.from(i)[j - i]) };
        for i in 0..n {
            for j in 0..n {
                let inverse = |a: usize, b: usize| (0..n).map(|k| u(k, a) * u(k, b)).sum::<f64>();
                let one: f64 = (0..n).map(|k| at(i, k) * inverse(k, j)).sum();
                assert!((one - f64::from(u8::from(i == j))).abs() < 1e-4, "{i} {j}: {one}");
            }
        }
    }

    #[test]
    fn the_weighted_error_is_that_of_the_outputs() {
        let (n, tokens) = (9, 30);
        let (h, x) = (of(tokens, n, 1), inputs(tokens, n));
        let error: Vec<f32> = (0..n).map(|i| i as f32 * 0.1 - 0.4).collect();
        let output = |x: &[f32]| x.iter().zip(&error).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let want: f64 = x.chunks(n).map(|x| output(x).powi(2)).sum();
        assert!((h.weighted(&error) - want).abs() < 1e-4 * want);
    }

    #[test]
    fn threads_change_no_bit() {
        let (one, three) = (of(40, 50, 1), of(40, 50, 3));
        assert_eq!(one.sums, three.sums);
        let u = |h: Hessian, n| h.feedback(0.01, &ThreadPool::new(n)).unwrap().rows;
        assert_eq!(u(one, 1), u(three, 3));
    }

    #[test]
    fn no_text_gives_no_feedback() {
        assert!(Hessian::new(4).feedback(0.01, &ThreadPool::new(1)).is_none());
    }
}
