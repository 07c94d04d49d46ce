//! VNNI in its 256-bit VEX form, as client CPUs without AVX-512 have it. The arithmetic is that of
//! `x86_avx512vnni.rs`: every product goes straight into an i32, with the same bound on the sums.

use std::arch::x86_64::*;

use crate::{
    float::attention::wide::Wide,
    isa::{Block, Isa, Lanes, Op, Word, plane_word},
    x86,
    x86_avx2::{self, load, store},
};

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni(());

/// Whether this CPU (and its operating system) has what [`run`] enables.
pub(crate) fn supported() -> bool {
    x86_avx2::supported() && is_x86_feature_detected!("avxvnni")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "avx2,f16c,avxvnni")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(AvxVnni(()))
}

impl Isa for AvxVnni {
    type Floats = crate::simd::x86_avx2::Ymm;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 1;
    const TOKENS: usize = 6;

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
        blocks.map(|blocks| unsafe { x86_avx2::wide_dots(blocks, x) })
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

/// Codes stay where they are; plane p's sums are shifted back by 2p bits at the end.
#[target_feature(enable = "avx2,f16c,avxvnni")]
#[inline]
fn dot(blocks: &[Block], x: &[Word]) -> Lanes<i32> {
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|m| _mm256_set1_epi8(m as i8));
    let mut acc = [[_mm256_setzero_si256(); 4]; 2];
    for (block, x) in blocks.iter().zip(x) {
        x86::prefetch_ahead(block);
        let w = [load(block, 0), load(block, 1)];
        for p in 0..4 {
            let word = _mm256_set1_epi32(plane_word(x, p));
            for h in 0..2 {
                acc[h][p] = _mm256_dpbusd_avx_epi32(acc[h][p], _mm256_and_si256(w[h], masks[p]), word);
            }
        }
    }
    let mut out = [0; 16];
    for (h, acc) in acc.iter().enumerate() {
        let low = _mm256_add_epi32(acc[0], _mm256_srai_epi32::<2>(acc[1]));
        let high = _mm256_add_epi32(_mm256_srai_epi32::<4>(acc[2]), _mm256_srai_epi32::<6>(acc[3]));
        store(&mut out, h, _mm256_add_epi32(low, high));
    }
    out
}

/// One strip (two registers) times `T` tokens: 12 sums, 2 codes and a broadcast fit in the 16 registers. As in
/// `x86_avx512vnni.rs`, nothing in the loop can panic.
///
/// Shifts and masks fill ports that products leave free. Byte planes (see `ternary/planes.rs`) reached 96 % of the multiplier's limit in the
/// first-level cache, but 128 tokens as a whole took longer: 72, 69 and 77 % in pairs with 75, 79 and 83 % of this tile (Emerald
/// Rapids, beside other work, 2026-11-26).
#[target_feature(enable = "avx2,f16c,avxvnni")]
#[inline(never)]
fn tile<const T: usize>(strip: &[Block], x: [&[Word]; T], out: &mut [Lanes<i32>; T]) {
    assert!(x.iter().all(|x| x.len() == strip.len()));
    let low = _mm256_set1_epi8(3);
    let mut acc = [[_mm256_setzero_si256(); 2]; T];
    for (b, block) in strip.iter().enumerate() {
        let mut w = [load(block, 0), load(block, 1)];
        for p in 0..4 {
            let codes = [_mm256_and_si256(w[0], low), _mm256_and_si256(w[1], low)];
            w = [_mm256_srli_epi16::<2>(w[0]), _mm256_srli_epi16::<2>(w[1])];
            for t in 0..T {
                // SAFETY: b < strip.len(), the length of every token's words.
                let word = plane_word(unsafe { x[t].get_unchecked(b) }, p);
                let word = _mm256_set1_epi32(word);
                acc[t][0] = _mm256_dpbusd_avx_epi32(acc[t][0], codes[0], word);
                acc[t][1] = _mm256_dpbusd_avx_epi32(acc[t][1], codes[1], word);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(&acc) {
        store(out, 0, acc[0]);
        store(out, 1, acc[1]);
    }
}

/// As many independent sums as a full tile has.
#[target_feature(enable = "avx2,f16c,avxvnni")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    const CHAINS: usize = 12;
    let (codes, x) = (_mm256_set1_epi8(2), _mm256_set1_epi8(3));
    let mut acc = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..rounds {
        for a in &mut acc {
            *a = _mm256_dpbusd_avx_epi32(*a, codes, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = _mm256_add_epi32(sum, a);
    }
    (32 * CHAINS as u64 * rounds, _mm256_extract_epi32::<0>(sum))
}
