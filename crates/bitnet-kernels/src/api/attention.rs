//! Attention, with its checks.

use bitnet_core::threads::ColumnsMut;

use crate::{
    Kernel,
    float::attention::{
        self, AttendChunk, CombineChunks, FinishBlock, KvChunk, Queries, Soon, int8,
        layout::{self, KvChunkMut, Store},
        wide,
    },
};

/// Positions in a chunk of attention: chunk `c` covers positions `c * ATTENTION_CHUNK ..`.
pub const ATTENTION_CHUNK: usize = attention::CHUNK;

/// Attention, in chunks of [`ATTENTION_CHUNK`] positions. `crate::float::attention` has the order of operations.
impl Kernel {
    /// Elements of one head's keys and values in one chunk.
    pub const fn kv_chunk_len(head_dim: usize) -> usize {
        layout::chunk_len(head_dim)
    }

    /// Codes of one head's keys and values in one chunk of int8.
    pub const fn kv_codes_len(head_dim: usize) -> usize {
        2 * int8::half_len(head_dim)
    }

    /// Steps (f32) of one head's chunk of int8: one per position for keys, then one for values.
    pub const KV_STEPS: usize = 2 * ATTENTION_CHUNK;
    /// Elements of the longest head that int8 is kept of.
    pub const KV_INT8_DIM: usize = wide::LONGEST;

    /// Puts one position's key and value (rounded to the chunk's type, ties to even) at `position` of a chunk.
    ///
    /// # Panics
    /// When `k` and `v` are not of one head, the chunk has another length or `position` lies outside of it.
    pub fn store(&self, k: &[f32], v: &[f32], position: usize, chunk: KvChunkMut<'_>) {
        let len = match &chunk {
            KvChunkMut::F32(c) => c.len(),
            KvChunkMut::F16(c) => c.len(),
            KvChunkMut::Int8 { codes, steps } => int8_len(k.len(), codes, steps),
        };
        assert!(!k.is_empty() && k.len() == v.len(), "a key and a value of one head");
        assert!(
            len == layout::chunk_len(k.len()) && position < ATTENTION_CHUNK,
            "position {position} of a chunk"
        );
        self.run(Store { k, v, position, chunk });
    }

    /// Floats of the partial result of one chunk for `group` query heads.
    pub const fn attention_partial_len(group: usize, head_dim: usize) -> usize {
        group * (head_dim + 2)
    }

    /// Begins to fetch the beginning of a chunk that is attended to next. Only a hint.
    pub fn attend_soon(&self, cache: KvChunk<'_>) {
        self.run(Soon(cache));
    }

    /// The partial result of chunk `chunk` for one token: threads may compute different chunks and heads.
    /// `partial` has [`Kernel::attention_partial_len`] floats.
    ///
    /// # Panics
    /// When there is not exactly one token, it sees nothing of the chunk, or a slice has another length.
    pub fn attend_chunk(&self, queries: &Queries<'_>, chunk: usize, cache: KvChunk<'_>, partial: &mut [f32]) {
        assert!(queries.tokens == 1, "one token");
        assert!(
            chunk * ATTENTION_CHUNK <= queries.position,
            "chunk {chunk} of position {}",
            queries.position
        );
        let width = check(queries, cache);
        assert_eq!(partial.len(), Self::attention_partial_len(queries.group, queries.head_dim));
        let (out, states) = partial.split_at_mut(width);
        let out = &mut ColumnsMut::whole(out, width);
        self.run(AttendChunk { queries, chunk, cache, merge: false, states, out });
    }

    /// The attention output of a token from the partial results of all its chunks, in order
    /// (`[chunks, attention_partial_len]`), into `out`, `[group, head_dim]`.
    pub fn attend_combine(&self, partials: &[f32], head_dim: usize, out: &mut [f32]) {
        assert!(head_dim > 0 && out.len().is_multiple_of(head_dim));
        let len = Self::attention_partial_len(out.len() / head_dim, head_dim);
        assert!(len > 0 && !partials.is_empty() && partials.len().is_multiple_of(len), "whole chunks");
        self.run(CombineChunks { partials, head_dim, out });
    }

    /// Attention of several tokens, chunk after chunk: bit-equal to [`Kernel::attend_chunk`] and [`Kernel::attend_combine`]
    /// for each token, but keys and values are read fewer times. `cache` gives the chunks; `states` has `2 * group` floats per
    /// token for use in between, `out` a row of `group * head_dim` for each.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn attend_block<'a>(
        &self,
        queries: &Queries<'_>,
        cache: impl Fn(usize) -> KvChunk<'a>,
        states: &mut [f32],
        out: &mut ColumnsMut<'_, f32>,
    ) {
        let Queries { tokens, group, position, .. } = *queries;
        assert_eq!(
            (out.rows(), states.len()),
            (tokens, tokens * 2 * group),
            "a row and states for every token"
        );
        for chunk in 0..(position + tokens).div_ceil(ATTENTION_CHUNK) {
            let cache = cache(chunk);
            assert_eq!(out.width(), check(queries, cache), "columns of the group's heads");
            self.run(AttendChunk { queries, chunk, cache, merge: chunk > 0, states, out });
        }
        self.run(FinishBlock { head_dim: queries.head_dim, states, out });
    }
}

/// What [`layout::chunk_len`] is to be equal to; panics unless an int8 chunk is whole.
fn int8_len(head_dim: usize, codes: &[u8], steps: &[f32]) -> usize {
    assert!(head_dim <= Kernel::KV_INT8_DIM, "heads of {head_dim} in int8");
    let lens = (codes.len(), steps.len());
    assert_eq!(
        lens,
        (Kernel::kv_codes_len(head_dim), Kernel::KV_STEPS),
        "an int8 chunk of heads of {head_dim}"
    );
    layout::chunk_len(head_dim)
}

/// Floats of a token's queries; panics unless the queries and the chunk are whole.
fn check(queries: &Queries<'_>, cache: KvChunk<'_>) -> usize {
    let Queries { values, tokens, token_stride, group, head_dim, .. } = *queries;
    assert!(tokens > 0 && group > 0 && head_dim > 0, "attention of or over nothing");
    assert!(values.len() >= (tokens - 1) * token_stride + group * head_dim, "queries of {tokens} tokens");
    let len = match cache {
        KvChunk::F32(c) => c.len(),
        KvChunk::F16(c) => c.len(),
        KvChunk::Int8 { codes, steps } => int8_len(head_dim, codes, steps),
    };
    assert_eq!(len, layout::chunk_len(head_dim), "a chunk of heads of {head_dim}");
    group * head_dim
}
