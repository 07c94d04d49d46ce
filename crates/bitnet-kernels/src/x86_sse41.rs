//! SSE4.1: the method of `x86_avx2.rs` on registers of four rows; its proof that no i16 saturates holds unchanged.

use std::arch::x86_64::*;

use crate::{
    block::four_word,
    isa::{Block, Four, Isa, Lanes, Op, Plane, Word, array, plane_word},
    x86,
};

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Sse41(());

/// Whether this CPU has what [`run`] enables.
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "sse4.1,ssse3")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(Sse41(()))
}

impl Isa for Sse41 {
    type Floats = crate::simd::x86_sse41::Xmm;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 1;
    const TOKENS: usize = 4;
    const PLANE_TOKENS: usize = 2;
    const PLANES_FROM: usize = 6;

    #[inline(always)]
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        // SAFETY: `self` is only made in `run`, which the table calls after `supported`.
        unsafe { dot(blocks, x) }
    }

    #[inline(always)]
    fn call<O: Op>(self, part: O) -> O::Output {
        // SAFETY: as in `dot`.
        unsafe { run(part) }
    }

    #[inline(always)]
    fn prefetch_line<T>(self, address: *const T) {
        x86::prefetch(address);
    }

    #[inline(always)]
    fn tile<const S: usize, const T: usize>(
        self,
        strips: [&[Block]; S],
        x: [&[Word]; T],
        out: &mut [[Lanes<i32>; T]; S],
    ) {
        for (strip, out) in strips.into_iter().zip(out) {
            // SAFETY: as in `dot`.
            unsafe { tile(strip, x, out) }
        }
    }

    #[inline(always)]
    fn plane_tile<const T: usize>(self, planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
        // SAFETY: as in `dot`.
        unsafe { plane_tile(planes, x, sums) }
    }

    #[inline(always)]
    fn transpose<const TURN: bool>(self, lines: [&Block; 16]) -> [Block; 16] {
        x86::transpose::<TURN>(lines)
    }

    #[inline(always)]
    fn prefetch(self, block: &Block) {
        x86::prefetch_far(block);
    }

    #[inline(always)]
    fn prefetch_write(self, row: &mut [f32]) {
        x86::prefetch_write(row);
    }

    #[inline(always)]
    fn multiply(self, rounds: u64) -> (u64, i32) {
        // SAFETY: as in `dot`.
        unsafe { multiply(rounds) }
    }
}

/// Blocks whose i16 sums fit: in [`dot`] one block adds at most [-4096, 4064], in [`tile`] at most [-2048, 2032].
const DOT_BLOCKS: usize = 8;
const TILE_BLOCKS: usize = 16;

/// Two quarters (eight rows) at a time: their four sums, the four words and the masks fit in the 16 registers.
#[target_feature(enable = "sse4.1,ssse3")]
#[inline]
fn dot(blocks: &[Block], x: &[Word]) -> Lanes<i32> {
    let low = _mm_set1_epi8(0x03);
    let high = _mm_set1_epi8(0x0c);
    let ones = _mm_set1_epi16(1);
    // [four rows] of planes 0 and 2, and of planes 1 and 3 (four times too large).
    let mut small = [_mm_setzero_si128(); 4];
    let mut large = [_mm_setzero_si128(); 4];
    for (blocks, x) in blocks.chunks(DOT_BLOCKS).zip(x.chunks(DOT_BLOCKS)) {
        for pair in [[0, 1], [2, 3]] {
            let mut small16 = [_mm_setzero_si128(); 2];
            let mut large16 = [_mm_setzero_si128(); 2];
            for (block, x) in blocks.iter().zip(x) {
                x86::prefetch_ahead(block);
                let words: [_; 4] = array(|p| _mm_set1_epi32(plane_word(x, p)));
                for (i, q) in pair.into_iter().enumerate() {
                    let w = load(block, q);
                    let shifted = _mm_srli_epi16::<4>(w);
                    let plane0 = _mm_maddubs_epi16(_mm_and_si128(w, low), words[0]);
                    let plane1 = _mm_maddubs_epi16(_mm_and_si128(w, high), words[1]);
                    let plane2 = _mm_maddubs_epi16(_mm_and_si128(shifted, low), words[2]);
                    let plane3 = _mm_maddubs_epi16(_mm_and_si128(shifted, high), words[3]);
                    small16[i] = _mm_add_epi16(small16[i], _mm_add_epi16(plane0, plane2));
                    large16[i] = _mm_add_epi16(large16[i], _mm_add_epi16(plane1, plane3));
                }
            }
            for (i, q) in pair.into_iter().enumerate() {
                small[q] = _mm_add_epi32(small[q], _mm_madd_epi16(small16[i], ones));
                large[q] = _mm_add_epi32(large[q], _mm_madd_epi16(large16[i], ones));
            }
        }
    }
    let mut out = [0; 16];
    for q in 0..4 {
        store(&mut out, q, _mm_add_epi32(small[q], _mm_srai_epi32::<2>(large[q])));
    }
    out
}

