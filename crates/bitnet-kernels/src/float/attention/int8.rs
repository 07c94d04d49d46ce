//! Attention over int8 keys and values, in exact integers.
//!
//! A position's key is `code * step`, with one step per head; a value likewise. A query is rounded to 16 bits (`q16`, its
//! largest magnitude being [`TOP`](super::wide::TOP)), so that `s_i = (sum(q16 * code_i) * step_i) * (q_step * scale)` has an exact sum. `m`,
//! `p` and `l` are those of the other types. The weights `p_i * step_i` of the values are rounded to 16 bits within the
//! chunk, their largest being [`TOP`](super::wide::TOP), and `a = sum(w16_i * code_i) * w_step` has an exact sum again. So the order of
//! these sums is free, and a chunk costs little more than reading it.

use super::{
    partial::{CHUNK, Sink, weights},
    wide::{LONGEST, Wide},
};
use crate::{
    float::quantize::quantize,
    isa::{Block, Isa, Lanes, Op, array},
    simd::Floats,
};

/// Codes of a chunk, plus 128. Keys lie in strips of 16 positions, a block for every four dimensions; values in columns of
/// 16 dimensions, a block for every four positions.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    keys: &'a [Block],
    values: &'a [Block],
    key_steps: &'a [f32],
    value_steps: &'a [f32],
}

/// Codes of a chunk's keys, or of its values.
pub(crate) const fn half_len(head_dim: usize) -> usize {
    CHUNK * head_dim.next_multiple_of(16)
}

impl<'a> Codes<'a> {
    #[inline(always)]
    pub(super) fn new(codes: &'a [u8], steps: &'a [f32], head_dim: usize) -> Self {
        let (keys, values) = codes.split_at(half_len(head_dim));
        let (key_steps, value_steps) = steps.split_at(CHUNK);
        Self { keys: keys.as_chunks().0, values: values.as_chunks().0, key_steps, value_steps }
    }
}

/// Rounds one position's key and value to int8 and puts their codes and steps into the chunk.
#[inline(always)]
pub(super) fn store(codes: &mut [u8], steps: &mut [f32], position: usize, k: &[f32], v: &[f32]) {
    let padded = k.len().next_multiple_of(16);
    let (keys, values) = codes.split_at_mut(half_len(k.len()));
    let mut rounded = [0i8; LONGEST];
    let rounded = &mut rounded[..padded];
    (steps[position], _) = quantize(k, rounded);
    let strip = &mut keys.as_chunks_mut::<64>().0[position / 16 * (padded / 4)..][..padded / 4];
    let lane = 4 * (position % 16);
    for (block, word) in strip.iter_mut().zip(rounded.as_chunks::<4>().0) {
        block[lane..lane + 4].copy_from_slice(&word.map(|code| code as u8 ^ 0x80));
    }
    (steps[CHUNK + position], _) = quantize(v, rounded);
    let blocks = values.as_chunks_mut::<64>().0[position / 4..].iter_mut().step_by(CHUNK / 4);
    for (block, column) in blocks.zip(rounded.as_chunks::<16>().0) {
        for (word, &code) in block.as_chunks_mut::<4>().0.iter_mut().zip(column) {
            word[position % 4] = code as u8 ^ 0x80;
        }
    }
}

/// All queries over one chunk. No query sees fewer positions than the one before it.
#[inline(always)]
pub(super) fn attend<I: Isa>(
    isa: I,
    codes: Codes<'_>,
    queries: &[&[f32]],
    seen: &[usize],
    scale: f32,
    states: &mut [[f32; 2]],
    sink: &mut Sink<'_, '_, '_>,
) {
    let mut q = 0;
    while q < queries.len() {
        let states = &mut states[q..];
        if q + 4 <= queries.len() {
            let (queries, seen) = (array(|i| queries[q + i]), array(|i| seen[q + i]));
            isa.call(Tile::<4> { codes, queries, seen, scale, states, sink: &mut *sink, first: q });
            q += 4;
        } else {
            let (queries, seen) = ([queries[q]], [seen[q]]);
            isa.call(Tile::<1> { codes, queries, seen, scale, states, sink: &mut *sink, first: q });
            q += 1;
        }
    }
}

