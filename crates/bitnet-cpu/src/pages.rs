//! Keys and values in main memory, in pages.

use std::ops::Range;

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};
use bitnet_kernels::{ATTENTION_CHUNK, Kernel, KvChunk, KvChunkMut};
use half::f16;

use bitnet_device::{Batch, DeviceError, KvShape, PAGE, PageId, Place};
use bitnet_model::ModelError;

use crate::KvType;

const _: () = assert!(PAGE == ATTENTION_CHUNK, "a head's share of a page is one chunk of the kernels");

/// So many pages are listed without an allocation beside their own memory.
const FEW_PAGES: usize = 1024;
/// Tokens from which on threads share the heads of an append.
const SHARED: usize = 8;

/// Keys and values of all sequences.
///
/// A page of [`PAGE`] positions is `[layers, heads]` chunks as the kernels lay them out: within a page every head's chunk is
/// one stream. A page's memory is committed when a sequence first writes to it, and kept for the next one.
pub struct KvPages {
    shape: KvShape,
    kind: KvType,
    /// Elements of a chunk.
    chunk: usize,
    pages: Vec<Page>,
}

enum Page {
    F32(Buffer<f32>),
    F16(Buffer<f16>),
    Int8 { codes: Buffer<u8>, steps: Buffer<f32> },
}

impl KvPages {
    pub(crate) fn new(shape: KvShape, kind: KvType) -> Result<Self, DeviceError> {
        if kind == KvType::Int8 && shape.head_dim > Kernel::KV_INT8_DIM {
            let what = "512 or less for keys and values in int8";
            return Err(ModelError::config("head dimension", what, shape.head_dim).into());
        }
        let chunk = match kind {
            KvType::Int8 => Kernel::kv_codes_len(shape.head_dim),
            KvType::F32 | KvType::F16 => Kernel::kv_chunk_len(shape.head_dim),
        };
        Ok(Self { shape, kind, chunk, pages: Vec::with_capacity(FEW_PAGES) })
    }

    pub(crate) fn shape(&self) -> &KvShape {
        &self.shape
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.shape.layers * self.shape.heads * self.kind.chunk_bytes(self.shape.head_dim)
    }

    /// One page more.
    pub(crate) fn add(&mut self, pool: &HybridMemoryPool) -> Result<(), DeviceError> {
        let chunks = self.shape.layers * self.shape.heads;
        let len = chunks.saturating_mul(self.chunk);
        self.pages.push(match self.kind {
            KvType::F32 => Page::F32(pool.allocate(Purpose::KvCache, len)?),
            KvType::F16 => Page::F16(pool.allocate(Purpose::KvCache, len)?),
            KvType::Int8 => Page::Int8 {
                codes: pool.allocate(Purpose::KvCache, len)?,
                steps: pool.allocate(Purpose::KvCache, chunks.saturating_mul(Kernel::KV_STEPS))?,
            },
        });
        Ok(())
    }

    /// Makes page `to` hold what `from` holds.
    pub(crate) fn copy(&mut self, from: PageId, to: PageId) {
        let [from, to] = [from, to].map(|page| page.0 as usize);
        let Ok([from, to]) = self.pages.get_disjoint_mut([from, to]) else { return };
        match (from, to) {
            (Page::F32(from), Page::F32(to)) => to.copy_from_slice(from),
            (Page::F16(from), Page::F16(to)) => to.copy_from_slice(from),
            (Page::Int8 { codes, steps }, Page::Int8 { codes: to, steps: to_steps }) => {
                to.copy_from_slice(codes);
                to_steps.copy_from_slice(steps);
            }
            _ => unreachable!("the pages of a model are of one type"),
        }
    }

    /// Elements of the chunks of `heads` heads from `head` on in one block.
    fn elements(&self, layer: usize, head: usize, heads: usize) -> Range<usize> {
        let first = layer * self.shape.heads + head;
        first * self.chunk..(first + heads) * self.chunk
    }

    /// One head's chunk.
    pub(crate) fn chunk(&self, layer: usize, head: usize, page: PageId) -> KvChunk<'_> {
        let range = self.elements(layer, head, 1);
        match &self.pages[page.0 as usize] {
            Page::F32(page) => KvChunk::F32(&page[range]),
            Page::F16(page) => KvChunk::F16(&page[range]),
            Page::Int8 { codes, steps } => {
                let first = range.start / self.chunk * Kernel::KV_STEPS;
                KvChunk::Int8 { codes: &codes[range], steps: &steps[first..first + Kernel::KV_STEPS] }
            }
        }
    }

    /// Stores a span's positions of a block; `k` and `v` are `[positions, heads, head_dim]`.
    pub(crate) fn append(
        &mut self,
        (kernel, threads): (&Kernel, &ThreadPool),
        layer: usize,
        (batch, place): (&Batch<'_>, &Place),
        (k, v): (&[f32], &[f32]),
    ) {
        let KvShape { heads, head_dim, .. } = self.shape;
        let width = heads * head_dim;
        let (start, end) = (place.position, place.position + place.tokens);
        let mut position = start;
        while position < end {
            let page = position / PAGE;
            let part = Part {
                kernel,
                k: &k[(position - start) * width..],
                v: &v[(position - start) * width..],
                width,
                head_dim,
                first: position % PAGE,
                count: end.min((page + 1) * PAGE) - position,
            };
            let (range, chunk) = (self.elements(layer, 0, heads), self.chunk);
            match &mut self.pages[batch.page(place, page).0 as usize] {
                Page::F32(page) => part.put(threads, &mut page[range], chunk, |c| KvChunkMut::F32(c)),
                Page::F16(page) => part.put(threads, &mut page[range], chunk, |c| KvChunkMut::F16(c)),
                Page::Int8 { codes, steps } => {
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
