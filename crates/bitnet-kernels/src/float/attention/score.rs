//! Scores of queries against strips of keys, a position per lane.

use super::{layout::ORDER, partial::CHUNK};
use crate::{
    float::dense::Element,
    isa::{Isa, Op, array},
    simd::Floats,
};

/// Rows of strips that can be widened before they are used.
const ROWS: usize = 512;

/// `scores[q][i] = dot(queries[q], k_i) * scale`, for the positions that the query sees and perhaps some more. No query sees
/// fewer than the one before it.
#[inline(always)]
pub(super) fn score<I: Isa, E: Element>(
    isa: I,
    keys: &[E],
    queries: &[&[f32]],
    seen: &[usize],
    scale: f32,
    scores: &mut [[f32; CHUNK]],
) {
    let Some(&last) = seen.last() else { return };
    let strips = last.div_ceil(16);
    if I::WIDE_FLOATS {
        groups::<I, E, 4, 2>(isa, keys, queries, strips, scale, scores);
    } else {
        groups::<I, E, 2, 1>(isa, keys, queries, strips, scale, scores);
    }
}

/// `P` strips at a time (`P` divides the strips of a chunk, and what lies behind the last strip does no harm), `Q` queries
/// at a time.
#[inline(always)]
fn groups<I: Isa, E: Element, const Q: usize, const P: usize>(
    isa: I,
    keys: &[E],
    queries: &[&[f32]],
    strips: usize,
    scale: f32,
    scores: &mut [[f32; CHUNK]],
) {
    let rows = P * queries[0].len().next_multiple_of(16);
    let groups = keys.as_chunks::<16>().0.chunks_exact(rows).take(strips.div_ceil(P));
    // What several tiles of queries read is widened once.
    if E::IS_F32 || queries.len() <= Q || rows > ROWS {
        for (i, keys) in groups.enumerate() {
            tiles::<I, E, Q, P>(isa, keys, queries, i * P, scale, scores, true);
        }
    } else {
        let mut wide = [[0.0; 16]; ROWS];
        for (i, keys) in groups.enumerate() {
            for (wide, row) in wide.iter_mut().zip(keys) {
                *wide = E::load(isa, row).store();
            }
            tiles::<I, f32, Q, P>(isa, &wide[..rows], queries, i * P, scale, scores, false);
        }
    }
}

/// All queries against `P` strips.
#[inline(always)]
fn tiles<I: Isa, E: Element, const Q: usize, const P: usize>(
    isa: I,
    keys: &[[E; 16]],
    queries: &[&[f32]],
    strip: usize,
    scale: f32,
    scores: &mut [[f32; CHUNK]],
    stream: bool,
) {
    let mut q = 0;
    while q < queries.len() {
        if q + Q <= queries.len() {
            let queries = array(|i| queries[q + i]);
            let stream = stream && q == 0;
            isa.call(Tile::<E, Q, P> { keys, queries, strip, scale, scores: &mut scores[q..], stream });
            q += Q;
        } else {
            let stream = stream && q == 0;
            let scores = &mut scores[q..];
            isa.call(Tile::<E, 1, P> { keys, queries: [queries[q]], strip, scale, scores, stream });
            q += 1;
        }
    }
}

/// `Q` queries against `P` strips.
struct Tile<'a, E, const Q: usize, const P: usize> {
    keys: &'a [[E; 16]],
    queries: [&'a [f32]; Q],
    strip: usize,
    scale: f32,
    scores: &'a mut [[f32; CHUNK]],
    /// Whether the keys come from memory: then what lies behind them is asked for.
    stream: bool,
}

impl<E: Element, const Q: usize, const P: usize> Op for Tile<'_, E, Q, P> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let head_dim = self.queries[0].len();
        assert!(self.queries.iter().all(|q| q.len() == head_dim));
        assert!(self.keys.len() == P * head_dim.next_multiple_of(16));
        let sums = sum(self.eight(isa, 0), self.eight(isa, 1));
        // A lane's sum begins with 0, which only shows where all products are -0: it is added here, once for all lanes.
        let (zero, scale) = (isa.splat(0.0), isa.splat(self.scale));
        for (scores, sums) in self.scores[..Q].iter_mut().zip(sums) {
            let (out, _) = scores.as_chunks_mut::<16>();
            for (out, sum) in out[self.strip..self.strip + P].iter_mut().zip(sums) {
                *out = sum.add(zero).mul(scale).store();
            }
        }
    }
}

