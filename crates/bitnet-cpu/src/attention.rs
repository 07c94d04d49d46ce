//! Attention over pages of keys and values, shared out over threads.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose};
use bitnet_kernels::{Kernel, KvChunk, Queries};

use crate::{Cpu, KvPages, Rows};
use bitnet_device::{Batch, DeviceError, KvShape, PAGE, Place};

/// Up to this many tokens, threads also share the pages of one head: a single token has too few heads.
const FEW_TOKENS: usize = 4;
/// Queries of one key head that are worth widening keys and values for.
const QUERIES: usize = 64;
/// Runs of tokens that a batch is cut into at least, so that every thread has some.
const RUNS: usize = 4;

/// Working memory of attention: partial results, one set for each page that a query head sees, or for each thread's run.
pub struct AttentionScratch {
    partials: Buffer<f32>,
    /// For each token of the batch, how many pages it and those before it see.
    seen: Vec<usize>,
}

impl AttentionScratch {
    /// For batches of up to `tokens` over sequences of up to `context` positions.
    pub(crate) fn new(
        pool: &HybridMemoryPool,
        shape: KvShape,
        heads: usize,
        context: usize,
        tokens: usize,
    ) -> Result<Self, DeviceError> {
        let group = heads / shape.heads;
        let by_pages =
            shape.heads * Kernel::attention_partial_len(group, shape.head_dim) * FEW_TOKENS.min(tokens);
        // Runs may be as short as one token, and the last one takes the room of a whole one.
        let by_runs = 2 * heads * (tokens + QUERIES);
        let room = by_pages.saturating_mul(context.div_ceil(PAGE)).max(by_runs);
        Ok(Self { partials: pool.allocate(Purpose::State, room)?, seen: Vec::with_capacity(tokens) })
    }
}

/// `out = softmax(q k / sqrt(head_dim)) v`, causal, for every token of the batch.
pub(crate) fn attend(
    cpu: &Cpu,
    (layer, batch, pages): (usize, Batch<'_>, &KvPages),
    q: &Rows,
    scratch: &mut AttentionScratch,
    out: &mut Rows,
) {
    let KvShape { heads, head_dim, .. } = *pages.shape();
    let step = Step { cpu, layer, batch, pages, q, heads, head_dim, width: q.width / heads };
    let AttentionScratch { partials, seen } = scratch;
    if step.is_uneven(partials.len(), seen) {
        step.by_pages(seen, partials, out);
    } else {
        step.by_runs(partials, out);
    }
}

/// Attention of one block over one batch.
struct Step<'a> {
    cpu: &'a Cpu,
    layer: usize,
    batch: Batch<'a>,
    pages: &'a KvPages,
    q: &'a Rows,
    /// Key heads.
    heads: usize,
    head_dim: usize,
    /// Floats of the query heads that share a key head.
    width: usize,
}

impl<'a> Step<'a> {
    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.width / self.head_dim
    }

    fn partial_len(&self) -> usize {
        Kernel::attention_partial_len(self.group(), self.head_dim)
    }

    /// Whether threads share the pages of one head: there are few tokens, or one of several single tokens sees so much more than
    /// the others that a thread would be left alone with it. Fills `seen`. Results are the same either way.
    fn is_uneven(&self, room: usize, seen: &mut Vec<usize>) -> bool {
        let tokens = self.batch.ids.len();
        if tokens > FEW_TOKENS && self.batch.longest() > 1 {
            return false;
        }
        let (mut all, mut most) = (0, 0);
        seen.clear();
        for place in self.batch.places {
            for position in place.position..place.position + place.tokens {
                let pages = position / PAGE + 1;
                (all, most) = (all + pages, most.max(pages));
                seen.push(all);
            }
        }
        // A head of the longest is one piece of work; a fourth of a thread's share is made up for by the other pieces.
        let threads = self.cpu.threads.threads();
        let uneven = tokens <= FEW_TOKENS || threads > 1 && 4 * threads * most > self.heads * all;
        uneven && all * self.heads * self.partial_len() <= room
    }

    fn queries(&self, run: &Place, head: usize) -> Queries<'a> {
        let token_stride = self.q.width;
        Queries {
            values: &self.q.data[run.row * token_stride + head * self.width..],
            tokens: run.tokens,
            token_stride,
            group: self.group(),
            head_dim: self.head_dim,
            position: run.position,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
        }
    }

    /// What `run` sees of a head in one page.
    fn chunk(&self, run: &Place, head: usize, page: usize) -> KvChunk<'a> {
        self.pages.chunk(self.layer, head, self.batch.page(run, page))
    }

    /// Threads share the pages of every token and key head; then results are combined.
    fn by_pages(&self, seen: &[usize], partials: &mut [f32], out: &mut Rows) {
        let (tokens, per_page) = (seen.len(), self.partial_len());
        let partials = &mut partials[..seen.last().map_or(0, |all| all * self.heads * per_page)];
        let first_of = |token: usize| if token == 0 { 0 } else { seen[token - 1] };
        // Pieces of a token stand behind those of the one before; within it, the pages of a head side by side.
        let piece = |index: usize| {
            let token = seen.partition_point(|&all| all * self.heads <= index);
            let run = self.batch.within(token, token + 1).next()?;
            let pages = run.position / PAGE + 1;
            let within = index - first_of(token) * self.heads;
            Some((run, within / pages, within % pages))
        };
        self.cpu.threads.for_each_chunk_mut(partials, per_page, |index, partial| {
            // A page is a stream of its own, and most likely this thread begins the next one, too: what it reads first is on
            // its way by then.
            if let Some((run, head, page)) = piece(index + 1) {
                self.cpu.kernel.attend_soon(self.chunk(&run, head, page));
            }
            if let Some((run, head, page)) = piece(index) {
                let cache = self.chunk(&run, head, page);
                self.cpu.kernel.attend_chunk(&self.queries(&run, head), page, cache, partial);
            }
        });
        let partials = &*partials;
        self.cpu.threads.for_each_chunk_mut(out.of_mut(tokens), self.width, |pair, out| {
            let (token, head) = (pair / self.heads, pair % self.heads);
            let pages = seen[token] - first_of(token);
            let first = first_of(token) * self.heads + head * pages;
            let partials = &partials[first * per_page..][..pages * per_page];
            self.cpu.kernel.attend_combine(partials, self.head_dim, out);
        });
    }

    /// Threads take runs of tokens, one key head at a time.
    fn by_runs(&self, states: &mut [f32], out: &mut Rows) {
        let (tokens, group) = (self.batch.ids.len(), self.group());
        let longest = self.batch.longest();
        let height = (QUERIES / group).min(longest).min(tokens.div_ceil(RUNS)).max(1);
        let (stride, kernel) = (out.width, self.cpu.kernel);
        let (matrix, states) = ((out.of_mut(tokens), stride), (states, height * 2 * group));
        self.cpu.threads.for_each_tile_mut(matrix, height, self.width, states, |index, mut tile, states| {
            let (first, head) = (index / self.heads * height, index % self.heads);
            for run in self.batch.within(first, first + tile.rows()) {
                let mut out = tile.part(run.row - first, run.tokens);
                let states = &mut states[..run.tokens * 2 * group];
                kernel.attend_block(
                    &self.queries(&run, head),
                    |page| self.chunk(&run, head, page),
                    states,
                    &mut out,
                );
            }
        });
    }
}
