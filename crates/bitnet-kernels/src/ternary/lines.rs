//! Products that read only the lines that matter, and strips put together from lines.
//!
//! Leaving out a line changes nothing: an output that squared ReLU multiplies with 0 is never looked at, and an input whose
//! code is 0 adds 0 to every integer sum. For several tokens, whose needs differ, 16 rows at a time are put together as an
//! ordinary strip in scratch memory and multiplied as such.

use std::ops::Range;

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{Axis, QuantizedRows, TernaryLines};

use super::{STRIP, Strips, WholeRows, lanes, words, write};
use crate::isa::{Block, Isa, Lanes, Op, Word};

/// Elements of a line in one block.
const BLOCK_LEN: usize = TernaryLines::BLOCK_LEN;
/// Rows or inputs that are looked at in one go, to list the live ones on the stack.
const LISTED: usize = 1024;
/// Blocks of columns whose sums are kept at once: 16 KB.
const SUMMED: usize = 16;
/// Columns that are fetched ahead of those which become strips.
const AHEAD: usize = 16 * STRIP;
/// Words of live inputs that the generic product puts side by side before it multiplies.
const LIVE_WORDS: usize = 4;

/// Lines as kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    blocks: &'a [Block],
    /// Blocks of a line.
    len: usize,
}

impl<'a> Lines<'a> {
    fn of(matrix: &'a TernaryLines) -> Self {
        Self { blocks: matrix.bytes().as_chunks().0, len: matrix.line_blocks() }
    }

    /// The blocks of line `i`.
    #[inline(always)]
    pub(crate) fn line(&self, i: u32) -> &'a [Block] {
        &self.blocks[i as usize * self.len..][..self.len]
    }

    /// Number of lines.
    fn count(&self) -> usize {
        self.blocks.len() / self.len
    }
}

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

/// The definition of [`Isa::list_open`] and [`Isa::list_nonzero`].
#[inline(always)]
pub(crate) fn list<T: Copy>(x: &[T], first: u32, ids: &mut [u32], wanted: impl Fn(T) -> bool) -> usize {
    let mut count = 0;
    for (number, &x) in (first..).zip(x) {
        ids[count] = number;
        count += usize::from(wanted(x));
    }
    count
}

/// Calls `work(lines, activations, following)` for every `N` of the inputs whose code is not 0; `following` are the next ones
/// as far as they are known, to be prefetched. The last call is filled up with activations of 0.
#[inline(always)]
pub(crate) fn for_each_live<I: Isa, const N: usize>(
    isa: I,
    codes: &[i8],
    mut work: impl FnMut([u32; N], [i8; N], &[u32]),
) {
    const { assert!(N <= LISTED / 2) };
    let mut ids = [0u32; LISTED + STRIP];
    let mut live = 0;
    let segment = LISTED - N;
    for (i, part) in codes.chunks(segment).enumerate() {
        live += isa.list_nonzero(part, (i * segment) as u32, &mut ids[live..]);
        let (groups, rest) = ids[..live].as_chunks::<N>();
        for (i, group) in groups.iter().enumerate() {
            work(*group, group.map(|id| codes[id as usize]), &ids[(i + 1) * N..live]);
        }
        let left = rest.len();
        ids.copy_within(live - left..live, 0);
        live = left;
    }
    if live > 0 {
        let group = std::array::from_fn(|i| ids[i.min(live - 1)]);
        let x = std::array::from_fn(|i| if i < live { codes[ids[i] as usize] } else { 0 });
        work(group, x, &[]);
    }
}

/// [`Isa::line_dots`] for any instruction set: 16 lines become a strip.
#[inline(always)]
pub(crate) fn dots<I: Isa>(isa: I, lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
    for (ids, sums) in ids.chunks(STRIP).zip(sums.chunks_mut(STRIP)) {
        let rows: [&[Block]; STRIP] = std::array::from_fn(|r| lines.line(ids[r.min(ids.len() - 1)]));
        let mut total = [0; STRIP];
        for (b, x) in x.chunks(STRIP).enumerate() {
            let strip = isa.transpose::<false>(std::array::from_fn(|r| &rows[r][b]));
            let part = isa.dot(&strip[..x.len()], x);
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
        sums.copy_from_slice(&total[..ids.len()]);
    }
}

/// [`Isa::line_sums`] for any instruction set: live columns become strips of columns side by side.
#[inline(always)]
pub(crate) fn sums<I: Isa>(
    isa: I,
    lines: Lines<'_>,
    codes: &[i8],
    blocks: Range<usize>,
    sums: &mut [Lanes<i32>],
) {
    sums.fill([0; STRIP]);
    for_each_live::<_, { LIVE_WORDS * STRIP }>(isa, codes, |ids, x, _| {
        let x = x.as_chunks::<STRIP>().0;
        for (b, sums) in blocks.clone().zip(sums.as_chunks_mut::<STRIP>().0) {
            let mut strips = [[[0; 64]; LIVE_WORDS]; STRIP];
            for (word, ids) in ids.as_chunks::<STRIP>().0.iter().enumerate() {
                let turned = isa.transpose::<true>(ids.each_ref().map(|&id| &lines.line(id)[b]));
                for (strip, block) in strips.iter_mut().zip(turned) {
                    strip[word] = block;
                }
            }
            for (strip, sums) in strips.iter().zip(sums) {
                let part = isa.dot(strip, x);
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
    });
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

/// A block of code 1.
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

/// The definition of [`Isa::transpose`].
#[inline(always)]
pub(crate) fn transpose(rows: [&Block; STRIP]) -> [Block; STRIP] {
    let mut out = [[0; 64]; STRIP];
    for (r, row) in rows.iter().enumerate() {
        for (out, word) in out.iter_mut().zip(row.as_chunks::<4>().0) {
            out.as_chunks_mut::<4>().0[r] = *word;
        }
    }
    out
}
