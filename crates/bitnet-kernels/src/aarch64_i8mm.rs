//! NEON with `smmla`: two rows of eight codes times two tokens' eight activations, four i32 sums at once.
//! Twice the products of `sdot` per instruction; single tokens use `sdot`, as half of the matrix would be empty.

use std::{arch::aarch64::*, arch::asm};

use crate::{
    aarch64_dotprod,
    aarch64_neon::{load, load_word, planes, store},
    isa::{Block, Isa, Lanes, Op, Word},
};

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct I8mm(());

/// Whether this CPU has what [`run`] enables.
pub(crate) fn supported() -> bool {
    aarch64_dotprod::supported() && std::arch::is_aarch64_feature_detected!("i8mm")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "neon,dotprod,i8mm")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(I8mm(()))
}

impl Isa for I8mm {
    type Floats = crate::simd::aarch64_neon::Quads;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 1;
    const TOKENS: usize = 4;

    #[inline(always)]
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        let mut out = [[0; 16]; 1];
        // SAFETY: `self` is only made in `run`, which the table calls after `supported`.
        unsafe { aarch64_dotprod::tile(blocks, [x], &mut out) };
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

/// Pairs of tokens through `smmla`, a single last one through `sdot`.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn tile<const T: usize>(strip: &[Block], x: [&[Word]; T], out: &mut [Lanes<i32>; T]) {
    let (pairs, single) = out.as_chunks_mut::<2>();
    for (i, out) in pairs.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        four(strip, std::array::from_fn(|t| x[4 * i + t]), out);
    }
    if pairs.len() % 2 == 1 {
        let last = pairs.len() - 1;
        let mut both = [[[0; 16]; 2]; 1];
        tile_pairs(strip, [[x[2 * last], x[2 * last + 1]]], &mut both);
        pairs[last] = both[0];
    }
    if let [single] = single {
        aarch64_dotprod::tile(strip, [x[T - 1]], std::array::from_mut(single));
    }
}

#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn four(strip: &[Block], x: [&[Word]; 4], out: &mut [[Lanes<i32>; 2]; 2]) {
    tile_pairs(strip, [[x[0], x[1]], [x[2], x[3]]], out);
}

/// `P` pairs of tokens: 8 sums per pair, 4 code matrices and 2 activation matrices per pair fit in 32 registers.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn tile_pairs<const P: usize>(strip: &[Block], x: [[&[Word]; 2]; P], out: &mut [[Lanes<i32>; 2]; P]) {
    let x = x.map(|pair| pair.map(|x| &x[..strip.len()]));
    // Two rows by two tokens each: [row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1].
    let mut acc = [[vdupq_n_s32(0); 8]; P];
    for (b, block) in strip.iter().enumerate() {
        // Columns 0..8 and 8..16 of both tokens.
        let mut words = [[vdupq_n_s8(0); 2]; P];
        for pair in 0..P {
            let first = vreinterpretq_s64_s8(load_word(&x[pair][0][b]));
            let second = vreinterpretq_s64_s8(load_word(&x[pair][1][b]));
            words[pair][0] = vreinterpretq_s8_s64(vzip1q_s64(first, second));
            words[pair][1] = vreinterpretq_s8_s64(vzip2q_s64(first, second));
        }
        for q in 0..4 {
            let planes = planes(load(block, q));
            for half in 0..2 {
                let low = vreinterpretq_s32_s8(planes[2 * half]);
                let high = vreinterpretq_s32_s8(planes[2 * half + 1]);
                let rows01 = vreinterpretq_s8_s32(vzip1q_s32(low, high));
                let rows23 = vreinterpretq_s8_s32(vzip2q_s32(low, high));
                for pair in 0..P {
                    acc[pair][2 * q] = smmla(acc[pair][2 * q], rows01, words[pair][half]);
                    acc[pair][2 * q + 1] = smmla(acc[pair][2 * q + 1], rows23, words[pair][half]);
                }
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(&acc) {
        for q in 0..4 {
            store(&mut out[0], q, vuzp1q_s32(acc[2 * q], acc[2 * q + 1]));
            store(&mut out[1], q, vuzp2q_s32(acc[2 * q], acc[2 * q + 1]));
        }
    }
}

/// `acc[2 * i + j] + sum over k of rows[8 * i + k] * tokens[8 * j + k]`. The intrinsic is not stable yet.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn smmla(mut acc: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    // SAFETY: the enabled feature has the instruction; it only reads and writes the named registers.
    unsafe {
        asm!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) rows, in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// As many independent sums as a full tile has.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    let (codes, x) = (vdupq_n_s8(2), vdupq_n_s8(3));
    let mut acc = [vdupq_n_s32(0); 16];
    for _ in 0..rounds {
        for a in &mut acc {
            *a = smmla(*a, codes, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = vaddq_s32(sum, a);
    }
    (32 * acc.len() as u64 * rounds, vaddvq_s32(sum))
}
