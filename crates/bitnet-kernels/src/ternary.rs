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
use bitnet_quant::{Activations, Granularity, PackedTernary, QuantizedRows, StripScales};

use crate::isa::{Block, Isa, Lanes, Op, Word, array};

pub(crate) mod base3;
mod float;
pub(crate) mod lines;
mod pieces;
pub(crate) mod planes;

pub(crate) use float::FloatMatmul;

/// Rows of a strip.
const STRIP: usize = PackedTernary::STRIP;
/// Bytes of strips that stay in the second-level cache while all tokens pass over them.
const GROUP_BYTES: usize = 256 << 10;

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
        let one_group = !matches!(w.scales.granularity(), Granularity::Group(_));
        if form == Activations::Int8PerToken && one_group {
            isa.call(WholeRows { w: &w, x, out });
        } else {
            pieces::multiply(isa, &w, x, form, out);
        }
    }
}

/// A run of strips of a matrix.
pub(crate) struct Strips<'a> {
    /// From the run's first strip on.
    blocks: &'a [Block],
    /// Blocks of a strip.
    len: usize,
    cols: usize,
    scales: &'a StripScales,
    first: usize,
    rows: usize,
}

impl<'a> Strips<'a> {
    /// Rows `first_row .. first_row + rows`; `first_row` must begin a strip.
    pub(crate) fn new(matrix: &'a PackedTernary, first_row: usize, rows: usize) -> Self {
        assert!(
            first_row.checked_add(rows).is_some_and(|end| end <= matrix.rows()),
            "rows {first_row} + {rows} of {}",
            matrix.rows()
        );
        let blocks = &matrix.bytes().as_chunks().0[first_row / STRIP * matrix.blocks()..];
        Self::of(blocks, matrix.cols(), matrix.scales_by_strip(), first_row, rows)
    }

    /// The same rows from blocks that hold them alone.
    pub(crate) fn of(
        blocks: &'a [Block],
        cols: usize,
        scales: &'a StripScales,
        first_row: usize,
        rows: usize,
    ) -> Self {
        assert!(first_row.is_multiple_of(STRIP), "row {first_row} is inside a strip");
        let len = cols.div_ceil(PackedTernary::BLOCK_COLS);
        assert!(blocks.len() >= rows.div_ceil(STRIP) * len, "blocks of {rows} rows");
        Self { blocks, len, cols, scales, first: first_row / STRIP, rows }
    }

    /// Number of strips, the last of which may be used in part.
    #[inline(always)]
    fn count(&self) -> usize {
        self.rows.div_ceil(STRIP)
    }

    /// Blocks of strip `s` of this run.
    #[inline(always)]
    fn strip(&self, s: usize) -> &'a [Block] {
        &self.blocks[s * self.len..(s + 1) * self.len]
    }

    /// Rows of strip `s` that are wanted, as columns of the output group.
    #[inline(always)]
    fn columns(&self, s: usize) -> Range<usize> {
        s * STRIP..((s + 1) * STRIP).min(self.rows)
    }

    /// Scales of the rows of strip `s` in `group`.
    #[inline(always)]
    fn scales(&self, s: usize, group: usize) -> Lanes<f32> {
        lanes(self.scales.strip(self.first + s, group))
    }
}

/// The scales of 16 rows, or one for all of them.
#[inline(always)]
fn lanes(scales: &[f32]) -> Lanes<f32> {
    match scales {
        [one] => [*one; STRIP],
        rows => {
            let mut lanes = [0.0; STRIP];
            lanes.copy_from_slice(rows);
            lanes
        }
    }
}

/// The activations of `token` as one word per block.
#[inline(always)]
fn words(x: &QuantizedRows, token: usize, blocks: usize) -> &[Word] {
    &x.codes(token).as_chunks().0[..blocks]
}

/// All strips times all tokens, with one step per token and one scale per row.
pub(crate) struct WholeRows<'a, 'b, 'c> {
    pub(crate) w: &'a Strips<'a>,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) out: &'c mut ColumnsMut<'b, f32>,
}