#[inline(always)]
fn sum<F: Floats, const Q: usize, const P: usize>(mut a: [[F; P]; Q], b: [[F; P]; Q]) -> [[F; P]; Q] {
    for q in 0..Q {
        for p in 0..P {
            a[q][p] = a[q][p].add(b[q][p]);
        }
    }
    a
}

impl<E: Element, const Q: usize, const P: usize> Tile<'_, E, Q, P> {
    /// Half of the lanes. Spelled out, so that all sums stay in registers.
    #[inline(always)]
    fn eight<I: Isa>(&self, isa: I, lane: usize) -> [[I::Floats; P]; Q] {
        sum(self.four(isa, lane), self.four(isa, lane + 2))
    }

    #[inline(always)]
    fn four<I: Isa>(&self, isa: I, lane: usize) -> [[I::Floats; P]; Q] {
        sum(self.two(isa, lane), self.two(isa, lane + 4))
    }

    #[inline(always)]
    fn two<I: Isa>(&self, isa: I, lane: usize) -> [[I::Floats; P]; Q] {
        sum(self.one(isa, lane), self.one(isa, lane + 8))
    }

    /// Products of dimensions `lane`, `lane + 16` and so on, added in order.
    #[inline(always)]
    fn one<I: Isa>(&self, isa: I, lane: usize) -> [[I::Floats; P]; Q] {
        let head_dim = self.queries[0].len();
        let first = ORDER[lane] * head_dim.div_ceil(16);
        if self.stream {
            self.prefetch(isa, first, head_dim.div_ceil(16));
        }
        let mut acc = [[isa.splat(0.0); P]; Q];
        if lane >= head_dim {
            return acc;
        }
        let (k, x) = self.load(isa, first, lane);
        for q in 0..Q {
            for p in 0..P {
                acc[q][p] = k[p].mul(x[q]);
            }
        }
        for row in 1..(head_dim + 15 - lane) / 16 {
            let (k, x) = self.load(isa, first + row, lane + 16 * row);
            for q in 0..Q {
                for p in 0..P {
                    acc[q][p] = acc[q][p].add(k[p].mul(x[q]));
                }
            }
        }
        acc
    }

    /// Asks for the rows from `row` on of the strips behind these.
    #[inline(always)]
    fn prefetch<I: Isa>(&self, isa: I, row: usize, count: usize) {
        let rows = self.keys.len() / P;
        for p in 0..P {
            let first = self.keys.as_ptr().wrapping_add(self.keys.len() + p * rows + row);
            for line in 0..(count * 16 * size_of::<E>()).div_ceil(64) {
                isa.prefetch_line(first.wrapping_byte_add(64 * line));
            }
        }
    }

    #[allow(clippy::needless_range_loop, reason = "arrays of registers")]
    /// Dimension `d` of the keys, in row `row` of each strip, and of the queries.
    #[inline(always)]
    fn load<I: Isa>(&self, isa: I, row: usize, d: usize) -> ([I::Floats; P], [I::Floats; Q]) {
        let rows = self.queries[0].len().next_multiple_of(16);
        let (mut k, mut x) = ([isa.splat(0.0); P], [isa.splat(0.0); Q]);
        for p in 0..P {
            // SAFETY: row < rows, and `eval` has seen P * rows rows.
            let row: &[E; 16] = unsafe { self.keys.get_unchecked(p * rows + row) };
            k[p] = E::load(isa, row);
        }
        for q in 0..Q {
            // SAFETY: d is less than the length of every query.
            x[q] = isa.splat(unsafe { *self.queries[q].get_unchecked(d) });
        }
        (k, x)
    }
}
