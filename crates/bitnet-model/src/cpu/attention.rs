//! The key-value cache in main memory, and attention over it.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose};
use bitnet_kernels::{ATTENTION_CHUNK, AttentionInputs, CacheRows, Kernel};

use super::{Cpu, Rows};
use crate::{KvShape, ModelError, Span};

/// Independent pieces that a step of attention is cut into when there are many tokens.
const SLOTS: usize = 64;
/// Up to this many tokens, threads also share the chunks of one head: a single token has too few heads.
const FEW_TOKENS: usize = 4;

/// Keys and values of one sequence.
///
/// Pages of [`ATTENTION_CHUNK`] positions stand one behind another, each `[layers, heads, positions, head_dim]`: a page is
/// touched, and so committed, when the sequence reaches it, and within a page every head's positions are one
/// stream.
pub struct KvCache {
    shape: KvShape,
    keys: Buffer<f32>,
    values: Buffer<f32>,
}

impl KvCache {
    pub(super) fn new(pool: &HybridMemoryPool, shape: KvShape) -> Result<Self, ModelError> {
        let pages = shape.capacity.div_ceil(ATTENTION_CHUNK);
        let page = shape.layers * shape.heads * shape.head_dim * ATTENTION_CHUNK;
        let allocate = || pool.allocate(Purpose::KvCache, pages.saturating_mul(page));
        Ok(Self { shape, keys: allocate()?, values: allocate()? })
    }

    /// Bytes of all blocks for one position.
    pub(super) fn bytes_per_position(&self) -> usize {
        2 * self.shape.layers * self.shape.heads * self.shape.head_dim * size_of::<f32>()
    }

    /// Takes over the first `positions` positions of a cache of the same model.
    pub(super) fn copy_from(&mut self, other: &Self, positions: usize) {
        let pages = positions.div_ceil(ATTENTION_CHUNK);
        let len = self.offset(0, 0, pages);
        self.keys[..len].copy_from_slice(&other.keys[..len]);
        self.values[..len].copy_from_slice(&other.values[..len]);
    }

    /// First element of a head's part of a page.
    fn offset(&self, layer: usize, head: usize, page: usize) -> usize {
        let s = &self.shape;
        ((page * s.layers + layer) * s.heads + head) * ATTENTION_CHUNK * s.head_dim
    }

    /// Stores one position of a block; `k` and `v` are `[heads, head_dim]`.
    pub(super) fn put(&mut self, layer: usize, position: usize, k: &[f32], v: &[f32]) {
        let dim = self.shape.head_dim;
        for head in 0..self.shape.heads {
            let at = self.offset(layer, head, position / ATTENTION_CHUNK) + position % ATTENTION_CHUNK * dim;
            self.keys[at..at + dim].copy_from_slice(&k[head * dim..(head + 1) * dim]);
            self.values[at..at + dim].copy_from_slice(&v[head * dim..(head + 1) * dim]);
        }
    }

    /// What the queries of one key head read in one page.
    fn inputs<'a>(
        &'a self,
        queries: &'a [f32],
        layer: usize,
        head: usize,
        page: usize,
    ) -> AttentionInputs<'a> {
        let head_dim = self.shape.head_dim;
        let at = self.offset(layer, head, page);
        let range = at..at + ATTENTION_CHUNK * head_dim;
        AttentionInputs {
            queries,
            keys: CacheRows::F32(&self.keys[range.clone()]),
            values: CacheRows::F32(&self.values[range]),
            stride: head_dim,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }
}

/// Partial results of attention.
pub struct AttentionScratch {
    partials: Buffer<f32>,
    /// Floats for all chunks of one token's one key head.
    per_head: usize,
    /// Floats of one chunk.
    per_chunk: usize,
}

impl AttentionScratch {
    pub(super) fn new(pool: &HybridMemoryPool, shape: KvShape, heads: usize) -> Result<Self, ModelError> {
        let per_chunk = Kernel::attention_partial_len(heads / shape.heads, shape.head_dim);
        let per_head = per_chunk * shape.capacity.div_ceil(ATTENTION_CHUNK);
        let room = per_head.saturating_mul(SLOTS.max(FEW_TOKENS * shape.heads));
        Ok(Self { partials: pool.allocate(Purpose::State, room)?, per_head, per_chunk })
    }
}

/// One token's place in a batch.
struct Query<'a> {
    kv: &'a KvCache,
    /// Positions it sees, its own included.
    positions: usize,
}

