//! Attention over key-value caches, shared out over threads.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose};
use bitnet_kernels::{ATTENTION_CHUNK, Kernel, KvChunk, Queries};

use super::{Cpu, Rows, cache::KvCache};
use crate::{KvShape, ModelError, Span};

/// Up to this many tokens, threads also share the chunks of one head: a single token has too few heads.
const FEW_TOKENS: usize = 4;
/// Queries of one key head that are worth widening keys and values for.
const QUERIES: usize = 64;
/// Runs of tokens that a batch is cut into at least, so that every thread has some.
const RUNS: usize = 4;

/// Partial results of attention.
pub struct AttentionScratch {
    partials: Buffer<f32>,
}

impl AttentionScratch {
    /// For batches of up to `tokens`.
    pub(super) fn new(
        pool: &HybridMemoryPool,
        shape: KvShape,
        heads: usize,
        tokens: usize,
    ) -> Result<Self, ModelError> {
        let group = heads / shape.heads;
        let chunks = shape.capacity.div_ceil(ATTENTION_CHUNK);
        let by_chunks =
            shape.heads * Kernel::attention_partial_len(group, shape.head_dim) * FEW_TOKENS.min(tokens);
        // Runs may be as short as one token, and the last one takes the room of a whole one.
        let by_runs = 2 * heads * (tokens + QUERIES);
        let room = by_chunks.saturating_mul(chunks).max(by_runs);
        Ok(Self { partials: pool.allocate(Purpose::State, room)? })
    }
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
    let KvShape { heads, head_dim, .. } = *first.sequence.kv.shape();
    let step = Step { cpu, layer, q, spans, heads, head_dim, width: q.width / heads };
    if tokens <= FEW_TOKENS {
        step.by_chunks(tokens, &mut scratch.partials, out);
    } else {
        step.by_runs(tokens, &mut scratch.partials, out);
    }
}

/// Attention of one block over one batch.
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

/// Consecutive tokens of one sequence.
struct Run<'a> {
    kv: &'a KvCache,
    /// Position of the first.
    position: usize,
    /// Rows of the batch.
    first: usize,
    tokens: usize,
}

impl<'a> Step<'a, '_> {
    /// The runs that the rows `first .. end` of the batch consist of.
    fn runs(&self, first: usize, end: usize) -> impl Iterator<Item = Run<'a>> {
        let mut start = 0;
        self.spans.iter().filter_map(move |span| {
            let (from, to) = (first.max(start), end.min(start + span.tokens));
            let run = (from < to).then(|| Run {
                kv: &span.sequence.kv,
                position: span.sequence.len() + from - start,
                first: from,
                tokens: to - from,
            });
            start += span.tokens;
            run
        })
    }

    fn queries(&self, run: &Run<'_>, head: usize) -> Queries<'a> {
        let token_stride = self.q.width;
        Queries {
            values: &self.q.data[run.first * token_stride + head * self.width..],
            tokens: run.tokens,
            token_stride,
            group: self.width / self.head_dim,
            head_dim: self.head_dim,
            position: run.position,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
        }
    }

    /// Chunks that the token in row `token` of the batch sees.
    fn chunks(&self, token: usize) -> usize {
        self.runs(token, token + 1).map(|run| run.position / ATTENTION_CHUNK + 1).sum()
    }

    /// Threads share the chunks of every pair of token and key head; then results are combined.
    fn by_chunks(&self, tokens: usize, partials: &mut [f32], out: &mut Rows) {
        let per_chunk = Kernel::attention_partial_len(self.width / self.head_dim, self.head_dim);
        let most = (0..tokens).map(|token| self.chunks(token)).max().unwrap_or(0);
        let partials = &mut partials[..tokens * self.heads * most * per_chunk];
        // The heads of a chunk lie side by side.
        self.cpu.threads.for_each_chunk_mut(partials, per_chunk, |index, partial| {
            // A chunk is a stream of its own, and most likely this thread begins the next one, too: what it reads first is on
            // its way by then.
            self.with_chunk(index + 1, most, tokens, |_, _, _, cache| self.cpu.kernel.attend_soon(cache));
            self.with_chunk(index, most, tokens, |run, head, chunk, cache| {
                self.cpu.kernel.attend_chunk(&self.queries(run, head), chunk, cache, partial);
            });
        });
        let partials = &*partials;
        self.cpu.threads.for_each_chunk_mut(out.of_mut(tokens), self.width, |pair, out| {
            let chunks = self.chunks(pair / self.heads);
            let partials = &partials[pair * most * per_chunk..][..chunks * per_chunk];
            self.cpu.kernel.attend_combine(partials, self.head_dim, out);
        });
    }

    /// Calls `work` with piece `index` of all tokens, key heads and `most` chunks, unless the token does not see the chunk.
    fn with_chunk(
        &self,
        index: usize,
        most: usize,
        tokens: usize,
        mut work: impl FnMut(&Run<'_>, usize, usize, KvChunk<'_>),
    ) {
        let (pair, chunk) = (index / most, index % most);
        let (token, head) = (pair / self.heads, pair % self.heads);
        for run in self.runs(token.min(tokens), (token + 1).min(tokens)) {
            if chunk <= run.position / ATTENTION_CHUNK {
                work(&run, head, chunk, run.kv.chunk(self.layer, head, chunk));
            }
        }
    }

    /// Threads take runs of tokens, one key head at a time.
    fn by_runs(&self, tokens: usize, states: &mut [f32], out: &mut Rows) {
        let group = self.width / self.head_dim;
        let longest = self.spans.iter().map(|span| span.tokens).max().unwrap_or(1);
        let height = (QUERIES / group).min(longest).min(tokens.div_ceil(RUNS)).max(1);
        let (stride, kernel) = (out.width, self.cpu.kernel);
        let (matrix, states) = ((out.of_mut(tokens), stride), (states, height * 2 * group));
        self.cpu.threads.for_each_tile_mut(matrix, height, self.width, states, |index, mut tile, states| {
            let (first, head) = (index / self.heads * height, index % self.heads);
            for run in self.runs(first, first + tile.rows()) {
                let mut out = tile.part(run.first - first, run.tokens);
                let states = &mut states[..run.tokens * 2 * group];
                let cache = |chunk| run.kv.chunk(self.layer, head, chunk);
                kernel.attend_block(&self.queries(&run, head), cache, states, &mut out);
            }
        });
    }
}
