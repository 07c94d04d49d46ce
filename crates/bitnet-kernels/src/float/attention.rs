//! Attention of a few query heads over one key/value head.
//!
//! Positions are taken in chunks of [`CHUNK`]. For each query head a chunk gives a partial result
//! `(m, l, a)`: scores `s_i = dot(q, k_i) * scale` (lane order), `m = max s_i`, `p_i = e^(s_i - m)`, `l = sum p_i` (lane
//! order), `a = sum p_i * v_i` (in order of position). Partial results are combined in order of position:
//! `m' = max(m, m_c)`, `l = l * e^(m - m') + l_c * e^(m_c - m')`, `a` likewise, and the output is `a / l`. Chunks begin
//! at fixed positions, so it does not matter which thread computes one, nor in which batch.

use bitnet_core::threads::ColumnsMut;
use half::f16;

use crate::isa::{Isa, Op};

pub(crate) mod int8;
pub(crate) mod layout;
mod partial;
mod score;
mod weigh;
pub(crate) mod wide;

pub(crate) use partial::CHUNK;
use partial::{Sink, combine, weights};

/// Bytes at the beginning of a chunk that nothing else asks for in time, and those of a cache line.
const FIRST: usize = 8192;
const LINE: usize = 64;
/// Queries that share what is widened of a chunk.
const BLOCK: usize = 64;
/// Queries of a token alone: they are cheaper without room for a block.
const FEW: usize = 4;

/// Keys and values of one head at the positions of one chunk, as [`crate::Kernel::store`] lays them out. Positions that
/// have not been stored are never looked at.
#[derive(Clone, Copy, Debug)]
pub enum KvChunk<'a> {
    /// Keys and values in binary32, as the model computes them.
    F32(&'a [f32]),
    /// Keys and values rounded to binary16, ties to even.
    F16(&'a [f16]),
    /// Keys and values rounded to int8, with one f32 step for each position.
    Int8 {
        /// The int8 codes plus 128, keys before values.
        codes: &'a [u8],
        /// One step per position: those of the keys, then those of the values.
        steps: &'a [f32],
    },
}

impl<'a> KvChunk<'a> {
    /// The bytes that attention reads first, and steps.
    fn first(self) -> (&'a [u8], &'a [u8]) {
        let (first, steps): (&[u8], &[u8]) = match self {
            Self::F32(chunk) => (bytemuck::must_cast_slice(chunk), &[]),
            Self::F16(chunk) => (bytemuck::must_cast_slice(chunk), &[]),
            Self::Int8 { codes, steps } => (codes, bytemuck::must_cast_slice(steps)),
        };
        (&first[..first.len().min(FIRST)], steps)
    }
}

/// Begins to fetch what attention over a chunk reads before the streams' own requests reach far enough.
pub(crate) struct Soon<'a>(pub(crate) KvChunk<'a>);

impl Op for Soon<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (first, steps) = self.0.first();
        first.chunks(LINE).chain(steps.chunks(LINE)).for_each(|line| isa.prefetch_line(line.as_ptr()));
    }
}

/// The query heads of consecutive tokens of a sequence that share a key head.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// Head `h` of token `t` lies at `[t * token_stride + h * head_dim ..][.. head_dim]`, rotated.
    pub values: &'a [f32],
    /// Tokens, at consecutive positions of one sequence.
    pub tokens: usize,
    /// Elements from one token's queries to the next's.
    pub token_stride: usize,
    /// Query heads of a token that share the key head.
    pub group: usize,
    /// Elements of one head's query, key or value.
    pub head_dim: usize,
    /// Position of the first token. A token sees all positions up to its own.
    pub position: usize,
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

impl Queries<'_> {
    /// Positions of chunk `chunk` that token `token` sees.
    fn seen(&self, token: usize, chunk: usize) -> usize {
        (self.position + token + 1).saturating_sub(chunk * CHUNK).min(CHUNK)
    }

    /// Tokens that see nothing of chunk `chunk`: the first so many.
    fn blind(&self, chunk: usize) -> usize {
        (chunk * CHUNK).saturating_sub(self.position).min(self.tokens)
    }
}

/// Attention over one chunk: the partial result, or that merged with the chunks before it.
pub(crate) struct AttendChunk<'a, 'b, 'c> {
    pub(crate) queries: &'a Queries<'a>,
    pub(crate) chunk: usize,
    pub(crate) cache: KvChunk<'a>,
    /// Whether `states` and `out` hold the result of the chunks before this one.
    pub(crate) merge: bool,
    /// `m` and `l`, `[tokens, group, 2]`.
    pub(crate) states: &'a mut [f32],
    /// `a`, `[tokens, group * head_dim]`.
    pub(crate) out: &'b mut ColumnsMut<'c, f32>,
}

