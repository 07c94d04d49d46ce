//! Attention of a few query heads over one key/value head.
//!
//! Positions are taken in chunks of [`CHUNK`]. For each query head a chunk gives a partial result
//! `(m, l, a)`: scores `s_i = dot(q, k_i) * scale` (lane order), `m = max s_i`, `p_i = e^(s_i - m)`, `l = sum p_i` (lane
//! order), `a = sum p_i * v_i` (in order of position). Partial results are combined in order of position:
//! `m' = max(m, m_c)`, `l = l * e^(m - m') + l_c * e^(m_c - m')`, `a` likewise, and the output is `a / l`. Chunks begin
//! at fixed positions, so it does not matter which thread computes one, nor in which batch.

use half::f16;

use super::{
    dense::{Element, dots},
    exp::exp,
    lanes::{max_of, sum_of},
};
use crate::isa::{Isa, Op};

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

/// Floats of one chunk's partial result per query head: `a`, then `m` and `l`.
pub(crate) const fn partial_len(head_dim: usize) -> usize {
    head_dim + 2
}

/// The partial result of positions `first .. first + count` (one chunk) for every query head.
pub(crate) struct AttendChunk<'a> {
    pub(crate) inputs: AttentionInputs<'a>,
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// `[group, partial_len(head_dim)]`
    pub(crate) partial: &'a mut [f32],
}

impl Op for AttendChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { inputs, first, count, partial } = self;
        let mut scores = [0.0; CHUNK];
        let scores = &mut scores[..count];
        let heads = inputs.queries.chunks_exact(inputs.head_dim);
        for (query, partial) in heads.zip(partial.chunks_exact_mut(partial_len(inputs.head_dim))) {
            let (sums, state) = partial.split_at_mut(inputs.head_dim);
            match inputs.keys {
                CacheRows::F32(k) => score(isa, query, k, &inputs, first, scores),
                CacheRows::F16(k) => score(isa, query, k, &inputs, first, scores),
                CacheRows::Int8 { codes, scales } => {
                    score(isa, query, codes, &AttentionInputs { scale: 1.0, ..inputs }, first, scores);
                    for (s, &step) in scores.iter_mut().zip(&scales[first..]) {
                        *s = (*s * step) * inputs.scale;
                    }
                }
            }
            let max = max_of(scores, f32::NEG_INFINITY, |x| x);
            scores.iter_mut().for_each(|s| *s = exp(*s - max));
            (state[0], state[1]) = (max, sum_of(scores, |p| p));
            match inputs.values {
                CacheRows::F32(v) => accumulate(isa, scores, v, inputs.stride, first, sums),
                CacheRows::F16(v) => accumulate(isa, scores, v, inputs.stride, first, sums),
                CacheRows::Int8 { codes, scales } => {
                    scores.iter_mut().zip(&scales[first..]).for_each(|(p, &step)| *p *= step);
                    accumulate(isa, scores, codes, inputs.stride, first, sums);
                }
            }
        }
    }
}

#[inline(always)]
fn score<I: Isa, E: Element>(
    isa: I,
    query: &[f32],
    keys: &[E],
    inputs: &AttentionInputs<'_>,
    first: usize,
    scores: &mut [f32],
) {
    let row = |i: usize| &keys[(first + i) * inputs.stride..][..query.len()];
    let (fours, rest) = scores.as_chunks_mut::<4>();
    for (i, four) in fours.iter_mut().enumerate() {
        let rows = [row(4 * i), row(4 * i + 1), row(4 * i + 2), row(4 * i + 3)];
        *four = dots(isa, rows, query).map(|s| s * inputs.scale);
    }
    let done = 4 * fours.len();
    for (i, s) in rest.iter_mut().enumerate() {
        *s = dots(isa, [row(done + i)], query)[0] * inputs.scale;
    }
}

/// `sums[d] = sum of weights[i] * values[i][d]`, in order of position.
#[inline(always)]
fn accumulate<I: Isa, E: Element>(
    isa: I,
    weights: &[f32],
    values: &[E],
    stride: usize,
    first: usize,
    sums: &mut [f32],
) {
    let width = sums.len();
    let (wide, narrow) = sums.as_chunks_mut::<16>();
    for (d, out) in wide.iter_mut().enumerate() {
        let mut lanes = [0.0; 16];
        for (i, &p) in weights.iter().enumerate() {
            let row = &values[(first + i) * stride + 16 * d..][..16];
            let v = E::widen(isa, &super::dense::pad(row));
            for j in 0..16 {
                lanes[j] += p * v[j];
            }
        }
        *out = lanes;
    }
    let at = width - narrow.len();
    narrow.fill(0.0);
    if narrow.is_empty() {
        return;
    }
    for (i, &p) in weights.iter().enumerate() {
        let row = &values[(first + i) * stride + at..][..narrow.len()];
        let v = E::widen(isa, &super::dense::pad(row));
        for (sum, v) in narrow.iter_mut().zip(v) {
            *sum += p * v;
        }
    }
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
