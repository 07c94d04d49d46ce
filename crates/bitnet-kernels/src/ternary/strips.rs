//! Strips of a packed matrix as products read them, and how their rows are written.

use std::ops::Range;

use bitnet_quant::{PackedTernary, QuantizedRows, StripScales};

use crate::block::{Block, Lanes, Word};

/// Rows of a strip, as all packed layouts have them.
pub(crate) const STRIP: usize = PackedTernary::STRIP;

/// A run of neighbouring strips of a packed matrix.
pub(crate) struct Strips<'a> {
    /// The blocks from the run's first strip on; more may follow than the run has.
    pub(super) blocks: &'a [Block],
    /// Blocks of 16 columns in a strip.
    pub(super) len: usize,
    pub(super) cols: usize,
    pub(super) scales: &'a StripScales,
    pub(super) first: usize,
    pub(super) rows: usize,
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
    pub(super) fn count(&self) -> usize {
        self.rows.div_ceil(STRIP)
    }

    /// Blocks of strip `s` of this run.
    #[inline(always)]
    pub(super) fn strip(&self, s: usize) -> &'a [Block] {
        &self.blocks[s * self.len..(s + 1) * self.len]
    }

    /// Rows of strip `s` that are wanted, as columns of the output group.
    #[inline(always)]
    pub(super) fn columns(&self, s: usize) -> Range<usize> {
        s * STRIP..((s + 1) * STRIP).min(self.rows)
    }

    /// Scales of the rows of strip `s` in `group`.
    #[inline(always)]
    pub(super) fn scales(&self, s: usize, group: usize) -> Lanes<f32> {
        lanes(self.scales.strip(self.first + s, group))
    }
}

/// The scales of 16 rows, or one for all of them.
#[inline(always)]
pub(super) fn lanes(scales: &[f32]) -> Lanes<f32> {
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
pub(super) fn words(x: &QuantizedRows, token: usize, blocks: usize) -> &[Word] {
    &x.codes(token).as_chunks().0[..blocks]
}

#[inline(always)]
pub(super) fn write(y: &Lanes<f32>, columns: Range<usize>, row: &mut [f32]) {
    let row = &mut row[columns];
    match row.as_chunks_mut() {
        ([whole], []) => *whole = *y,
        _ => row.copy_from_slice(&y[..row.len()]),
    }
}
