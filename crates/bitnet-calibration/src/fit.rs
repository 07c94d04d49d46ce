//! One matrix: floats in, codes and scales out.

use bitnet_core::ThreadPool;
use bitnet_format::TensorType;
use bitnet_quant::{Granularity, QuantError, Scales, TernaryMatrix};
use half::f16;

use crate::{
    Feedback, Grid,
    grid::{Levels, levels},
};

/// Rows that are worked on together: a row of the feedback is read once for all of them.
const ROWS: usize = 16;
/// Weights of a block of integers.
pub(crate) const BLOCK: usize = 32;

/// A quantized matrix and how far it is from the floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    rows: usize,
    cols: usize,
    grid: Grid,
    granularity: Granularity,
    /// `[rows, cols]` codes of the first plane, or integers.
    first: Vec<i8>,
    /// Codes of the second plane; empty when there is none.
    second: Vec<i8>,
    /// Row by row; one for granularity `Tensor`.
    levels: Vec<Levels>,
}

/// A quantized matrix as files hold it.
#[derive(Clone, Debug)]
pub enum Stored {
    /// One ternary plane with its scales.
    Plane(TernaryMatrix),
    /// Two ternary planes, whose sum is the matrix.
    Planes(Box<[TernaryMatrix; 2]>),
    /// Blocks of one of ggml's integer types, row by row.
    Blocks(TensorType, Vec<u8>),
}

/// How many columns share levels under that grid.
fn group_of(grid: Grid, granularity: Granularity, cols: usize) -> usize {
    match (grid, granularity) {
        (Grid::Int4 | Grid::Int8, _) => BLOCK,
        (_, Granularity::Group(size)) => size.clamp(1, cols),
        _ => cols,
    }
}

/// Quantizes `weights`, `[rows, cols]`. With `feedback` columns are rounded from left to right, and the error of each is made
/// good by those behind it; the levels of a group are then chosen when its first column is reached.
///
/// Rows do not depend on each other, so neither does anything on the number of threads.
///
/// # Panics
/// When there are not `rows * cols` weights, or the feedback has another width.
pub fn fit(
    [rows, cols]: [usize; 2],
    weights: &[f32],
    grid: Grid,
    granularity: Granularity,
    feedback: Option<&Feedback>,
    threads: &ThreadPool,
) -> Fitted {
    assert_eq!(weights.len(), rows * cols, "weights of the shape");
    assert!(feedback.is_none_or(|f| f.width() == cols), "feedback of another width");
    let group = group_of(grid, granularity, cols);
    let short = matches!(granularity, Granularity::Group(_));
    // One scale for all is chosen before anything is rounded.
    let whole = matches!((grid.planes(), granularity), (1.., Granularity::Tensor))
        .then(|| levels(grid, weights, false));
    let work = Work { cols, group, grid, short, whole, feedback };
    let groups = cols.div_ceil(group);
    let (mut first, mut second) = (vec![0i8; rows * cols], vec![0i8; rows * cols]);
    let mut found = vec![Levels::Ternary(0.0); rows * groups];
    threads.for_each_chunk_mut3(
        (&mut first, ROWS * cols),
        (&mut second, ROWS * cols),
        (&mut found, ROWS * groups),
        |chunk, first, second, found| {
            let start = chunk * ROWS * cols;
            work.rows(weights[start..start + first.len()].to_vec(), first, second, found);
        },
    );
    if let Some(one) = whole {
        found = vec![one];
    }
    if grid.planes() < 2 {
        second = Vec::new();
    }
    Fitted { rows, cols, grid, granularity, first, second, levels: found }
}

/// What is the same for all rows of a matrix while they are fitted.
struct Work<'a> {
    cols: usize,
    group: usize,
    grid: Grid,
    short: bool,
    whole: Option<Levels>,
    feedback: Option<&'a Feedback>,
}

