//! Sums of values, weighted by `p`, in order of position.

use super::{
    layout::COLUMNS,
    partial::{CHUNK, Sink},
};
use crate::{
    float::dense::{Element, pad},
    isa::{Isa, Lanes, Op, array},
    simd::Floats,
};

/// Columns that are widened at once where several tiles of queries read them: with their weights they stay in the first cache.
const WIDE: usize = 32;

/// How far ahead of their use values are asked for, in bytes.
const AHEAD: usize = 4096;

/// Gives `sink` the sum of `weights[q][i] * v_i` over the positions that query `q` sees. No query sees fewer than the one
/// before it.
#[inline(always)]
pub(super) fn weigh<I: Isa, E: Element>(
    isa: I,
    values: &[E],
    head_dim: usize,
    seen: &[usize],
    weights: &[[f32; CHUNK]],
    sink: &mut Sink<'_, '_, '_>,
) {
    if I::WIDE_FLOATS && seen.len() <= 4 {
        blocks::<I, E, 4, 4>(isa, values, head_dim, seen, weights, sink);
    } else if seen.len() <= 4 {
        blocks::<I, E, 4, 1>(isa, values, head_dim, seen, weights, sink);
    } else if I::WIDE_FLOATS {
        widened::<I, E, 8, 2>(isa, values, head_dim, seen, weights, sink);
    } else {
        widened::<I, E, 4, 1>(isa, values, head_dim, seen, weights, sink);
    }
}

/// Straight from the stored elements, `Q` queries and `16 * D` columns at a time.
#[inline(always)]
fn blocks<I: Isa, E: Element, const Q: usize, const D: usize>(
    isa: I,
    values: &[E],
    head_dim: usize,
    seen: &[usize],
    weights: &[[f32; CHUNK]],
    sink: &mut Sink<'_, '_, '_>,
) {
    for first in (0..head_dim).step_by(COLUMNS) {
        let width = COLUMNS.min(head_dim - first);
        let run = Run { values: &values[first * CHUNK..], stride: width, seen, weights, stream: true };
        let mut d = 0;
        while d + 16 * D <= width {
            run.queries::<I, Q, D>(isa, d, first, sink);
            d += 16 * D;
        }
        run.rest(isa, d, width, first, sink);
    }
}

/// [`WIDE`] columns are widened, then all queries read them.
#[inline(always)]
fn widened<I: Isa, E: Element, const Q: usize, const D: usize>(
    isa: I,
    values: &[E],
    head_dim: usize,
    seen: &[usize],
    weights: &[[f32; CHUNK]],
    sink: &mut Sink<'_, '_, '_>,
) {
    let Some(&last) = seen.last() else { return };
    let mut wide = [[0.0; WIDE]; CHUNK];
    for first in (0..head_dim).step_by(COLUMNS) {
        let width = COLUMNS.min(head_dim - first);
        let values = &values[first * CHUNK..];
        let mut d = 0;
        while d + WIDE <= width {
            for (wide, row) in wide[..last].iter_mut().zip(values.chunks_exact(width)) {
                let (row, _) = row[d..d + WIDE].as_chunks::<16>();
                for (wide, part) in wide.as_chunks_mut::<16>().0.iter_mut().zip(row) {
                    *wide = E::load(isa, part).store();
                }
            }
            let run = Run { values: wide.as_flattened(), stride: WIDE, seen, weights, stream: false };
            for part in (0..WIDE).step_by(16 * D) {
                run.queries::<I, Q, D>(isa, part, first + d, sink);
            }
            d += WIDE;
        }
        Run { values, stride: width, seen, weights, stream: false }.rest(isa, d, width, first, sink);
    }
}

/// Columns `[positions, stride]` and what they are weighted with.
struct Run<'a, E> {
    values: &'a [E],
    stride: usize,
    seen: &'a [usize],
    weights: &'a [[f32; CHUNK]],
    stream: bool,
}

