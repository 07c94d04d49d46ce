//! AVX-512 with VNNI: one 64-byte block is one register, one 32-bit lane per row.
//!
//! `vpdpbusd` multiplies the four code bytes of a lane (unsigned) with four activation bytes (signed, one word
//! broadcast to all lanes) and adds the four products to the lane's i32 without any narrower intermediate.
//! i32 has room: a code masked in place is at most 2 * 64 and an activation at least -128, so a plane's
//! accumulator grows by at most 4 * 128 * 128 = 2^16 per block and cannot overflow below 2^15 blocks (2^19 columns),
//! which [`crate::MAX_COLUMNS`] keeps.

use std::{arch::x86_64::*, ops::Range};

use crate::{
    float::attention::wide::Wide,
    isa::{Block, Isa, Lanes, Op, Word, dot_base3, plane_word},
    ternary::definitions::{Lines, unpack_base3},
    x86,
};

mod attention;
mod base3;
mod lines;
mod registers;

pub(crate) use registers::Avx512Vnni;
use registers::{load, load_floats, load_lanes, store};

/// Whether this CPU (and its operating system) has what [`run`] enables.
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(Avx512Vnni(()))
}

impl Isa for Avx512Vnni {
    type Floats = crate::simd::x86_avx512::Zmm;
    const WIDE_FLOATS: bool = true;
    const STRIPS: usize = 4;
    const TOKENS: usize = 12;

    #[inline(always)]
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        // SAFETY: `self` is only made in `run`, which the table calls after `supported`.
        unsafe { dot(blocks, x) }
    }

    #[inline(always)]
    fn wide_dots<const S: usize, const N: usize>(
        self,
        blocks: [&[Block]; S],
        x: &[Wide; N],
    ) -> [[Lanes<i32>; N]; S] {
        // SAFETY: as in `dot`.
        unsafe { attention::wide_dots(blocks, x) }
    }

    #[inline(always)]
    fn widen(self, x: &[f32], wide: &mut Wide) -> f32 {
        // SAFETY: as in `dot`.
        unsafe { attention::widen(x, wide) }
    }

    #[inline(always)]
    fn soften(self, x: &mut [f32]) -> [f32; 2] {
        // SAFETY: as in `dot`.
        unsafe { attention::soften(x) }
    }

    #[inline(always)]
    fn floats(self, x: &Lanes<i32>) -> Self::Floats {
        // SAFETY: as in `dot`.
        unsafe { attention::floats(x) }
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
        // SAFETY: as in `dot`.
        unsafe { tile(strips, x, out) }
    }

    #[inline(always)]
    fn finish(self, sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
        // SAFETY: as in `dot`.
        unsafe { finish(sums, x_sum, step, scales) }
    }

    #[inline(always)]
    fn dot_base3(self, blocks: &[Block], x: &[i8]) -> Lanes<i32> {
        if base3::supported() {
            // SAFETY: `self` and this check.
            unsafe { base3::dot(blocks, x) }
        } else {
            dot_base3(self, blocks, x)
        }
    }

    #[inline(always)]
    fn unpack_base3(self, blocks: [&Block; 4]) -> [Block; 5] {
        if base3::supported() {
            // SAFETY: `self` and this check.
            unsafe { base3::unpack(blocks) }
        } else {
            unpack_base3(blocks)
        }
    }

    #[inline(always)]
    fn transpose<const TURN: bool>(self, lines: [&Block; 16]) -> [Block; 16] {
        // SAFETY: as in `dot`.
        unsafe { lines::transpose::<TURN>(lines) }
    }

    #[inline(always)]
    fn list_open(self, x: &[f32], first: u32, ids: &mut [u32]) -> usize {
        // SAFETY: as in `dot`.
        unsafe { lines::list_open(x, first, ids) }
    }

    #[inline(always)]
    fn list_nonzero(self, x: &[i8], first: u32, ids: &mut [u32]) -> usize {
        // SAFETY: as in `dot`.
        unsafe { lines::list_nonzero(x, first, ids) }
    }

    #[inline(always)]
    fn prefetch(self, block: &Block) {
        x86::prefetch_far(block);
    }

    #[inline(always)]
    fn line_dots(self, lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
        // SAFETY: as in `dot`.
        unsafe { lines::dots(lines, ids, x, sums) }
    }

    #[inline(always)]
    fn line_sums(self, lines: Lines<'_>, codes: &[i8], blocks: Range<usize>, sums: &mut [Lanes<i32>]) {
        // SAFETY: as in `dot`.
        unsafe { lines::sums(lines, codes, blocks, sums) }
    }

    #[inline(always)]
    fn prefetch_write(self, row: &mut [f32]) {
        x86::prefetch_write(row);
    }

    #[inline(always)]
    fn read(self, blocks: &[Block]) -> Lanes<i32> {
        // SAFETY: as in `dot`.
        unsafe { read(blocks) }
    }

    #[inline(always)]
    fn multiply(self, rounds: u64) -> (u64, i32) {
        // SAFETY: as in `dot`.
        unsafe { multiply(rounds) }
    }
}