/// The sequence and position of row `token` of the batch.
fn locate<'a>(spans: &'a [Span<'_, KvCache>], mut token: usize) -> Option<Query<'a>> {
    for span in spans {
        if token < span.tokens {
            return Some(Query { kv: &span.sequence.kv, positions: span.sequence.len() + token + 1 });
        }
        token -= span.tokens;
    }
    None
}

/// `out = softmax(q k / sqrt(head_dim)) v`, causal, for every token of the batch.
pub(super) fn attend(
    cpu: &Cpu,
    layer: usize,
    q: &Rows,
    spans: &[Span<'_, KvCache>],
    scratch: &mut AttentionScratch,
    out: &mut Rows,
) {
    let tokens: usize = spans.iter().map(|s| s.tokens).sum();
    let Some(first) = spans.first() else { return };
    let KvShape { heads, head_dim, .. } = first.sequence.kv.shape;
    let step = Step { cpu, layer, q, spans, heads, head_dim, width: q.width / heads };
    if tokens <= FEW_TOKENS {
        step.by_chunks(tokens, scratch, out);
    } else {
        step.by_heads(tokens, scratch, out);
    }
}

/// Attention of one block over one batch. Pairs of token and key head are numbered `token * heads + head`.
struct Step<'a, 'b> {
    cpu: &'a Cpu,
    layer: usize,
    q: &'a Rows,
    spans: &'a [Span<'b, KvCache>],
    /// Key heads.
    heads: usize,
    head_dim: usize,
    /// Floats of the query heads that share a key head.
    width: usize,
}

impl Step<'_, '_> {
    /// Chunks that the token of `pair` sees.
    fn chunks(&self, pair: usize) -> usize {
        locate(self.spans, pair / self.heads).map_or(0, |query| query.positions.div_ceil(ATTENTION_CHUNK))
    }

    /// The partial result of chunk `chunk` for `pair`.
    fn chunk(&self, pair: usize, chunk: usize, partial: &mut [f32]) {
        let (token, head) = (pair / self.heads, pair % self.heads);
        let Some(Query { kv, positions }) = locate(self.spans, token) else { return };
        let seen = (positions - chunk * ATTENTION_CHUNK).min(ATTENTION_CHUNK);
        let queries = &self.q.row(token)[head * self.width..(head + 1) * self.width];
        self.cpu.kernel.attend_chunk(kv.inputs(queries, self.layer, head, chunk), 0, seen, partial);
    }

    /// Threads share the chunks of every pair; then results are combined.
    fn by_chunks(&self, tokens: usize, scratch: &mut AttentionScratch, out: &mut Rows) {
        let AttentionScratch { partials, per_head, per_chunk } = scratch;
        let (per_head, per_chunk) = (*per_head, *per_chunk);
        let partials = &mut partials[..tokens * self.heads * per_head];
        self.cpu.threads.for_each_chunk_mut(partials, per_chunk, |index, partial| {
            let (pair, chunk) = (index / (per_head / per_chunk), index % (per_head / per_chunk));
            if chunk < self.chunks(pair) {
                self.chunk(pair, chunk, partial);
            }
        });
        let outs = out.of_mut(tokens).chunks_exact_mut(self.width);
        for ((pair, out), partials) in outs.enumerate().zip(partials.chunks_exact(per_head)) {
            let partials = &partials[..self.chunks(pair) * per_chunk];
            self.cpu.kernel.attend_combine(partials, self.head_dim, out);
        }
    }

    /// Threads take runs of pairs, each with its own room for partial results.
    fn by_heads(&self, tokens: usize, scratch: &mut AttentionScratch, out: &mut Rows) {
        let AttentionScratch { partials, per_head, per_chunk } = scratch;
        let (per_head, per_chunk) = (*per_head, *per_chunk);
        let run = (tokens * self.heads).div_ceil(SLOTS);
        let slots = (tokens * self.heads).div_ceil(run);
        let room = (&mut partials[..slots * per_head], per_head);
        let outs = (out.of_mut(tokens), run * self.width);
        self.cpu.threads.for_each_chunk_mut2(room, outs, |slot, partials, outs| {
            for (i, out) in outs.chunks_exact_mut(self.width).enumerate() {
                let pair = slot * run + i;
                let partials = &mut partials[..self.chunks(pair) * per_chunk];
                for (chunk, partial) in partials.chunks_exact_mut(per_chunk).enumerate() {
                    self.chunk(pair, chunk, partial);
                }
                self.cpu.kernel.attend_combine(partials, self.head_dim, out);
            }
        });
    }
}
