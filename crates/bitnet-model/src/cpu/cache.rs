//! Keys and values in main memory.

use std::ops::Range;

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};
use bitnet_kernels::{ATTENTION_CHUNK, Kernel, KvChunk, KvChunkMut};
use half::f16;

use crate::{Config, KvShape, ModelError};

/// Tokens from which on threads share the heads of an append.
const SHARED: usize = 8;

/// How keys and values are kept. Each is a computation of its own: of one type, results are the same for any threads,
/// kernel and cut of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// binary32, as they come.
    F32,
    /// binary16, rounded to nearest: half of the memory.
    #[default]
    F16,
    /// int8 with one step per position and head: a quarter of the memory, and attention in integers. Heads may have up to 512
    /// dimensions.
    Int8,
}

impl KvType {
    /// Bytes of one head's chunk.
    fn chunk_bytes(self, head_dim: usize) -> usize {
        let len = Kernel::kv_chunk_len(head_dim);
        match self {
            Self::F32 => len * size_of::<f32>(),
            Self::F16 => len * size_of::<f16>(),
            Self::Int8 => Kernel::kv_codes_len(head_dim) + Kernel::KV_STEPS * size_of::<f32>(),
        }
    }

    /// Bytes of all blocks' keys and values for one position.
    pub fn bytes_per_position(self, config: &Config) -> usize {
        config.layers * config.kv_heads * self.chunk_bytes(config.head_dim) / ATTENTION_CHUNK
    }
}

/// Keys and values of one sequence.
///
/// Pages of [`ATTENTION_CHUNK`] positions stand one behind another, each `[layers, heads]` chunks as the kernels lay them
/// out: a page is touched, and so committed, when the sequence reaches it, and within a page every head's chunk is
/// one stream.
pub struct KvCache {
    shape: KvShape,
    kind: KvType,
    /// Elements of a chunk.
    chunk: usize,
    store: Store,
}

enum Store {
    F32(Buffer<f32>),
    F16(Buffer<f16>),
    Int8 { codes: Buffer<u8>, steps: Buffer<f32> },
}

impl KvCache {
    pub(super) fn new(pool: &HybridMemoryPool, shape: KvShape, kind: KvType) -> Result<Self, ModelError> {
        if kind == KvType::Int8 && shape.head_dim > Kernel::KV_INT8_DIM {
            let what = "512 or less for keys and values in int8";
            return Err(ModelError::config("head dimension", what, shape.head_dim));
        }
        let chunk = match kind {
            KvType::Int8 => Kernel::kv_codes_len(shape.head_dim),
            KvType::F32 | KvType::F16 => Kernel::kv_chunk_len(shape.head_dim),
        };
        let chunks = shape.capacity.div_ceil(ATTENTION_CHUNK) * shape.layers * shape.heads;
        let len = chunks.saturating_mul(chunk);
        let store = match kind {
            KvType::F32 => Store::F32(pool.allocate(Purpose::KvCache, len)?),
            KvType::F16 => Store::F16(pool.allocate(Purpose::KvCache, len)?),
            KvType::Int8 => Store::Int8 {
                codes: pool.allocate(Purpose::KvCache, len)?,
                steps: pool.allocate(Purpose::KvCache, chunks.saturating_mul(Kernel::KV_STEPS))?,
            },
        };
        Ok(Self { shape, kind, chunk, store })
    }

    pub(super) fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Bytes of all blocks for one position.
    pub(super) fn bytes_per_position(&self) -> usize {
        self.shape.layers * self.shape.heads * self.kind.chunk_bytes(self.shape.head_dim) / ATTENTION_CHUNK
    }

    /// Takes over the first `positions` positions of a cache of the same model and type; there is room for them.
    ///
    /// # Errors
    /// [`ModelError::ForeignCache`] for any other.
    pub(super) fn copy_from(&mut self, other: &Self, positions: usize) -> Result<(), ModelError> {
        if self.form() != other.form() {
            return Err(ModelError::ForeignCache { expected: self.form(), got: other.form() });
        }
        let range = self.elements(0, positions.div_ceil(ATTENTION_CHUNK), 0, 0);
        match (&mut self.store, &other.store) {
            (Store::F32(to), Store::F32(from)) => to[..range.start].copy_from_slice(&from[..range.start]),
            (Store::F16(to), Store::F16(from)) => to[..range.start].copy_from_slice(&from[..range.start]),
            (Store::Int8 { codes, steps }, Store::Int8 { codes: from, steps: from_steps }) => {
                codes[..range.start].copy_from_slice(&from[..range.start]);
                let steps_end = range.start / self.chunk * Kernel::KV_STEPS;
                steps[..steps_end].copy_from_slice(&from_steps[..steps_end]);
            }
            _ => return Err(ModelError::ForeignCache { expected: self.form(), got: other.form() }),
        }
        Ok(())
    }

