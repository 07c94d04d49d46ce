//! Ternary matrix products: tiling, the correction for unsigned codes, and the one place where scales are applied.
//!
//! Every kernel returns raw code sums; since a code is trit + 1, `sum(trit * x) = sum(code * x) - sum(x)`. Then, per
//! row and in exactly this order of f32 operations:
//!
//! - int8 per token, one scale per tensor or row: `y = (dot * step) * scale`.
//! - otherwise a row is a sequence of groups (columns that share a scale) and a group a sequence of pieces (columns that
//!   also share a step): `acc = 0; for each group { s = 0; for each piece { s += dot * step }; acc += s * scale }`.
//! - float activations: `acc = 0; for each group { s = 0; for each column { s += trit * x }; acc += s * scale }`.

use std::ops::Range;

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{Activations, Granularity, PackedTernary, QuantizedRows, activations};

use crate::isa::{Block, Isa, Lanes, Op, Word};

mod float;

pub(crate) use float::FloatMatmul;

/// Rows of a strip.
const STRIP: usize = PackedTernary::STRIP;
/// Bytes of activations that a pass over the strips may keep in cache: half of a small second-level cache.
const TOKEN_BYTES: usize = 256 << 10;

/// Some strips of a matrix times all tokens.
pub(crate) struct Matmul<'a, 'b> {
    pub(crate) w: Strips<'a>,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) form: Activations,
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for Matmul<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, form, out } = self;
        let one_group = !matches!(w.matrix.granularity(), Granularity::Group(_));
        if form == Activations::Int8PerToken && one_group {
            let per_pass = (TOKEN_BYTES / x.stride()).max(1).next_multiple_of(I::TOKENS);
            let mut first = 0;
            while first < out.rows() {
                let tokens = first..(first + per_pass).min(out.rows());
                pass(isa, &w, x, tokens.clone(), out);
                first = tokens.end;
            }
        } else {
            pieces(isa, &w, x, form, out);
        }
    }
}

/// A run of strips of a matrix.
pub(crate) struct Strips<'a> {
    matrix: &'a PackedTernary,
    blocks: &'a [Block],
    first: usize,
    rows: usize,
}

impl<'a> Strips<'a> {
    /// Rows `first_row .. first_row + rows`; `first_row` must begin a strip.
    pub(crate) fn new(matrix: &'a PackedTernary, first_row: usize, rows: usize) -> Self {
        assert!(first_row.is_multiple_of(STRIP), "row {first_row} is inside a strip");
        assert!(
            first_row.checked_add(rows).is_some_and(|end| end <= matrix.rows()),
            "rows {first_row} + {rows} of {}",
            matrix.rows()
        );
        let (blocks, _) = matrix.bytes().as_chunks();
        Self { matrix, blocks, first: first_row / STRIP, rows }
    }

    /// Number of strips, the last of which may be used in part.
    #[inline(always)]
    fn count(&self) -> usize {
        self.rows.div_ceil(STRIP)
    }

    /// Blocks of strip `s` of this run.
    #[inline(always)]
    fn strip(&self, s: usize) -> &'a [Block] {
        let len = self.matrix.blocks();
        let at = (self.first + s) * len;
        &self.blocks[at..at + len]
    }

    /// Rows of strip `s` that are wanted, as columns of the output group.
    #[inline(always)]
    fn columns(&self, s: usize) -> Range<usize> {
        s * STRIP..((s + 1) * STRIP).min(self.rows)
    }

    /// Scales of the rows of strip `s` in `group`.
    #[inline(always)]
    fn scales(&self, s: usize, group: usize) -> Lanes<f32> {
        match self.matrix.strip_scales(self.first + s, group) {
            [one] => [*one; STRIP],
            rows => {
                let mut lanes = [0.0; STRIP];
                lanes.copy_from_slice(rows);
                lanes
            }
        }
    }
}

/// The activations of `token` as one word per block.
#[inline(always)]
fn words(x: &QuantizedRows, token: usize, blocks: usize) -> &[Word] {
    &x.codes(token).as_chunks().0[..blocks]
}

/// All strips times some tokens, with one step per token and one scale per row.
#[inline(always)]
fn pass<I: Isa>(
    isa: I,
    w: &Strips<'_>,
    x: &QuantizedRows,
    tokens: Range<usize>,
    out: &mut ColumnsMut<'_, f32>,
) {
    if tokens.len() == 1 {
        let token = tokens.start;
        let words = words(x, token, w.matrix.blocks());
        for s in 0..w.count() {
            finish(isa.dot(w.strip(s), words), x, token, w, s, out);
        }
        return;
    }
    let mut s = 0;
    while s < w.count() {
        if I::STRIPS >= 2 && s + 2 <= w.count() {
            strips_by_tokens::<I, 2>(isa, w, s, x, tokens.clone(), out);
            s += 2;
        } else {
            strips_by_tokens::<I, 1>(isa, w, s, x, tokens.clone(), out);
            s += 1;
        }
    }
}

