//! Products with one step per token and one scale per row: register tiles of strips and tokens.

use std::ops::Range;

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::QuantizedRows;

use super::{
    planes,
    strips::{STRIP, Strips, words, write},
};
use crate::isa::{Block, Isa, Op, Word, array};

/// Bytes of strips that stay in the second-level cache while all tokens pass over them.
const GROUP_BYTES: usize = 256 << 10;

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
pub(super) fn tile_tokens(left: usize, widest: usize) -> usize {
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

/// The activations of a tile: codes, their sums and their steps.
struct Tokens<'a, const T: usize> {
    first: usize,
    words: [&'a [Word]; T],
    sums: [i32; T],
    steps: [f32; T],
}

/// Multiplies `S` strips with `T` tokens whose sums fit in registers together, and writes the results.
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