/// A few tokens, for which it does not pay to unpack planes. Four rows at a time: the tokens' i16 sums, 4 planes and a broadcast
/// fit in the 16 registers.
#[target_feature(enable = "sse4.1,ssse3")]
#[inline]
fn tile<const T: usize>(strip: &[Block], x: [&[Word]; T], out: &mut [Lanes<i32>; T]) {
    *out = [[0; 16]; T];
    for q in 0..4 {
        let mut first = 0;
        while first < strip.len() {
            let last = (first + TILE_BLOCKS).min(strip.len());
            let sums = quarter_tile::<T>(&strip[first..last], q, array(|t| &x[t][first..last]));
            for (out, sum) in out.iter_mut().zip(sums) {
                let total = _mm_add_epi32(load_sums(out, q), sum);
                store(out, q, total);
            }
            first = last;
        }
    }
}

/// i32 sums of four rows over at most [`TILE_BLOCKS`] blocks.
#[target_feature(enable = "sse4.1,ssse3")]
#[inline(never)]
fn quarter_tile<const T: usize>(strip: &[Block], q: usize, x: [&[Word]; T]) -> [__m128i; T] {
    assert!(x.iter().all(|x| x.len() == strip.len()));
    let low = _mm_set1_epi8(3);
    let mut acc = [_mm_setzero_si128(); T];
    for (b, block) in strip.iter().enumerate() {
        let w = load(block, q);
        let planes = [
            _mm_and_si128(w, low),
            _mm_and_si128(_mm_srli_epi16::<2>(w), low),
            _mm_and_si128(_mm_srli_epi16::<4>(w), low),
            _mm_and_si128(_mm_srli_epi16::<6>(w), low),
        ];
        for t in 0..T {
            // SAFETY: b < strip.len(), the length of every token's words.
            let x = unsafe { x[t].get_unchecked(b) };
            for (p, &plane) in planes.iter().enumerate() {
                let word = _mm_set1_epi32(plane_word(x, p));
                acc[t] = _mm_add_epi16(acc[t], _mm_maddubs_epi16(plane, word));
            }
        }
    }
    for a in &mut acc {
        *a = _mm_madd_epi16(*a, _mm_set1_epi16(1));
    }
    acc
}

/// Planes whose i16 sums fit, as in `x86_avx2.rs`.
const TILE_PLANES: usize = 64;

/// 16 rows times `T` tokens, at most 2: 8 sums, 2 broadcasts, each of which meets four rows four times, and a product: 65 % of
/// the multiplier's limit in the first-level cache, with 3 tokens 66 % (Emerald Rapids, 2026-11-26).
#[target_feature(enable = "sse4.1,ssse3")]
#[inline(never)]
fn plane_tile<const T: usize>(planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
    assert!(x.iter().all(|x| x.len() == planes.len()));
    let mut first = 0;
    while first < planes.len() {
        let last = (first + TILE_PLANES).min(planes.len());
        let mut acc = [[_mm_setzero_si128(); 4]; T];
        for (g, plane) in planes[..last].iter().enumerate().skip(first) {
            let mut words = [_mm_setzero_si128(); T];
            for t in 0..T {
                // SAFETY: g < planes.len(), the length of every token's activations.
                words[t] = _mm_set1_epi32(four_word(unsafe { x[t].get_unchecked(g) }));
            }
            let codes: [_; 4] = array(|q| load(plane, q));
            for (q, &codes) in codes.iter().enumerate() {
                for t in 0..T {
                    acc[t][q] = _mm_add_epi16(acc[t][q], _mm_maddubs_epi16(codes, words[t]));
                }
            }
        }
        for t in 0..T {
            for (q, &sum) in acc[t].iter().enumerate() {
                let part = _mm_madd_epi16(sum, _mm_set1_epi16(1));
                let total = _mm_add_epi32(load_sums(&sums[t], q), part);
                store(&mut sums[t], q, total);
            }
        }
        first = last;
    }
}

/// The codes of rows `4 * q .. 4 * q + 4` of a block, 16 bytes.
#[target_feature(enable = "sse4.1")]
#[inline]
fn load(block: &Block, q: usize) -> __m128i {
    let quarter = &block.as_chunks::<16>().0[q];
    // SAFETY: 16 readable bytes behind the reference; unaligned loads are allowed.
    unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) }
}

#[target_feature(enable = "sse4.1")]
#[inline]
fn load_sums(lanes: &Lanes<i32>, q: usize) -> __m128i {
    let quarter = &lanes.as_chunks::<4>().0[q];
    // SAFETY: 16 readable bytes behind the reference.
    unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) }
}

#[target_feature(enable = "sse4.1")]
#[inline]
fn store(lanes: &mut Lanes<i32>, q: usize, sums: __m128i) {
    let quarter = &mut lanes.as_chunks_mut::<4>().0[q];
    // SAFETY: 16 writable bytes behind the reference.
    unsafe { _mm_storeu_si128(quarter.as_mut_ptr().cast(), sums) };
}

/// Twelve independent chains of products. (The additions of a real product go to other units.)
#[target_feature(enable = "sse4.1,ssse3")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    const CHAINS: usize = 12;
    let x = _mm_set1_epi8(3);
    let mut acc = [_mm_set1_epi8(2); CHAINS];
    for _ in 0..rounds {
        for a in &mut acc {
            *a = _mm_maddubs_epi16(*a, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = _mm_add_epi16(sum, a);
    }
    (16 * CHAINS as u64 * rounds, _mm_extract_epi32::<0>(sum))
}
