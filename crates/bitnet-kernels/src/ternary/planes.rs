//! Products of many tokens by way of byte planes, for instruction sets on which a code must stand alone in its byte.
//!
//! A run of columns of one strip is unpacked once, each code to a byte of its own, and all tokens pass over it while it lies
//! in the first-level cache. Tiles then spend nothing on shifts and masks, and one broadcast activation meets all
//! 16 rows. Runs of columns stand outside the strips of a group, so that a run's activations, too, are read from
//! near by.

use std::ops::Range;

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::QuantizedRows;

use super::{
    definitions::PLANES,
    strips::{STRIP, Strips},
};
use crate::isa::{Block, Isa, Lanes, Plane, array};

/// Blocks that are unpacked together: 512 columns, 8 KB.
const RUN: usize = 32;
/// Strips whose sums are kept at once.
const GROUP: usize = 8;
/// Tokens that pass together: the sums of a group take 32 KB.
const TOKENS: usize = 64;

/// The sums of a group's strips for every token.
type Sums = [[Lanes<i32>; TOKENS]; GROUP];

/// All strips times all tokens, with one step per token and one scale per row.
#[inline(always)]
pub(super) fn whole_rows<I: Isa>(isa: I, w: &Strips<'_>, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
    let mut sums = [[[0; STRIP]; TOKENS]; GROUP];
    for first in (0..w.count()).step_by(GROUP) {
        let strips = first..(first + GROUP).min(w.count());
        for token in (0..out.rows()).step_by(TOKENS) {
            let tokens = token..(token + TOKENS).min(out.rows());
            add_up(isa, w, strips.clone(), x, tokens.clone(), &mut sums, out);
            finish(isa, w, strips.clone(), x, tokens, &sums, out);
        }
    }
}

/// The code sums of a group of strips for some tokens. Meanwhile their places in `out` are fetched.
#[inline(always)]
fn add_up<I: Isa>(
    isa: I,
    w: &Strips<'_>,
    strips: Range<usize>,
    x: &QuantizedRows,
    tokens: Range<usize>,
    sums: &mut Sums,
    out: &mut ColumnsMut<'_, f32>,
) {
    let mut planes = [[0; 64]; RUN * PLANES];
    // As few tiles as possible, of about equal widths. Divided here, since two divisions a tile took 4 % of its time.
    let tiles = tokens.len().div_ceil(I::PLANE_TOKENS);
    let (narrow, wider) = (tokens.len() / tiles, tokens.len() % tiles);
    for first in (0..w.len).step_by(RUN) {
        let run = first..(first + RUN).min(w.len);
        let planes = &mut planes[..PLANES * run.len()];
        for (s, sums) in strips.clone().zip(sums.iter_mut()) {
            isa.unpack(&w.strip(s)[run.clone()], planes);
            w.following(s, &strips, &run).iter().for_each(|block| isa.prefetch(block));
            let sums = &mut sums[..tokens.len()];
            if first == 0 {
                sums.fill([0; STRIP]);
            }
            if run.end == w.len {
                let share = tokens.len().div_ceil(strips.len());
                let from = tokens.start + (s - strips.start) * share;
                for token in from..(from + share).min(tokens.end) {
                    isa.prefetch_write(
                        &mut out.row(token)[w.columns(strips.start).start..w.columns(strips.end - 1).end],
                    );
                }
            }
            let mut t = 0;
            for i in 0..tiles {
                let (sums, token) = (&mut sums[t..], tokens.start + t);
                t += match narrow + usize::from(i < wider) {
                    6 if const { I::PLANE_TOKENS >= 6 } => tile::<I, 6>(isa, planes, x, token, first, sums),
                    5 if const { I::PLANE_TOKENS >= 5 } => tile::<I, 5>(isa, planes, x, token, first, sums),
                    4 if const { I::PLANE_TOKENS >= 4 } => tile::<I, 4>(isa, planes, x, token, first, sums),
                    3 if const { I::PLANE_TOKENS >= 3 } => tile::<I, 3>(isa, planes, x, token, first, sums),
                    2 => tile::<I, 2>(isa, planes, x, token, first, sums),
                    _ => tile::<I, 1>(isa, planes, x, token, first, sums),
                };
            }
        }
    }
}

impl<'a> Strips<'a> {
    /// What is unpacked after `run` of strip `s`, one of `strips`.
    #[inline(always)]
    fn following(&self, s: usize, strips: &Range<usize>, run: &Range<usize>) -> &'a [Block] {
        let (next, columns) = if s + 1 < strips.end {
            (s + 1, run.clone())
        } else if run.end < self.len {
            (strips.start, run.end..(run.end + RUN).min(self.len))
        } else {
            (strips.end.min(self.count() - 1), 0..RUN.min(self.len))
        };
        &self.strip(next)[columns]
    }
}

/// `T` tokens times one strip's planes, the first of which is that of column `16 * block`; returns `T`.
#[inline(always)]
fn tile<I: Isa, const T: usize>(
    isa: I,
    planes: &[Plane],
    x: &QuantizedRows,
    token: usize,
    block: usize,
    sums: &mut [Lanes<i32>],
) -> usize {
    let first = PLANES * block;
    let fours = array(|t| &x.codes(token + t).as_chunks().0[first..first + planes.len()]);
    if let Some(sums) = sums.first_chunk_mut::<T>() {
        isa.plane_tile(planes, fours, sums);
    }
    T
}

/// Applies steps and scales to the sums of a group of strips and writes the results.
#[inline(always)]
fn finish<I: Isa>(
    isa: I,
    w: &Strips<'_>,
    strips: Range<usize>,
    x: &QuantizedRows,
    tokens: Range<usize>,
    sums: &Sums,
    out: &mut ColumnsMut<'_, f32>,
) {
    let mut scales = [[0.0; STRIP]; GROUP];
    for (scales, s) in scales.iter_mut().zip(strips.clone()) {
        *scales = w.scales(s, 0);
    }
    let columns = w.columns(strips.start).start..w.columns(strips.end - 1).end;
    for (i, token) in tokens.enumerate() {
        let (x_sum, step) = (x.sum(token), x.step(token));
        let row = &mut out.row(token)[columns.clone()];
        for (s, y) in row.chunks_mut(STRIP).enumerate() {
            let all = isa.finish(&sums[s][i], x_sum, step, &scales[s]);
            match y.first_chunk_mut() {
                Some(y) => *y = all,
                // The last strip has fewer rows.
                None => y.copy_from_slice(&all[..y.len()]),
            }
        }
    }
}