/// Codes are left where they are: plane p is 4^p too large, its own accumulator is shifted back once at the end.
/// That saves the three shifts per block, which shows in cache (memory-bound streams do not notice).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn dot(blocks: &[Block], x: &[Word]) -> Lanes<i32> {
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|m| _mm512_set1_epi8(m as i8));
    let mut even = [_mm512_setzero_si512(); 4];
    let mut odd = [_mm512_setzero_si512(); 4];
    let step = |acc: &mut [__m512i; 4], block: &Block, x: &Word| {
        x86::prefetch_ahead(block);
        let w = load(block);
        for p in 0..4 {
            let codes = _mm512_and_si512(w, masks[p]);
            acc[p] = _mm512_dpbusd_epi32(acc[p], codes, _mm512_set1_epi32(plane_word(x, p)));
        }
    };
    let (pairs, last) = blocks.as_chunks::<2>();
    let (x_pairs, x_last) = x.as_chunks::<2>();
    for (block, x) in pairs.iter().zip(x_pairs) {
        step(&mut even, &block[0], &x[0]);
        step(&mut odd, &block[1], &x[1]);
    }
    for (block, x) in last.iter().zip(x_last) {
        step(&mut even, block, x);
    }
    let plane = |p: usize| _mm512_add_epi32(even[p], odd[p]);
    let low = _mm512_add_epi32(plane(0), _mm512_srai_epi32::<2>(plane(1)));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(plane(2)), _mm512_srai_epi32::<6>(plane(3)));
    store(_mm512_add_epi32(low, high))
}

/// Each block is unpacked once for all tokens; each broadcast word serves all strips. 24 sums, 2 blocks, 2 unpacked planes
/// and a broadcast fit in the 32 registers, but only while nothing in the loop can panic: with bounds checks in
/// it the compiler keeps half of the sums in memory (half of the speed, 2026-11-21).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline(never)]
fn tile<const S: usize, const T: usize>(
    strips: [&[Block]; S],
    x: [&[Word]; T],
    out: &mut [[Lanes<i32>; T]; S],
) {
    let blocks = strips[0].len();
    assert!(strips.iter().all(|s| s.len() == blocks) && x.iter().all(|x| x.len() == blocks));
    let low = _mm512_set1_epi8(3);
    let mut acc = [[_mm512_setzero_si512(); T]; S];
    for b in 0..blocks {
        let mut w = [_mm512_setzero_si512(); S];
        for s in 0..S {
            // SAFETY: b < blocks, the length of every strip.
            w[s] = load(unsafe { strips[s].get_unchecked(b) });
        }
        for p in 0..4 {
            let mut codes = [_mm512_setzero_si512(); S];
            for s in 0..S {
                codes[s] = _mm512_and_si512(w[s], low);
                w[s] = _mm512_srli_epi16::<2>(w[s]);
            }
            for t in 0..T {
                // SAFETY: b < blocks, the length of every token's words.
                let word = plane_word(unsafe { x[t].get_unchecked(b) }, p);
                let word = _mm512_set1_epi32(word);
                for s in 0..S {
                    acc[s][t] = _mm512_dpbusd_epi32(acc[s][t], codes[s], word);
                }
            }
        }
    }
    for s in 0..S {
        for t in 0..T {
            out[s][t] = store(acc[s][t]);
        }
    }
}

/// [`crate::ternary::definitions::finish`] in one register. Left to itself the compiler cut it into scalars or gathers across
/// tokens: 82 instead of 90 % of the multiplier's limit in prefill (2026-11-21).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn finish(sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
    let dots = _mm512_cvtepi32_ps(_mm512_sub_epi32(load_lanes(sums), _mm512_set1_epi32(x_sum)));
    let y = _mm512_mul_ps(_mm512_mul_ps(dots, _mm512_set1_ps(step)), load_floats(scales));
    let mut out = [0.0; 16];
    // SAFETY: 64 writable bytes behind the reference.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), y) };
    out
}

/// One product per loaded register, the rest of `dot` left out.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn read(blocks: &[Block]) -> Lanes<i32> {
    let x = _mm512_set1_epi8(1);
    let mut acc = [_mm512_setzero_si512(); 8];
    let (eights, rest) = blocks.as_chunks::<8>();
    for eight in eights {
        for (acc, block) in acc.iter_mut().zip(eight) {
            *acc = _mm512_dpbusd_epi32(*acc, load(block), x);
        }
    }
    for block in rest {
        acc[0] = _mm512_dpbusd_epi32(acc[0], load(block), x);
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = _mm512_add_epi32(sum, a);
    }
    store(sum)
}

/// As many independent sums as a full tile has.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    const CHAINS: usize = 24;
    let (codes, x) = (_mm512_set1_epi8(2), _mm512_set1_epi8(3));
    let mut acc = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..rounds {
        for a in &mut acc {
            *a = _mm512_dpbusd_epi32(*a, codes, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = _mm512_add_epi32(sum, a);
    }
    (64 * CHAINS as u64 * rounds, _mm512_reduce_add_epi32(sum))
}
