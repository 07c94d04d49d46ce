//! Products that read only the lines that matter, and strips put together from lines.
//!
//! Leaving out a line changes nothing: an output that squared ReLU multiplies with 0 is never looked at, and an input whose
//! code is 0 adds 0 to every integer sum. For several tokens, whose needs differ, 16 rows at a time are put together as an
//! ordinary strip in scratch memory and multiplied as such.

use std::ops::Range;

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{Axis, QuantizedRows, TernaryLines};

use super::{
    definitions::{Lines, list},
    strips::{STRIP, Strips, lanes, words, write},
    whole_rows::WholeRows,
};
use crate::isa::{Block, Isa, LISTED, Op};

/// Elements of a line in one block.
const BLOCK_LEN: usize = TernaryLines::BLOCK_LEN;
/// Blocks of columns whose sums are kept at once: 16 KB.
const SUMMED: usize = 16;
/// Columns that are fetched ahead of those which become strips.
const AHEAD: usize = 16 * STRIP;

/// `gate = relu(gate)^2 * up` where `up` is computed for live rows only, `gate` being a group of columns of every token.
pub(crate) struct GateLive<'a, 'b> {
    pub(crate) up: &'a TernaryLines,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) gate: &'a mut ColumnsMut<'b, f32>,
}

impl Op for GateLive<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { up, x, gate } = self;
        let first = gate.start();
        for token in 0..gate.rows() {
            for (i, gate) in gate.row(token).chunks_mut(LISTED).enumerate() {
                gate_live(isa, up, x, token, first + i * LISTED, gate);
            }
        }
    }
}

/// Rows `first ..` of one token, at most [`LISTED`].
#[inline(always)]
fn gate_live<I: Isa>(
    isa: I,
    up: &TernaryLines,
    x: &QuantizedRows,
    token: usize,
    first: usize,
    gate: &mut [f32],
) {
    let step = x.step(token);
    // A row may be left out only if 0 times its value is 0: where values could be infinite, none is.
    let bound = 128.0 * up.cols() as f32 * step * up.scales().largest();
    let skip = bound.is_finite();
    let mut ids = [0u32; LISTED + STRIP];
    let live = if skip {
        let live = isa.list_open(gate, first as u32, &mut ids);
        gate.iter_mut().for_each(|gate| *gate = if *gate <= 0.0 { 0.0 } else { *gate });
        live
    } else {
        list(gate, first as u32, &mut ids, |_| true)
    };
    let (ids, mut sums) = (&ids[..live], [0i32; LISTED]);
    isa.line_dots(Lines::of(up), ids, words(x, token, up.cols().div_ceil(16)), &mut sums[..live]);
    let x_sum = x.sum(token);
    for (&id, &sum) in ids.iter().zip(&sums) {
        let up = ((sum - x_sum) as f32 * step) * up.scales().of(id as usize, 0);
        let gate = &mut gate[id as usize - first];
        let positive = if *gate < 0.0 { 0.0 } else { *gate };
        *gate = positive * positive * up;
    }
}

/// Some rows of a matrix of rows times every token, one token after another.
pub(crate) struct EveryRow<'a, 'b> {
    pub(crate) w: &'a TernaryLines,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for EveryRow<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, out } = self;
        let (mut ids, mut sums) = ([0u32; LISTED], [0i32; LISTED]);
        for token in 0..out.rows() {
            let (words, x_sum, step) = (words(x, token, w.cols().div_ceil(16)), x.sum(token), x.step(token));
            let mut first = out.start();
            for out in out.row(token).chunks_mut(LISTED) {
                ids.iter_mut().zip(first..).for_each(|(id, row)| *id = row as u32);
                isa.line_dots(Lines::of(w), &ids[..out.len()], words, &mut sums[..out.len()]);
                for (i, (y, &sum)) in out.iter_mut().zip(&sums).enumerate() {
                    *y = ((sum - x_sum) as f32 * step) * w.scales().of(first + i, 0);
                }
                first += out.len();
            }
        }
    }
}

