//! NEON with `sdot`: four products of signed bytes go straight into an i32 lane. Codes are at most 2, so the sums
//! fit as they do in the scalar kernel. One register holds the activations of a block, and the instruction picks
//! the word of a plane out of it, so nothing is broadcast.

use std::{arch::aarch64::*, arch::asm};

use crate::{
    aarch64_neon::{self, load, load_word, planes, store},
    isa::{Block, Isa, Lanes, Op, Word},
};

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Dotprod(());

/// Whether this CPU has what [`run`] enables.
pub(crate) fn supported() -> bool {
    aarch64_neon::supported() && std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(Dotprod(()))
}

impl Isa for Dotprod {
    type Floats = crate::simd::aarch64_neon::Quads;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 1;
    const TOKENS: usize = 4;

    #[inline(always)]
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        let mut out = [[0; 16]; 1];
        // SAFETY: `self` is only made in `run`, which the table calls after `supported`.
        unsafe { tile(blocks, [x], &mut out) };
        out[0]
    }

    #[inline(always)]
    fn call<O: Op>(self, part: O) -> O::Output {
        // SAFETY: as in `dot`.
        unsafe { run(part) }
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
    fn multiply(self, rounds: u64) -> (u64, i32) {
        // SAFETY: as in `dot`.
        unsafe { multiply(rounds) }
    }
}

/// Four registers of four rows times `T` tokens: 16 sums, 4 tokens' activations and 4 planes fit in the 32 registers.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(crate) fn tile<const T: usize>(strip: &[Block], x: [&[Word]; T], out: &mut [Lanes<i32>; T]) {
    let x = x.map(|x| &x[..strip.len()]);
    let mut acc = [[vdupq_n_s32(0); 4]; T];
    for (b, block) in strip.iter().enumerate() {
        let mut words = [vdupq_n_s8(0); T];
        for t in 0..T {
            words[t] = load_word(&x[t][b]);
        }
        for q in 0..4 {
            let planes = planes(load(block, q));
            for t in 0..T {
                acc[t][q] = sdot::<0>(acc[t][q], planes[0], words[t]);
                acc[t][q] = sdot::<1>(acc[t][q], planes[1], words[t]);
                acc[t][q] = sdot::<2>(acc[t][q], planes[2], words[t]);
                acc[t][q] = sdot::<3>(acc[t][q], planes[3], words[t]);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(&acc) {
        for (q, &sums) in acc.iter().enumerate() {
            store(out, q, sums);
        }
    }
}

/// `acc[i] + sum over c of codes[4 * i + c] * x[4 * WORD + c]`. The intrinsic is not stable yet.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(crate) fn sdot<const WORD: i32>(mut acc: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the enabled feature has the instruction; it only reads and writes the named registers.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]", inout(vreg) acc, in(vreg) codes, in(vreg) x, const WORD,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// As many independent sums as a full tile has.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    let (codes, x) = (vdupq_n_s8(2), vdupq_n_s8(3));
    let mut acc = [vdupq_n_s32(0); 16];
    for _ in 0..rounds {
        for a in &mut acc {
            *a = sdot::<0>(*a, codes, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = vaddq_s32(sum, a);
    }
    (16 * acc.len() as u64 * rounds, vaddvq_s32(sum))
}
