//! Attention of a few query heads over one key/value head.
//!
//! Positions are taken in chunks of [`CHUNK`]. For each query head a chunk gives a partial result
//! `(m, l, a)`: scores `s_i = dot(q, k_i) * scale` (lane order), `m = max s_i`, `p_i = e^(s_i - m)`, `l = sum p_i` (lane
//! order), `a = sum p_i * v_i` (in order of position). Partial results are combined in order of position:
//! `m' = max(m, m_c)`, `l = l * e^(m - m') + l_c * e^(m_c - m')`, `a` likewise, and the output is `a / l`. Chunks begin
//! at fixed positions, so it does not matter which thread computes one, nor in which batch.

use half::f16;

use super::{
    dense::{Element, dots, pad},
    exp::exp,
    lanes::{max_of, sum_of},
};
use crate::{
    isa::{Isa, Op},
    simd::Floats,
};

/// Positions in a chunk.
pub(crate) const CHUNK: usize = 256;

/// Past keys or values of one head: position `i` stands at `[i * stride ..][.. head_dim]`.
#[derive(Clone, Copy, Debug)]
pub enum CacheRows<'a> {
    /// binary32.
    F32(&'a [f32]),
    /// binary16.
    F16(&'a [f16]),
    /// int8 with one scale per position; an element is code * scale.
    Int8 {
        /// Codes.
        codes: &'a [i8],
        /// One per position.
        scales: &'a [f32],
    },
}

impl CacheRows<'_> {
    /// The rows from `position` on.
    pub(crate) fn from(self, position: usize, stride: usize) -> Self {
        let at = position * stride;
        match self {
            Self::F32(x) => Self::F32(&x[at..]),
            Self::F16(x) => Self::F16(&x[at..]),
            Self::Int8 { codes, scales } => Self::Int8 { codes: &codes[at..], scales: &scales[position..] },
        }
    }
}

/// What attention reads: queries and the cache of the head they share.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs<'a> {
    /// `[group, head_dim]`, rotated.
    pub queries: &'a [f32],
    /// Keys.
    pub keys: CacheRows<'a>,
    /// Values.
    pub values: CacheRows<'a>,
    /// Elements from one position to the next in keys and values.
    pub stride: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// Several tokens' queries that attend to the same positions.
#[derive(Clone, Copy, Debug)]
pub struct QueryBlock {
    /// Number of tokens.
    pub tokens: usize,
    /// Elements from one token's queries to the next's.
    pub token_stride: usize,
    /// Query heads of a token that share the key head.
    pub group: usize,
    /// Positions (of those at hand) that the first token sees; each later token sees one more.
    pub first_seen: usize,
}

/// Floats of one chunk's partial result per query head: `a`, then `m` and `l`.
pub(crate) const fn partial_len(head_dim: usize) -> usize {
    head_dim + 2
}

/// Partial results over the positions of one chunk, which `inputs` begins with.
pub(crate) struct AttendChunk<'a> {
    pub(crate) inputs: AttentionInputs<'a>,
    pub(crate) block: QueryBlock,
    /// `[tokens, group, partial_len(head_dim)]`
    pub(crate) partials: &'a mut [f32],
}

impl Op for AttendChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { inputs, block, partials } = self;
        let len = partial_len(inputs.head_dim);
        let rows = block.tokens * block.group;
        let mut row = 0;
        while row < rows {
            let partials = &mut partials[row * len..];
            if I::WIDE_FLOATS && row + 4 <= rows {
                Tile::<4>::new(&inputs, &block, row).eval(isa, partials);
                row += 4;
            } else {
                Tile::<1>::new(&inputs, &block, row).eval(isa, partials);
                row += 1;
            }
        }
    }
}

/// `Q` queries (a query is one head of one token) over one chunk.
struct Tile<'a, const Q: usize> {
    inputs: &'a AttentionInputs<'a>,
    queries: [&'a [f32]; Q],
    /// Positions that each query sees; never fewer than the one before it.
    counts: [usize; Q],
}

