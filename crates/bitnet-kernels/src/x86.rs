//! What every x86-64 CPU has: prefetches, and 16-byte vectors that change places.

use std::arch::x86_64::{
    __m128i, _MM_HINT_ET0, _MM_HINT_T0, _MM_HINT_T1, _mm_loadu_si128, _mm_prefetch, _mm_storeu_si128,
    _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi32, _mm_unpacklo_epi64,
};

use bitnet_quant::TernaryLines;

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

/// Asks for the cache line at `address`.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Asks for `block` in the second-level cache, where more can be on their way than in the first.
#[inline(always)]
pub(crate) fn prefetch_far(block: &Block) {
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(block).cast()) };
}

/// [`crate::isa::Isa::transpose`].
#[inline(always)]
pub(crate) fn transpose<const TURN: bool>(lines: [&Block; 16]) -> [Block; 16] {
    // SAFETY: every x86-64 CPU has SSE2.
    let blocks = unsafe { transpose_words(lines) };
    if TURN { blocks.map(|block| TernaryLines::turn(&block)) } else { blocks }
}

/// Four words of four rows at a time.
#[target_feature(enable = "sse2")]
#[inline]
fn transpose_words(rows: [&Block; 16]) -> [Block; 16] {
    let mut out = [[0; 64]; 16];
    for (g, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
        for (q, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let [a, b, c, d] = rows.map(|row| load(&row.as_chunks().0[q]));
            let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
            store(&mut out[0].as_chunks_mut().0[g], _mm_unpacklo_epi64(ab, cd));
            store(&mut out[1].as_chunks_mut().0[g], _mm_unpackhi_epi64(ab, cd));
            let (ab, cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
            store(&mut out[2].as_chunks_mut().0[g], _mm_unpacklo_epi64(ab, cd));
            store(&mut out[3].as_chunks_mut().0[g], _mm_unpackhi_epi64(ab, cd));
        }
    }
    out
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 readable bytes behind the reference; unaligned loads are allowed.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
#[inline]
fn store(bytes: &mut [u8; 16], x: __m128i) {
    // SAFETY: 16 writable bytes behind the reference.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), x) };
}

/// Asks for the cache lines of `row` in order to overwrite them.
#[inline(always)]
pub(crate) fn prefetch_write(row: &mut [f32]) {
    for line in row.chunks_mut(16) {
        // SAFETY: a prefetch reads and writes nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_mut_ptr().cast()) };
    }
}