/// Some rows of a matrix of columns times every token, reading the columns whose activation is not 0.
pub(crate) struct LiveColumns<'a, 'b> {
    pub(crate) w: &'a TernaryLines,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for LiveColumns<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, out } = self;
        let (first, rows) = (out.start() / BLOCK_LEN, out.width());
        let mut sums = [[0i32; STRIP]; SUMMED * BLOCK_LEN / STRIP];
        for token in 0..out.rows() {
            let (codes, x_sum, step) = (&x.codes(token)[..w.cols()], x.sum(token), x.step(token));
            for from in (0..rows).step_by(SUMMED * BLOCK_LEN) {
                let to = (from + SUMMED * BLOCK_LEN).min(rows);
                let blocks = first + from / BLOCK_LEN..first + to.div_ceil(BLOCK_LEN);
                let sums = &mut sums[..blocks.len() * BLOCK_LEN / STRIP];
                isa.line_sums(Lines::of(w), codes, blocks, sums);
                let out = out.row(token);
                for (s, sums) in (from / STRIP..to.div_ceil(STRIP)).zip(sums) {
                    let scales = lanes(w.scales().strip(first * (BLOCK_LEN / STRIP) + s, 0));
                    write(
                        &isa.finish(sums, x_sum, step, &scales),
                        s * STRIP..((s + 1) * STRIP).min(rows),
                        out,
                    );
                }
            }
        }
    }
}

/// Some rows of a matrix of lines times all tokens, by way of strips in `scratch`.
pub(crate) struct Tiled<'a, 'b> {
    pub(crate) w: &'a TernaryLines,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for Tiled<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, scratch, out } = self;
        let (first, rows) = (out.start(), out.width());
        let strips = scratch.as_chunks_mut().0;
        match w.axis() {
            Axis::Rows => strips_of_rows(isa, w, first..first + rows, strips),
            Axis::Columns => strips_of_columns(isa, w, first..first + rows, strips),
        }
        isa.call(WholeRows { w: &Strips::of(strips, w.cols(), w.scales(), first, rows), x, out });
    }
}

/// A block whose trits are all 0: every two-bit code is 1.
static EMPTY: Block = [0x55; 64];

#[inline(always)]
fn strips_of_rows<I: Isa>(isa: I, w: &TernaryLines, rows: Range<usize>, strips: &mut [Block]) {
    let (lines, len) = (Lines::of(w), w.cols().div_ceil(STRIP));
    for (strip, first) in strips.chunks_exact_mut(len).zip(rows.step_by(STRIP)) {
        let inside = (lines.count() - first).min(STRIP);
        // The lines of the next strip are read in another order than that of memory: they are fetched in order.
        let mut next = lines.blocks.get((first + STRIP) * lines.len..).unwrap_or(&[]).chunks(STRIP);
        for (b, blocks) in strip.chunks_mut(STRIP).enumerate() {
            next.next().unwrap_or(&[]).iter().for_each(|block| isa.prefetch(block));
            let line = |r: usize| if r < inside { &lines.line((first + r) as u32)[b] } else { &EMPTY };
            let made = isa.transpose::<false>(std::array::from_fn(line));
            match blocks.first_chunk_mut() {
                Some(all) => *all = made,
                None => blocks.copy_from_slice(&made[..blocks.len()]),
            }
        }
    }
}

#[inline(always)]
fn strips_of_columns<I: Isa>(isa: I, w: &TernaryLines, rows: Range<usize>, strips: &mut [Block]) {
    let (lines, len) = (Lines::of(w), w.cols().div_ceil(STRIP));
    let wanted = rows.len().div_ceil(STRIP);
    for word in 0..len {
        let first = word * STRIP;
        let inside = (lines.count() - first).min(STRIP);
        for (i, b) in (rows.start / BLOCK_LEN..rows.end.div_ceil(BLOCK_LEN)).enumerate() {
            for c in first + AHEAD..(first + AHEAD + STRIP).min(lines.count()) {
                isa.prefetch(&lines.line(c as u32)[b]);
            }
            let line = |c: usize| if c < inside { &lines.line((first + c) as u32)[b] } else { &EMPTY };
            let turned = isa.transpose::<true>(std::array::from_fn(line));
            for (s, block) in (i * STRIP..wanted).zip(turned) {
                strips[s * len + word] = block;
            }
        }
    }
}