impl<E: Element> Run<'_, E> {
    /// `16 * D` columns from `d` on for all queries; `first` is the run's first dimension.
    #[inline(always)]
    fn queries<I: Isa, const Q: usize, const D: usize>(
        &self,
        isa: I,
        d: usize,
        first: usize,
        sink: &mut Sink<'_, '_, '_>,
    ) {
        let mut q = 0;
        while q < self.seen.len() {
            if q + Q <= self.seen.len() {
                let sums = isa.call(self.columns::<Q, D>(q, d));
                sink.put_all(isa, q, first + d, &sums);
                q += Q;
            } else {
                let sums = isa.call(self.columns::<1, D>(q, d));
                sink.put_all(isa, q, first + d, &sums);
                q += 1;
            }
        }
    }

    /// `16 * D` columns from `d` on for `Q` queries from `q` on.
    #[inline(always)]
    fn columns<const Q: usize, const D: usize>(&self, q: usize, d: usize) -> Columns<'_, E, Q, D> {
        Columns {
            values: &self.values[d..],
            stride: self.stride,
            seen: array(|i| self.seen[q + i]),
            weights: &self.weights[q..],
            stream: self.stream && q == 0,
        }
    }

    /// Columns `d .. width`, of which there may be any number.
    #[inline(always)]
    fn rest<I: Isa>(&self, isa: I, d: usize, width: usize, first: usize, sink: &mut Sink<'_, '_, '_>) {
        let mut d = d;
        while d + 16 <= width {
            self.queries::<I, 1, 1>(isa, d, first, sink);
            d += 16;
        }
        for (q, (weights, &seen)) in self.weights.iter().zip(self.seen).enumerate() {
            for d in d..width {
                let mut sum = 0.0;
                for (i, &p) in weights[..seen].iter().enumerate() {
                    let v = E::load(isa, &pad(&self.values[i * self.stride + d..][..1])).store()[0];
                    sum += p * v;
                }
                sink.put_one(q, first + d, sum);
            }
        }
    }
}

/// Sums of `16 * D` columns for `Q` queries.
struct Columns<'a, E, const Q: usize, const D: usize> {
    /// Stored values of the positions, beginning with the first column of the tile.
    values: &'a [E],
    stride: usize,
    seen: [usize; Q],
    weights: &'a [[f32; CHUNK]],
    /// Whether the values come from memory: then what lies behind them is asked for.
    stream: bool,
}

impl<E: Element, const Q: usize, const D: usize> Op for Columns<'_, E, Q, D> {
    type Output = [[Lanes<f32>; D]; Q];

    #[allow(clippy::needless_range_loop, reason = "one index runs through several arrays")]
    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> Self::Output {
        let Self { values, stride, seen, weights, .. } = self;
        let weights = &weights[..Q];
        // All queries see the first positions; then those that see more go on alone.
        let (common, last) = (seen[0], seen[Q - 1]);
        assert!(common <= last && last <= CHUNK && values.len() >= (last - 1) * stride + 16 * D);
        let mut acc = [[isa.splat(0.0); D]; Q];
        for i in 0..common {
            // SAFETY: i < last, and the assertion above.
            let row: &[_; D] = unsafe { position(values, i * stride) };
            if self.stream {
                for line in 0..(D * 16 * size_of::<E>()).div_ceil(64) {
                    isa.prefetch_line(row.as_ptr().wrapping_byte_add(AHEAD + 64 * line));
                }
            }
            let mut v = [isa.splat(0.0); D];
            for j in 0..D {
                v[j] = E::load(isa, &row[j]);
            }
            for q in 0..Q {
                let p = isa.splat(weights[q][i]);
                for j in 0..D {
                    acc[q][j] = acc[q][j].add(p.mul(v[j]));
                }
            }
        }
        for q in 0..Q {
            for i in common..seen[q].min(last) {
                // SAFETY: as above.
                let row: &[_; D] = unsafe { position(values, i * stride) };
                let p = isa.splat(weights[q][i]);
                for j in 0..D {
                    acc[q][j] = acc[q][j].add(p.mul(E::load(isa, &row[j])));
                }
            }
        }
        array(|q| array(|j| acc[q][j].store()))
    }
}

/// `D` runs of 16 elements from `at` on. Unchecked, since a way to panic in the loops above keeps their sums in memory.
///
/// # Safety
/// `values` has at least `at + 16 * D` elements.
#[inline(always)]
unsafe fn position<E, const D: usize>(values: &[E], at: usize) -> &[[E; 16]; D] {
    // SAFETY: the caller vouches for it.
    let first = unsafe { values.as_ptr().add(at) };
    // SAFETY: as above; arrays have no other alignment than their elements.
    unsafe { &*first.cast() }
}