/// `N` queries over one chunk. No query sees fewer positions than the one before it.
struct Tile<'a, 'b, 'c, 'd, 'e, const N: usize> {
    codes: Codes<'a>,
    queries: [&'a [f32]; N],
    seen: [usize; N],
    scale: f32,
    states: &'a mut [[f32; 2]],
    /// Where weighted values go; its factors are set here, from the scores of the tile.
    sink: &'b mut Sink<'c, 'd, 'e>,
    /// The number of the tile's first query among those of the sink.
    first: usize,
}

impl<const N: usize> Op for Tile<'_, '_, '_, '_, '_, N> {
    type Output = ();

    #[allow(clippy::needless_range_loop, reason = "one index runs through several arrays")]
    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { codes, queries, seen, scale, states, sink, first } = self;
        let (head_dim, last) = (queries[0].len(), seen[N - 1]);
        let mut wide = [Wide::ZERO; N];
        let mut factors = [0.0; N];
        for n in 0..N {
            factors[n] = isa.widen(queries[n], &mut wide[n]) * scale;
        }
        let mut scores = [[0.0; CHUNK]; N];
        // Two strips share what is read of the queries; what lies behind the last position does no harm.
        let words = head_dim.next_multiple_of(16) / 4;
        let pairs = codes.keys.chunks_exact(2 * words).zip(codes.key_steps.as_chunks().0.as_chunks::<2>().0);
        for (pair, (blocks, steps)) in pairs.take(last.div_ceil(32)).enumerate() {
            let dots = isa.wide_dots([&blocks[..words], &blocks[words..]], &wide);
            for s in 0..2 {
                let step = isa.load(&steps[s]);
                for n in 0..N {
                    let score = isa.floats(&dots[s][n]).mul(step).mul(isa.splat(factors[n]));
                    scores[n].as_chunks_mut().0[2 * pair + s] = score.store();
                }
            }
        }
        for n in 0..N {
            sink.factors[first + n] = weights(isa, &mut scores[n][..seen[n]], &mut states[n], sink.merge);
            let (seen, unseen) = scores[n].split_at_mut(seen[n]);
            seen.iter_mut().zip(codes.value_steps).for_each(|(p, &step)| *p *= step);
            unseen.fill(0.0);
            factors[n] = isa.widen(&scores[n], &mut wide[n]);
        }
        let (columns, blocks) = (codes.values.len() / (CHUNK / 4), last.div_ceil(4));
        let read = |column: usize| &codes.values[column * (CHUNK / 4)..][..blocks];
        let mut scale = |column: usize, dots: &[Lanes<i32>; N]| {
            let sums: [_; N] = array(|n| [isa.floats(&dots[n]).mul(isa.splat(factors[n])).store()]);
            put(isa, sink, first, 16 * column, head_dim, &sums);
        };
        for column in (0..columns - columns % 2).step_by(2) {
            let [even, odd] = isa.wide_dots([read(column), read(column + 1)], &wide);
            scale(column, &even);
            scale(column + 1, &odd);
        }
        if columns % 2 == 1 {
            let [last] = isa.wide_dots([read(columns - 1)], &wide);
            scale(columns - 1, &last);
        }
    }
}

/// Gives the sink sixteen columns, or as many as the head has.
#[inline(always)]
fn put<I: Isa, const N: usize>(
    isa: I,
    sink: &mut Sink<'_, '_, '_>,
    first: usize,
    d: usize,
    head_dim: usize,
    sums: &[[Lanes<f32>; 1]; N],
) {
    if d + 16 <= head_dim {
        return sink.put_all(isa, first, d, sums);
    }
    for (q, sums) in (first..).zip(sums) {
        for (d, &sum) in (d..head_dim).zip(&sums[0]) {
            sink.put_one(q, d, sum);
        }
    }
}