impl Op for WholeRows<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, out } = self;
        if out.rows() == 1 {
            let words = words(x, 0, w.len);
            let (sum, step, row) = (x.sum(0), x.step(0), out.row(0));
            for s in 0..w.count() {
                let sums = isa.dot(w.strip(s), words);
                write(&isa.finish(&sums, sum, step, &w.scales(s, 0)), w.columns(s), row);
            }
        } else if const { I::PLANE_TOKENS > 0 } && out.rows() >= I::PLANES_FROM {
            planes::whole_rows(isa, w, x, out);
        } else {
            packed_rows(isa, w, x, out);
        }
    }
}

/// Several tokens, multiplied with codes as they are unpacked.
///
/// Strips are taken in groups that fit in the second-level cache. Inside a group a few tokens pass all strips before the
/// next tokens do: their activations stay in the first-level cache, and their results are written
/// side by side. (Tokens innermost wrote one cache line per token, each in another page: 77 instead of 81 % of
/// the multiplier's limit at [13824, 2560] times 512 tokens, 2026-11-21.)
#[inline(always)]
fn packed_rows<I: Isa>(isa: I, w: &Strips<'_>, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
    let per_group = (GROUP_BYTES / size_of_val(w.strip(0))).max(1).next_multiple_of(I::STRIPS);
    let mut first = 0;
    while first < w.count() {
        let group = first..(first + per_group).min(w.count());
        first = group.end;
        let passes = out.rows().div_ceil(I::TOKENS) * group.len().div_ceil(I::STRIPS.min(2));
        let mut behind = Behind::new(&w.blocks[group.end * w.len..], group.len() * w.len, passes);
        let mut token = 0;
        while token < out.rows() {
            let group = group.clone();
            token += match tile_tokens(out.rows() - token, I::TOKENS) {
                12 if const { I::TOKENS >= 12 } => tiles::<I, 12>(isa, w, group, x, token, &mut behind, out),
                10 if const { I::TOKENS >= 10 } => tiles::<I, 10>(isa, w, group, x, token, &mut behind, out),
                8 if const { I::TOKENS >= 8 } => tiles::<I, 8>(isa, w, group, x, token, &mut behind, out),
                6 if const { I::TOKENS >= 6 } => tiles::<I, 6>(isa, w, group, x, token, &mut behind, out),
                5 if const { I::TOKENS >= 5 } => tiles::<I, 5>(isa, w, group, x, token, &mut behind, out),
                4 if const { I::TOKENS >= 4 } => tiles::<I, 4>(isa, w, group, x, token, &mut behind, out),
                3 if const { I::TOKENS >= 3 } => tiles::<I, 3>(isa, w, group, x, token, &mut behind, out),
                2 if const { I::TOKENS >= 2 } => tiles::<I, 2>(isa, w, group, x, token, &mut behind, out),
                _ => tiles::<I, 1>(isa, w, group, x, token, &mut behind, out),
            };
        }
    }
}

/// What follows a group of strips, fetched a little with every tile: a group is read from memory in its first pass only, and
/// that pass would wait for it.
struct Behind<'a> {
    left: &'a [Block],
    part: usize,
}

impl<'a> Behind<'a> {
    /// As many of `blocks` as the next group has, in `passes` parts.
    #[inline(always)]
    fn new(blocks: &'a [Block], count: usize, passes: usize) -> Self {
        let left = &blocks[..count.min(blocks.len())];
        Self { left, part: left.len().div_ceil(passes.max(1)) }
    }

    #[inline(always)]
    fn fetch<I: Isa>(&mut self, isa: I) {
        let (part, left) = self.left.split_at(self.part.min(self.left.len()));
        self.left = left;
        part.iter().for_each(|block| isa.prefetch(block));
    }
}