/// `S` strips times some tokens, in the widest tiles that fit.
#[inline(always)]
fn strips_by_tokens<I: Isa, const S: usize>(
    isa: I,
    w: &Strips<'_>,
    s: usize,
    x: &QuantizedRows,
    tokens: Range<usize>,
    out: &mut ColumnsMut<'_, f32>,
) {
    let mut t = tokens.start;
    while t < tokens.end {
        t += match (tokens.end - t).min(I::TOKENS) {
            12.. => one_tile::<I, S, 12>(isa, w, s, x, t, out),
            8.. => one_tile::<I, S, 8>(isa, w, s, x, t, out),
            6.. => one_tile::<I, S, 6>(isa, w, s, x, t, out),
            4.. => one_tile::<I, S, 4>(isa, w, s, x, t, out),
            2.. => one_tile::<I, S, 2>(isa, w, s, x, t, out),
            _ => one_tile::<I, S, 1>(isa, w, s, x, t, out),
        };
    }
}

/// One register tile; returns `T`.
#[inline(always)]
fn one_tile<I: Isa, const S: usize, const T: usize>(
    isa: I,
    w: &Strips<'_>,
    s: usize,
    x: &QuantizedRows,
    token: usize,
    out: &mut ColumnsMut<'_, f32>,
) -> usize {
    let mut sums = [[[0; STRIP]; T]; S];
    let strips = std::array::from_fn(|i| w.strip(s + i));
    isa.tile::<S, T>(strips, std::array::from_fn(|i| words(x, token + i, w.matrix.blocks())), &mut sums);
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sums) in sums.into_iter().enumerate() {
            finish(sums, x, token + j, w, s + i, out);
        }
    }
    T
}

/// `(dot * step) * scale`.
#[inline(always)]
fn finish(
    sums: Lanes<i32>,
    x: &QuantizedRows,
    token: usize,
    w: &Strips<'_>,
    s: usize,
    out: &mut ColumnsMut<'_, f32>,
) {
    let (sum, step, scales) = (x.sum(token), x.step(token), w.scales(s, 0));
    let mut y = [0.0; STRIP];
    for r in 0..STRIP {
        y[r] = ((sums[r] - sum) as f32 * step) * scales[r];
    }
    write(&y, w.columns(s), token, out);
}

#[inline(always)]
fn write(y: &Lanes<f32>, columns: Range<usize>, token: usize, out: &mut ColumnsMut<'_, f32>) {
    let row = &mut out.row(token)[columns];
    match row.as_chunks_mut() {
        ([whole], []) => *whole = *y,
        _ => row.copy_from_slice(&y[..row.len()]),
    }
}

/// All strips times all tokens where steps or scales change along a row.
#[inline(always)]
fn pieces<I: Isa>(
    isa: I,
    w: &Strips<'_>,
    x: &QuantizedRows,
    form: Activations,
    out: &mut ColumnsMut<'_, f32>,
) {
    let cols = w.matrix.cols();
    let group = match w.matrix.granularity() {
        Granularity::Group(size) => size,
        _ => cols,
    };
    let block = if form == Activations::Int8PerBlock { activations::BLOCK } else { cols };
    for s in 0..w.count() {
        for token in 0..out.rows() {
            let (strip, words) = (w.strip(s), words(x, token, w.matrix.blocks()));
            let steps = x.block_steps(token);
            let mut acc = [0.0; STRIP];
            for (g, start) in (0..cols).step_by(group).enumerate() {
                let end = (start + group).min(cols);
                let mut sum = [0.0; STRIP];
                let mut at = start;
                while at < end {
                    let stop = ((at / block + 1) * block).min(end);
                    let dot = piece(isa, strip, words, at..stop, cols);
                    let step = steps[at / block];
                    for r in 0..STRIP {
                        sum[r] += dot[r] as f32 * step;
                    }
                    at = stop;
                }
                let scales = w.scales(s, g);
                for r in 0..STRIP {
                    acc[r] += sum[r] * scales[r];
                }
            }
            write(&acc, w.columns(s), token, out);
        }
    }
}

/// Exact trit dots over some columns. Edges inside a block are cut by zeroing the activations outside.
#[inline(always)]
fn piece<I: Isa>(isa: I, strip: &[Block], x: &[Word], range: Range<usize>, cols: usize) -> Lanes<i32> {
    let blocks = range.start / 16..range.end.div_ceil(16);
    if range.start.is_multiple_of(16) && (range.end.is_multiple_of(16) || range.end == cols) {
        let sum: i32 = x[blocks.clone()].iter().flatten().map(|&x| i32::from(x)).sum();
        let mut sums = isa.dot(&strip[blocks.clone()], &x[blocks]);
        sums.iter_mut().for_each(|s| *s -= sum);
        return sums;
    }
    let mut sums = [0; STRIP];
    for b in blocks {
        let mut word = x[b];
        for (column, x) in word.iter_mut().enumerate() {
            if !range.contains(&(16 * b + column)) {
                *x = 0;
            }
        }
        let sum: i32 = word.iter().map(|&x| i32::from(x)).sum();
        let part = isa.dot(&strip[b..=b], &[word]);
        for r in 0..STRIP {
            sums[r] += part[r] - sum;
        }
    }
    sums
}
