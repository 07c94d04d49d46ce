//! Products where steps or scales change along a row: piece by piece.

use std::ops::Range;

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{Activations, Granularity, QuantizedRows, activations};

use super::{
    strips::{STRIP, Strips, words, write},
    whole_rows::tile_tokens,
};
use crate::{
    isa::{Block, Isa, Lanes, Word, array},
    simd::Floats,
};

/// Tokens in the widest tile: the float sums of more have no room in registers (12 tokens of 2 strips reached 242 GOPS where
/// 4 of 4 reached 360, 2026-11-21).
const WIDEST: usize = 4;

/// Where scales and steps change along a row.
#[derive(Clone, Copy)]
struct Cuts {
    cols: usize,
    /// Columns that share a scale of the weights.
    group: usize,
    /// Columns that share a step of the activations.
    block: usize,
}

impl Cuts {
    /// Whether every piece begins and ends with a block of the layout, so that tiles can be used.
    fn aligned(&self) -> bool {
        let aligned = |size: usize| size.is_multiple_of(STRIP) || size >= self.cols;
        aligned(self.group) && aligned(self.block)
    }

    /// The end of the piece that begins at `at`.
    #[inline(always)]
    fn stop(&self, at: usize) -> usize {
        let (group, block) = ((at / self.group + 1) * self.group, (at / self.block + 1) * self.block);
        group.min(block).min(self.cols)
    }
}

/// All strips times all tokens.
///
/// Tiles unpack a piece once for several tokens, or take four strips of one. (One dot product per piece, strip and token
/// read 16.5 GB/s where tiles of whole rows read 40; these tiles read 23, and inlining them gained nothing, 2026-11-21.)
#[inline(always)]
pub(super) fn multiply<I: Isa>(
    isa: I,
    w: &Strips<'_>,
    x: &QuantizedRows,
    form: Activations,
    out: &mut ColumnsMut<'_, f32>,
) {
    let cols = w.cols;
    let group = match w.scales.granularity() {
        Granularity::Group(size) => size,
        _ => cols,
    };
    let block = if form == Activations::Int8PerBlock { activations::BLOCK } else { cols };
    let cuts = Cuts { cols, group, block };
    if !cuts.aligned() {
        return one_by_one(isa, w, x, cuts, out);
    }
    let mut token = 0;
    while token < out.rows() {
        token += match tile_tokens(out.rows() - token, I::TOKENS.min(WIDEST)) {
            4 if const { I::TOKENS >= 4 } => strips::<I, 4>(isa, w, x, token, cuts, out),
            3 if const { I::TOKENS >= 3 } => strips::<I, 3>(isa, w, x, token, cuts, out),
            2 if const { I::TOKENS >= 2 } => strips::<I, 2>(isa, w, x, token, cuts, out),
            _ => strips::<I, 1>(isa, w, x, token, cuts, out),
        };
    }
}

/// `T` tokens times all strips; returns `T`.
#[inline(always)]
fn strips<I: Isa, const T: usize>(
    isa: I,
    w: &Strips<'_>,
    x: &QuantizedRows,
    token: usize,
    cuts: Cuts,
    out: &mut ColumnsMut<'_, f32>,
) -> usize {
    let mut s = 0;
    while s < w.count() {
        if const { I::STRIPS >= 4 } && s + 4 <= w.count() {
            tile::<I, 4, T>(isa, w, s, x, token, cuts, out);
            s += 4;
        } else if const { I::STRIPS >= 2 } && s + 2 <= w.count() {
            tile::<I, 2, T>(isa, w, s, x, token, cuts, out);
            s += 2;
        } else {
            tile::<I, 1, T>(isa, w, s, x, token, cuts, out);
            s += 1;
        }
    }
    T
}

/// One register tile, piece by piece.
#[inline(always)]
fn tile<I: Isa, const S: usize, const T: usize>(
    isa: I,
    w: &Strips<'_>,
    s: usize,
    x: &QuantizedRows,
    token: usize,
    cuts: Cuts,
    out: &mut ColumnsMut<'_, f32>,
) {
    let lines: [&[Block]; S] = array(|i| w.strip(s + i));
    let ahead: [&[Block]; S] = array(|i| w.strip((s + S + i).min(w.count() - 1)));
    let codes: [&[Word]; T] = array(|t| words(x, token + t, w.len));
    let zero = isa.splat(0.0);
    let (mut acc, mut at) = ([[zero; T]; S], 0);
    for g in 0..cuts.cols.div_ceil(cuts.group) {
        let end = ((g + 1) * cuts.group).min(cuts.cols);
        let mut sum = [[zero; T]; S];
        while at < end {
            let stop = cuts.stop(at);
            let blocks = at / STRIP..stop.div_ceil(STRIP);
            if T == 1 {
                ahead.iter().flat_map(|ahead| &ahead[blocks.clone()]).for_each(|block| isa.prefetch(block));
            }
            let mut raw = [[[0; STRIP]; T]; S];
            let lines: [_; S] = array(|i| &lines[i][blocks.clone()]);
            let codes: [_; T] = array(|t| &codes[t][blocks.clone()]);
            if S * T == 1 {
                raw[0][0] = isa.dot(lines[0], codes[0]);
            } else {
                isa.tile::<S, T>(lines, codes, &mut raw);
            }
            for t in 0..T {
                let step = x.block_steps(token + t)[at / cuts.block];
                let x_sum = piece_sum(x, token + t, at..stop, cuts, codes[t]);
                for i in 0..S {
                    // Times 1 is exact: the product of dot and step alone.
                    let y = isa.finish(&raw[i][t], x_sum, step, &[1.0; STRIP]);
                    sum[i][t] = sum[i][t].add(isa.load(&y));
                }
            }
            at = stop;
        }
        for i in 0..S {
            let scales = isa.load(&w.scales(s + i, g));
            for t in 0..T {
                acc[i][t] = acc[i][t].add(sum[i][t].mul(scales));
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (t, acc) in acc.iter().enumerate() {
            write(&acc.store(), w.columns(s + i), out.row(token + t));
        }
    }
}

/// The sum of the activations of a piece: known where it is a block.
#[inline(always)]
fn piece_sum(x: &QuantizedRows, token: usize, piece: Range<usize>, cuts: Cuts, codes: &[Word]) -> i32 {
    let whole =
        piece.start.is_multiple_of(cuts.block) && piece.end == (piece.start + cuts.block).min(cuts.cols);
    if whole {
        return x.block_sums(token)[piece.start / cuts.block];
    }
    codes.iter().flatten().map(|&x| i32::from(x)).sum()
}

/// Any cuts, one strip and token after another.
#[inline(always)]
fn one_by_one<I: Isa>(isa: I, w: &Strips<'_>, x: &QuantizedRows, cuts: Cuts, out: &mut ColumnsMut<'_, f32>) {
    let cols = cuts.cols;
    for s in 0..w.count() {
        for token in 0..out.rows() {
            let (strip, words) = (w.strip(s), words(x, token, w.len));
            let steps = x.block_steps(token);
            let mut acc = [0.0; STRIP];
            for (g, start) in (0..cols).step_by(cuts.group).enumerate() {
                let end = (start + cuts.group).min(cols);
                let mut sum = [0.0; STRIP];
                let mut at = start;
                while at < end {
                    let stop = cuts.stop(at);
                    let dot = piece(isa, strip, words, at..stop, cols);
                    let step = steps[at / cuts.block];
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
            write(&acc, w.columns(s), out.row(token));
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
