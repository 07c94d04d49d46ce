//! Loops over rows on all threads, cut at places that do not depend on how many there are.

use rayon::prelude::*;

/// Rows that one thread takes at a time. Sums over rows are made chunk by chunk, then in order.
pub(crate) const CHUNK: usize = 32;

/// Lanes that a sum over a row runs in.
const LANES: usize = 16;

/// Calls `work(row, out_row)` for every row of `out`.
pub(crate) fn each(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_mut(width * CHUNK).enumerate().for_each(|(chunk, rows)| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            work(chunk * CHUNK + i, row);
        }
    });
}

/// Calls `work(row, a_row, b_row)` for every row of two matrices.
pub(crate) fn each2(
    (a, a_width): (&mut [f32], usize),
    (b, b_width): (&mut [f32], usize),
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let chunks = a.par_chunks_mut(a_width * CHUNK).zip(b.par_chunks_mut(b_width * CHUNK));
    chunks.enumerate().for_each(|(chunk, (a, b))| {
        let rows = a.chunks_exact_mut(a_width).zip(b.chunks_exact_mut(b_width));
        for (i, (a, b)) in rows.enumerate() {
            work(chunk * CHUNK + i, a, b);
        }
    });
}

/// The sum over all rows of `width` floats that `add(row, sum)` adds to.
pub(crate) fn sum(rows: usize, width: usize, add: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let partial = |chunk: usize| {
        let mut sum = vec![0.0; width];
        (chunk * CHUNK..((chunk + 1) * CHUNK).min(rows)).for_each(|row| add(row, &mut sum));
        sum
    };
    let partials: Vec<Vec<f32>> = (0..rows.div_ceil(CHUNK)).into_par_iter().map(partial).collect();
    let mut total = vec![0.0; width];
    for partial in &partials {
        total.iter_mut().zip(partial).for_each(|(t, p)| *t += p);
    }
    total
}

/// The sum of `term(a[i], b[i])` in [`LANES`] lanes.
pub(crate) fn fold(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
        *lane += term(a, b);
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        let (low, high) = lanes.split_at_mut(width);
        low.iter_mut().zip(&*high).for_each(|(l, h)| *l += h);
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_meet_every_row_and_every_element_once() {
        let total = sum(CHUNK * 2 + 5, 3, |row, sum| sum.iter_mut().for_each(|s| *s += row as f32));
        let rows = (CHUNK * 2 + 5) as f32;
        assert_eq!(total, [rows * (rows - 1.0) / 2.0; 3]);
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(fold(&a, &a, |x, y| x * y), (0..37).map(|i| (i * i) as f32).sum::<f32>());
    }
}