impl Work<'_> {
    /// Some rows, whose weights change as errors are made good.
    fn rows(&self, mut weights: Vec<f32>, first: &mut [i8], second: &mut [i8], found: &mut [Levels]) {
        let (cols, groups) = (self.cols, self.cols.div_ceil(self.group));
        for col in 0..cols {
            let behind = self.feedback.map(|f| f.from(col));
            for (r, row) in weights.chunks_exact_mut(cols).enumerate() {
                let levels_at = r * groups + col / self.group;
                if col % self.group == 0 {
                    let end = (col + self.group).min(cols);
                    let fresh = || levels(self.grid, &row[col..end], self.short);
                    found[levels_at] = self.whole.unwrap_or_else(fresh);
                }
                let w = row[col];
                let (codes, value) = found[levels_at].nearest(w);
                (first[r * cols + col], second[r * cols + col]) = (codes[0], codes[1]);
                if let Some([diagonal, behind @ ..]) = behind {
                    let error = (w - value) / diagonal;
                    row[col + 1..].iter_mut().zip(behind).for_each(|(w, u)| *w -= error * u);
                }
            }
        }
    }
}

impl Fitted {
    /// `[rows, cols]`, that is outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Row `row` as the numbers that the engine multiplies with.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        let group = group_of(self.grid, self.granularity, self.cols);
        let groups = self.cols.div_ceil(group);
        for (col, out) in out.iter_mut().enumerate() {
            let at = row * self.cols + col;
            let levels = match self.levels[..] {
                [one] => one,
                _ => self.levels[row * groups + col / group],
            };
            *out = levels.value([self.first[at], self.second.get(at).copied().unwrap_or(0)]);
        }
    }

    /// How many weights became exactly 0.
    pub fn zeros(&self) -> usize {
        let second = |i: usize| self.second.get(i).copied().unwrap_or(0);
        self.first.iter().enumerate().filter(|&(i, &t)| t == 0 && second(i) == 0).count()
    }

    /// The form in which files hold it.
    ///
    /// # Errors
    /// When a scale is beyond what f16 holds.
    pub fn stored(self) -> Result<Stored, QuantError> {
        let [rows, cols] = self.shape();
        let scales = |which: usize| {
            let values: Vec<f32> = self.levels.iter().map(|l| l.scales()[which]).collect();
            match self.granularity {
                Granularity::Tensor => Scales::Tensor(values[0]),
                Granularity::Row => Scales::Row(values),
                Granularity::Group(_) => {
                    Scales::Group { size: group_of(self.grid, self.granularity, cols), scales: values }
                }
            }
        };
        Ok(match self.grid.planes() {
            0 => self.blocks(),
            1 => Stored::Plane(TernaryMatrix::from_trits(rows, cols, &self.first, scales(0))?),
            _ => Stored::Planes(Box::new([
                TernaryMatrix::from_trits(rows, cols, &self.first, scales(0))?,
                TernaryMatrix::from_trits(rows, cols, &self.second, scales(1))?,
            ])),
        })
    }

    fn blocks(&self) -> Stored {
        let blocks = self.first.as_chunks::<BLOCK>().0.iter().zip(&self.levels);
        let mut bytes = Vec::with_capacity(self.first.len() * 34 / BLOCK);
        let four = self.grid == Grid::Int4;
        for (codes, levels) in blocks {
            bytes.extend(f16::from_f32(levels.scales()[0]).to_le_bytes());
            match four {
                true => {
                    bytes.extend((0..16).map(|j| (codes[j] + 8) as u8 | ((codes[16 + j] + 8) as u8) << 4))
                }
                false => bytes.extend(codes.iter().map(|&c| c as u8)),
            }
        }
        Stored::Blocks(if four { TensorType::Q4_0 } else { TensorType::Q8_0 }, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hessian;

    fn noise(n: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24) - 0.5
        };
        (0..n).map(|_| (next() + next() + next()) as f32 * 0.1).collect()
    }

    /// Inputs whose columns are like each other, as a model's are.
    fn inputs(tokens: usize, width: usize) -> Vec<f32> {
        let (own, shared) = (noise(tokens * width, 3), noise(tokens, 5));
        own.iter().enumerate().map(|(i, x)| x + 2.0 * shared[i / width] * ((i % 3) as f32 - 0.5)).collect()
    }

    fn hessian(width: usize, pool: &ThreadPool) -> Hessian {
        let mut h = Hessian::new(width);
        h.add(&inputs(4 * width, width), pool);
        h
    }

    fn error(h: &Hessian, weights: &[f32], fitted: &Fitted) -> f64 {
        let [rows, cols] = fitted.shape();
        let mut row = vec![0.0; cols];
        let of = |r: usize| {
            fitted.row_to_f32(r, &mut row);
            let error: Vec<f32> = row.iter().zip(&weights[r * cols..]).map(|(a, b)| a - b).collect();
            h.weighted(&error)
        };
        (0..rows).map(of).sum()
    }

    const ALL: [Grid; 6] =
        [Grid::Absmean, Grid::Ternary, Grid::Shifted, Grid::Planes, Grid::Int4, Grid::Int8];

    #[test]
    fn feedback_lowers_the_error_of_the_outputs() {
        let (shape, pool) = ([24, 96], ThreadPool::new(2));
        let (w, h) = (noise(24 * 96, 1), hessian(96, &pool));
        let feedback = h.clone().feedback(0.01, &pool).unwrap();
        for grid in [Grid::Ternary, Grid::Planes, Grid::Int4] {
            for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(32)] {
                let of = |f| error(&h, &w, &fit(shape, &w, grid, granularity, f, &pool));
                let (with, without) = (of(Some(&feedback)), of(None));
                assert!(with < 0.8 * without, "{grid:?} {granularity:?}: {with} {without}");
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let w = noise(37 * 64, 1);
        let feedback = hessian(64, &ThreadPool::new(1)).feedback(0.01, &ThreadPool::new(1)).unwrap();
        for grid in ALL {
            let of =
                |n| fit([37, 64], &w, grid, Granularity::Group(32), Some(&feedback), &ThreadPool::new(n));
            assert_eq!(of(1), of(3), "{grid:?}");
        }
    }

    #[test]
    fn what_is_stored_is_what_was_fitted() {
        let (w, pool) = (noise(20 * 64, 1), ThreadPool::new(1));
        for grid in ALL {
            for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(16)] {
                let fitted = fit([20, 64], &w, grid, granularity, None, &pool);
                let (mut want, mut got, mut more) = ([0.0; 64], [0.0; 64], [0.0; 64]);
                let stored = fitted.clone().stored().unwrap();
                for row in 0..20 {
                    fitted.row_to_f32(row, &mut want);
                    match &stored {
                        Stored::Plane(m) => m.row_to_f32(row, &mut got),
                        Stored::Planes(m) => {
                            m[0].row_to_f32(row, &mut got);
                            m[1].row_to_f32(row, &mut more);
                            got.iter_mut().zip(more).for_each(|(a, b)| *a += b);
                        }
                        Stored::Blocks(ty, bytes) => {
                            let table = bitnet_source::block_table("w", *ty, [20, 64], bytes.clone().into());
                            table.unwrap().row_to_f32(row, &mut got);
                        }
                    }
                    assert_eq!(got, want, "{grid:?} {granularity:?} row {row}");
                }
            }
        }
    }

    #[test]
    fn a_ternary_matrix_is_found_again() {
        let trits: Vec<i8> = (0..8 * 64).map(|i| [0, 1, -1, 1, 0, -1, 0][i * i % 7]).collect();
        let scales = Scales::Group { size: 32, scales: (1..=16).map(|i| i as f32 / 64.0).collect() };
        let matrix = TernaryMatrix::from_trits(8, 64, &trits, scales).unwrap();
        let mut w = vec![0.0; 8 * 64];
        w.chunks_exact_mut(64).enumerate().for_each(|(r, row)| matrix.row_to_f32(r, row));
        let pool = ThreadPool::new(1);
        let fitted = fit([8, 64], &w, Grid::Ternary, Granularity::Group(32), None, &pool);
        let Stored::Plane(found) = fitted.stored().unwrap() else { panic!("no plane") };
        assert_eq!(found, matrix);
    }
}