impl Op for AttendChunk<'_, '_, '_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let group = self.queries.group;
        let (mut row, rows) = (self.queries.blind(self.chunk) * group, self.queries.tokens * group);
        while row < rows {
            let count = rows - row;
            if count <= FEW {
                self.tile::<I, FEW>(isa, row, count);
                row += FEW;
            } else {
                self.tile::<I, BLOCK>(isa, row, count.min(BLOCK));
                row += BLOCK;
            }
        }
    }
}

impl AttendChunk<'_, '_, '_> {
    /// `count` queries, at most `N`, from query `row` on (a query is one head of one token).
    #[inline(always)]
    fn tile<I: Isa, const N: usize>(&mut self, isa: I, row: usize, count: usize) {
        let Queries { values, token_stride, group, head_dim, scale, .. } = *self.queries;
        let mut queries: [&[f32]; N] = [&[]; N];
        let mut seen = [0; N];
        for i in 0..count {
            let (token, head) = ((row + i) / group, (row + i) % group);
            queries[i] = &values[token * token_stride + head * head_dim..][..head_dim];
            seen[i] = self.queries.seen(token, self.chunk);
        }
        let (queries, seen) = (&queries[..count], &seen[..count]);
        let (merge, mut factors) = (self.merge, [(0.0, 0.0); N]);
        let states = &mut self.states.as_chunks_mut::<2>().0[row..][..count];
        let factors = &mut factors[..count];
        let mut sink = Sink { out: self.out, factors, merge, row, group, head_dim };
        if let KvChunk::Int8 { codes, steps } = self.cache {
            let codes = int8::Codes::new(codes, steps, head_dim);
            return int8::attend(isa, codes, queries, seen, scale, states, &mut sink);
        }
        let mut scores = [[0.0; CHUNK]; N];
        let scores = &mut scores[..count];
        match self.cache {
            KvChunk::F32(c) => score::score(isa, layout::keys(c, head_dim), queries, seen, scale, scores),
            KvChunk::F16(c) => score::score(isa, layout::keys(c, head_dim), queries, seen, scale, scores),
            KvChunk::Int8 { .. } => {}
        }
        let all = scores.iter_mut().zip(seen).zip(sink.factors.iter_mut()).zip(states);
        for (((scores, &seen), factors), state) in all {
            *factors = weights(isa, &mut scores[..seen], state, merge);
        }
        match self.cache {
            KvChunk::F32(c) => {
                weigh::weigh(isa, layout::values(c, head_dim), head_dim, seen, scores, &mut sink)
            }
            KvChunk::F16(c) => {
                weigh::weigh(isa, layout::values(c, head_dim), head_dim, seen, scores, &mut sink)
            }
            KvChunk::Int8 { .. } => {}
        }
    }
}

/// Divides what [`AttendChunk`] has gathered by its `l`.
pub(crate) struct FinishBlock<'a, 'b, 'c> {
    pub(crate) head_dim: usize,
    pub(crate) states: &'a [f32],
    pub(crate) out: &'b mut ColumnsMut<'c, f32>,
}

impl Op for FinishBlock<'_, '_, '_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let group = self.out.width() / self.head_dim;
        for (token, states) in self.states.chunks_exact(2 * group).enumerate() {
            for (out, state) in
                self.out.row(token).chunks_exact_mut(self.head_dim).zip(states.chunks_exact(2))
            {
                out.iter_mut().for_each(|o| *o /= state[1]);
            }
        }
    }
}

/// Combines partial results of one token, `[chunks, group * (head_dim + 2)]` (all `a`, then `m` and `l` of each), in order.
pub(crate) struct CombineChunks<'a> {
    pub(crate) partials: &'a [f32],
    pub(crate) head_dim: usize,
    /// Weighted sums of values, `[group, head_dim]`, divided by their weights' sums.
    pub(crate) out: &'a mut [f32],
}

impl Op for CombineChunks<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Self { partials, head_dim, out } = self;
        let len = out.len() / head_dim * (head_dim + 2);
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let state_at = len / (head_dim + 2) * head_dim + 2 * head;
            let mut state = [0.0; 2];
            for (i, chunk) in partials.chunks_exact(len).enumerate() {
                let (values, next) =
                    (&chunk[head * head_dim..][..head_dim], [chunk[state_at], chunk[state_at + 1]]);
                if i == 0 {
                    out.copy_from_slice(values);
                    state = next;
                } else {
                    let (old, new) = combine(&mut state, next);
                    out.iter_mut().zip(values).for_each(|(o, &v)| *o = *o * old + v * new);
                }
            }
            out.iter_mut().for_each(|o| *o /= state[1]);
        }
    }
}