impl<'a, const Q: usize> Tile<'a, Q> {
    #[inline(always)]
    fn new(inputs: &'a AttentionInputs<'a>, block: &QueryBlock, row: usize) -> Self {
        let query = |row: usize| {
            let at = row / block.group * block.token_stride + row % block.group * inputs.head_dim;
            &inputs.queries[at..at + inputs.head_dim]
        };
        let count = |row: usize| (block.first_seen + row / block.group).min(CHUNK);
        Self {
            inputs,
            queries: std::array::from_fn(|q| query(row + q)),
            counts: std::array::from_fn(|q| count(row + q)),
        }
    }

    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, partials: &mut [f32]) {
        let head_dim = self.inputs.head_dim;
        let mut scores = [[0.0; CHUNK]; Q];
        match self.inputs.keys {
            CacheRows::F32(k) => self.score(isa, k, None, &mut scores),
            CacheRows::F16(k) => self.score(isa, k, None, &mut scores),
            CacheRows::Int8 { codes, scales } => self.score(isa, codes, Some(scales), &mut scores),
        }
        let partials = &mut partials[..Q * partial_len(head_dim)];
        for q in 0..Q {
            let state = &mut partials[q * partial_len(head_dim) + head_dim..][..2];
            let scores = &mut scores[q][..self.counts[q]];
            let max = max_of(scores, f32::NEG_INFINITY, |x| x);
            scores.iter_mut().for_each(|s| *s = exp(*s - max));
            (state[0], state[1]) = (max, sum_of(scores, |p| p));
        }
        match self.inputs.values {
            CacheRows::F32(v) => self.weigh(isa, v, &scores, partials),
            CacheRows::F16(v) => self.weigh(isa, v, &scores, partials),
            CacheRows::Int8 { codes, scales } => {
                for (scores, &count) in scores.iter_mut().zip(&self.counts) {
                    scores[..count].iter_mut().zip(scales).for_each(|(p, &step)| *p *= step);
                }
                self.weigh(isa, codes, &scores, partials);
            }
        }
    }

    /// `scores[q][i] = dot(k[i], query) * scale`; with steps `(dot * steps[i]) * scale`.
    #[inline(always)]
    fn score<I: Isa, E: Element>(
        &self,
        isa: I,
        keys: &[E],
        steps: Option<&[f32]>,
        scores: &mut [[f32; CHUNK]; Q],
    ) {
        let (stride, count) = (self.inputs.stride, self.counts[Q - 1]);
        for first in (0..count).step_by(16) {
            let row = |i: usize| &keys[(first + i) * stride..][..self.inputs.head_dim];
            let few = (count - first).min(16);
            let mut dots = dots::<I, E, Q>(isa, few, row, self.queries);
            for (scores, dots) in scores.iter_mut().zip(&mut dots) {
                if let Some(steps) = steps {
                    dots.iter_mut().zip(&steps[first..first + few]).for_each(|(d, &step)| *d *= step);
                }
                dots.iter_mut().for_each(|d| *d *= self.inputs.scale);
                scores[first..first + 16].copy_from_slice(dots);
            }
        }
    }

    /// `partials[q][d] = sum of weights[q][i] * values[i][d]`, in order of position.
    #[inline(always)]
    fn weigh<I: Isa, E: Element>(
        &self,
        isa: I,
        values: &[E],
        weights: &[[f32; CHUNK]; Q],
        partials: &mut [f32],
    ) {
        let head_dim = self.inputs.head_dim;
        let mut d = 0;
        while d + 64 <= head_dim {
            self.columns::<I, E, 4>(isa, values, weights, d, partials);
            d += 64;
        }
        while d + 16 <= head_dim {
            self.columns::<I, E, 1>(isa, values, weights, d, partials);
            d += 16;
        }
        for (q, (weights, &count)) in weights.iter().zip(&self.counts).enumerate() {
            for d in d..head_dim {
                let mut sum = 0.0;
                for (i, &p) in weights[..count].iter().enumerate() {
                    let v = E::load(isa, &pad(&values[i * self.inputs.stride + d..][..1])).store()[0];
                    sum += p * v;
                }
                partials[q * partial_len(head_dim) + d] = sum;
            }
        }
    }

    /// `16 * D` columns from `d` on.
    #[allow(clippy::needless_range_loop, reason = "one index runs through several arrays")]
    #[inline(always)]
    fn columns<I: Isa, E: Element, const D: usize>(
        &self,
        isa: I,
        values: &[E],
        weights: &[[f32; CHUNK]; Q],
        d: usize,
        partials: &mut [f32],
    ) {
        let stride = self.inputs.stride;
        let mut acc = [[isa.splat(0.0); D]; Q];
        // All queries see the first positions; then those that see more go on alone.
        let common = self.counts[0];
        let last = self.counts[Q - 1];
        assert!(common <= last && last <= CHUNK && values.len() >= (last - 1) * stride + d + 16 * D);
        for i in 0..common {
            // SAFETY: i < last, and the assertion above.
            let row: &[_; D] = unsafe { position(values, i * stride + d) };
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
            for i in common..self.counts[q].min(last) {
                // SAFETY: as above.
                let row: &[_; D] = unsafe { position(values, i * stride + d) };
                let p = isa.splat(weights[q][i]);
                for j in 0..D {
                    acc[q][j] = acc[q][j].add(p.mul(E::load(isa, &row[j])));
                }
            }
            let at = q * partial_len(self.inputs.head_dim) + d;
            let (out, _) = partials[at..at + 16 * D].as_chunks_mut::<16>();
            for (out, acc) in out.iter_mut().zip(&acc[q]) {
                *out = acc.store();
            }
        }
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

/// Combines partial results, `[chunks, group, partial_len]`, in order.
pub(crate) struct CombineChunks<'a> {
    pub(crate) partials: &'a [f32],
    pub(crate) head_dim: usize,
    /// `[group, head_dim]`
    pub(crate) out: &'a mut [f32],
}

impl Op for CombineChunks<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Self { partials, head_dim, out } = self;
        let group = out.len() / head_dim;
        let len = partial_len(head_dim);
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let mut chunks = partials.chunks_exact(group * len).map(|c| &c[head * len..(head + 1) * len]);
            let Some(first) = chunks.next() else { continue };
            out.copy_from_slice(&first[..head_dim]);
            let (mut max, mut sum) = (first[head_dim], first[head_dim + 1]);
            for chunk in chunks {
                let (values, state) = chunk.split_at(head_dim);
                merge(out, &mut max, &mut sum, values, state[0], state[1]);
            }
            out.iter_mut().for_each(|o| *o /= sum);
        }
    }
}

/// One step of the combination.
#[inline(always)]
fn merge(out: &mut [f32], max: &mut f32, sum: &mut f32, values: &[f32], chunk_max: f32, chunk_sum: f32) {
    let larger = if chunk_max > *max { chunk_max } else { *max };
    let (old, new) = (exp(*max - larger), exp(chunk_max - larger));
    *sum = *sum * old + chunk_sum * new;
    for (o, &v) in out.iter_mut().zip(values) {
        *o = *o * old + v * new;
    }
    *max = larger;
}