/// Tokens of the next tile when `left` remain: as few tiles as possible, of about equal widths, since a narrow
/// last tile would be latency-bound.
fn tile_tokens(left: usize, widest: usize) -> usize {
    const WIDTHS: [usize; 9] = [1, 2, 3, 4, 5, 6, 8, 10, 12];
    let fair = left.div_ceil(left.div_ceil(widest));
    let fits = |width: &&usize| **width <= left && **width <= widest;
    let wide_enough = WIDTHS.iter().filter(fits).find(|&&width| width >= fair);
    *wide_enough.or(WIDTHS.iter().rev().find(fits)).unwrap_or(&1)
}

/// `T` tokens times a group of strips; returns `T`.
#[inline(always)]
fn tiles<I: Isa, const T: usize>(
    isa: I,
    w: &Strips<'_>,
    group: Range<usize>,
    x: &QuantizedRows,
    token: usize,
    behind: &mut Behind<'_>,
    out: &mut ColumnsMut<'_, f32>,
) -> usize {
    let tokens = Tokens::<T> {
        first: token,
        words: array(|t| words(x, token + t, w.len)),
        sums: array(|t| x.sum(token + t)),
        steps: array(|t| x.step(token + t)),
    };
    let mut s = group.start;
    while s < group.end {
        behind.fetch(isa);
        if const { I::STRIPS >= 4 && T <= 4 } && s + 4 <= group.end {
            one_tile::<I, 4, T>(isa, w, s, &tokens, out);
            s += 4;
        } else if const { I::STRIPS >= 2 } && s + 2 <= group.end {
            one_tile::<I, 2, T>(isa, w, s, &tokens, out);
            s += 2;
        } else {
            one_tile::<I, 1, T>(isa, w, s, &tokens, out);
            s += 1;
        }
    }
    T
}

/// The activations of a tile.
struct Tokens<'a, const T: usize> {
    first: usize,
    words: [&'a [Word]; T],
    sums: [i32; T],
    steps: [f32; T],
}

/// One register tile.
#[inline(always)]
fn one_tile<I: Isa, const S: usize, const T: usize>(
    isa: I,
    w: &Strips<'_>,
    s: usize,
    x: &Tokens<'_, T>,
    out: &mut ColumnsMut<'_, f32>,
) {
    let columns = w.columns(s).start..w.columns(s + S - 1).end;
    for t in 0..T {
        isa.prefetch_write(&mut out.row(x.first + t)[columns.clone()]);
    }
    let mut sums = [[[0; STRIP]; T]; S];
    isa.tile::<S, T>(array(|i| w.strip(s + i)), x.words, &mut sums);
    let scales: [_; S] = array(|i| w.scales(s + i, 0));
    for (t, (&x_sum, &step)) in x.sums.iter().zip(&x.steps).enumerate() {
        let row = &mut out.row(x.first + t)[columns.clone()];
        let (whole, rest) = row.as_chunks_mut::<STRIP>();
        if whole.len() == S {
            for i in 0..S {
                whole[i] = isa.finish(&sums[i][t], x_sum, step, &scales[i]);
            }
        } else {
            // The last strip has fewer rows.
            for (whole, (sums, scales)) in whole.iter_mut().zip(sums.iter().zip(&scales)) {
                *whole = isa.finish(&sums[t], x_sum, step, scales);
            }
            let last = isa.finish(&sums[S - 1][t], x_sum, step, &scales[S - 1]);
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

/// `((sums - x_sum) * step) * scales`, lane by lane: the definition of [`Isa::finish`], where scales are applied.
#[inline(always)]
pub(crate) fn finish(sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
    let mut y = [0.0; STRIP];
    for r in 0..STRIP {
        y[r] = ((sums[r] - x_sum) as f32 * step) * scales[r];
    }
    y
}

#[inline(always)]
fn write(y: &Lanes<f32>, columns: Range<usize>, row: &mut [f32]) {
    let row = &mut row[columns];
    match row.as_chunks_mut() {
        ([whole], []) => *whole = *y,
        _ => row.copy_from_slice(&y[..row.len()]),
    }
}