    /// What two caches have in common when one can take over from the other.
    fn form(&self) -> String {
        let KvShape { layers, heads, head_dim, .. } = self.shape;
        format!("{layers} layers of {heads} heads of {head_dim} dimensions in {:?}", self.kind)
    }

    /// Elements of the chunks of `heads` heads from `head` on in one page and block.
    fn elements(&self, layer: usize, page: usize, head: usize, heads: usize) -> Range<usize> {
        let first = (page * self.shape.layers + layer) * self.shape.heads + head;
        first * self.chunk..(first + heads) * self.chunk
    }

    /// One head's chunk.
    pub(super) fn chunk(&self, layer: usize, head: usize, page: usize) -> KvChunk<'_> {
        let range = self.elements(layer, page, head, 1);
        match &self.store {
            Store::F32(store) => KvChunk::F32(&store[range]),
            Store::F16(store) => KvChunk::F16(&store[range]),
            Store::Int8 { codes, steps } => {
                let first = range.start / self.chunk * Kernel::KV_STEPS;
                KvChunk::Int8 { codes: &codes[range], steps: &steps[first..first + Kernel::KV_STEPS] }
            }
        }
    }

    /// Stores positions from `start` on of a block; `k` and `v` are `[positions, heads, head_dim]`.
    pub(super) fn append(
        &mut self,
        (kernel, threads): (&Kernel, &ThreadPool),
        layer: usize,
        start: usize,
        (k, v): (&[f32], &[f32]),
    ) {
        let KvShape { heads, head_dim, .. } = self.shape;
        let width = heads * head_dim;
        let (mut position, end) = (start, start + k.len() / width);
        while position < end {
            let page = position / ATTENTION_CHUNK;
            let part = Part {
                kernel,
                k: &k[(position - start) * width..],
                v: &v[(position - start) * width..],
                width,
                head_dim,
                first: position % ATTENTION_CHUNK,
                count: end.min((page + 1) * ATTENTION_CHUNK) - position,
            };
            let (range, chunk) = (self.elements(layer, page, 0, heads), self.chunk);
            match &mut self.store {
                Store::F32(store) => part.put(threads, &mut store[range], chunk, |c| KvChunkMut::F32(c)),
                Store::F16(store) => part.put(threads, &mut store[range], chunk, |c| KvChunkMut::F16(c)),
                Store::Int8 { codes, steps } => {
                    let first = range.start / chunk * Kernel::KV_STEPS;
                    let steps = &mut steps[first..first + heads * Kernel::KV_STEPS];
                    part.put_int8(threads, (&mut codes[range], chunk), (steps, Kernel::KV_STEPS));
                }
            }
            position += part.count;
        }
    }
}

/// New positions of one page.
struct Part<'a> {
    kernel: &'a Kernel,
    /// From the first new position on.
    k: &'a [f32],
    v: &'a [f32],
    width: usize,
    head_dim: usize,
    /// Where they begin in the page.
    first: usize,
    count: usize,
}

impl Part<'_> {
    /// `heads` are the chunks of all heads.
    fn put<T: Send>(
        &self,
        threads: &ThreadPool,
        heads: &mut [T],
        chunk: usize,
        wrap: impl Fn(&mut [T]) -> KvChunkMut<'_> + Sync,
    ) {
        let put = |head: usize, chunk: &mut [T]| {
            self.each(head, |position, k, v| self.kernel.store(k, v, position, wrap(&mut *chunk)));
        };
        if self.count >= SHARED {
            threads.for_each_chunk_mut(heads, chunk, put);
        } else {
            heads.chunks_exact_mut(chunk).enumerate().for_each(|(head, chunk)| put(head, chunk));
        }
    }
    /// The same for codes and steps.
    fn put_int8(&self, threads: &ThreadPool, codes: (&mut [u8], usize), steps: (&mut [f32], usize)) {
        let put = |head: usize, codes: &mut [u8], steps: &mut [f32]| {
            self.each(head, |position, k, v| {
                let chunk = KvChunkMut::Int8 { codes: &mut *codes, steps: &mut *steps };
                self.kernel.store(k, v, position, chunk);
            });
        };
        if self.count >= SHARED {
            threads.for_each_chunk_mut2(codes, steps, put);
        } else {
            let steps = steps.0.chunks_exact_mut(steps.1);
            let heads = codes.0.chunks_exact_mut(codes.1).zip(steps);
            heads.enumerate().for_each(|(head, (codes, steps))| put(head, codes, steps));
        }
    }

    /// Calls `put` with the places, keys and values of one head.
    fn each(&self, head: usize, mut put: impl FnMut(usize, &[f32], &[f32])) {
        for i in 0..self.count {
            let at = i * self.width + head * self.head_dim;
            put(self.first + i, &self.k[at..at + self.head_dim], &self.v[at..at + self.head_dim]);
        }
    }
}
