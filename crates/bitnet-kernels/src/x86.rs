//! Prefetches, which every x86-64 CPU has.

use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};

use crate::isa::Block;

/// How far ahead of its use a block of a stream is asked for, in blocks. One core of a Zen 5 server, 512 MB of strips of
/// 160 blocks in huge pages, sums of 12 runs' minima per 5 MB, against 42.9 GB/s for a bare reading loop
/// (2026-11-21): none 37.5, 48 blocks 39.7, 64 41.1, 80 41.6, 96 41.1, 128 40.7, 192 39.5 GB/s.
/// The non-temporal hint was as fast, but lines must stay for models that fit in a cache.
const AHEAD: usize = 80;

/// Asks for the block [`AHEAD`] of this one. Past the end of a strip begins the next one.
#[inline(always)]
pub(crate) fn prefetch_ahead(block: &Block) {
    let ahead = std::ptr::from_ref(block).wrapping_add(AHEAD);
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) };
}

/// Asks for the cache lines of `row` in order to overwrite them.
#[inline(always)]
pub(crate) fn prefetch_write(row: &mut [f32]) {
    for line in row.chunks_mut(16) {
        // SAFETY: a prefetch reads and writes nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_mut_ptr().cast()) };
    }
}
