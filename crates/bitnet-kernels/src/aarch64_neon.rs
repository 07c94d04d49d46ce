//! NEON as every aarch64 CPU has it: widening multiplies of eight bytes into i16.
//!
//! Why no i16 overflows: a product of a code (at most 2) and an activation (at least -128, at most 127) is in
//! [-256, 254]. A lane of an i16 accumulator gets one per plane, four per block, so [`FLUSH_BLOCKS`] = 32 blocks
//! stay within [-32768, 32512]. Then lanes are added pairwise into i32.

use std::arch::aarch64::*;

use crate::isa::{Block, Isa, Lanes, Op, Word};

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// Whether this CPU has what [`run`] enables.
pub(crate) fn supported() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "neon")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(Neon(()))
}

impl Isa for Neon {
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

/// Blocks whose i16 sums fit, see the module's head.
const FLUSH_BLOCKS: usize = 32;

/// Four rows at a time, unpacked once for all tokens.
#[target_feature(enable = "neon")]
#[inline]
fn tile<const T: usize>(strip: &[Block], x: [&[Word]; T], out: &mut [Lanes<i32>; T]) {
    for q in 0..4 {
        // Per token: rows 0 and 1, rows 2 and 3, each as two sums of two columns.
        let mut acc = [[vdupq_n_s32(0); 2]; T];
        let mut first = 0;
        while first < strip.len() {
            let last = (first + FLUSH_BLOCKS).min(strip.len());
            let sums = quarter(&strip[first..last], q, x.map(|x| &x[first..last]));
            for (acc, sums) in acc.iter_mut().zip(&sums) {
                acc[0] = vpadalq_s16(acc[0], sums[0]);
                acc[1] = vpadalq_s16(acc[1], sums[1]);
            }
            first = last;
        }
        for (out, acc) in out.iter_mut().zip(&acc) {
            store(out, q, vpaddq_s32(acc[0], acc[1]));
        }
    }
}

/// i16 sums of four rows over at most [`FLUSH_BLOCKS`] blocks: four columns' sums for each row.
#[target_feature(enable = "neon")]
#[inline]
fn quarter<const T: usize>(strip: &[Block], q: usize, x: [&[Word]; T]) -> [[int16x8_t; 2]; T] {
    let x = x.map(|x| &x[..strip.len()]);
    let mut acc = [[vdupq_n_s16(0); 2]; T];
    for (b, block) in strip.iter().enumerate() {
        let planes = planes(load(block, q));
        for t in 0..T {
            for (p, &codes) in planes.iter().enumerate() {
                let word = vreinterpretq_s8_s32(vdupq_n_s32(crate::isa::plane_word(&x[t][b], p)));
                acc[t][0] = vmlal_s8(acc[t][0], vget_low_s8(codes), vget_low_s8(word));
                acc[t][1] = vmlal_high_s8(acc[t][1], codes, word);
            }
        }
    }
    acc
}

/// The four planes of a quarter block, each code in its own byte.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn planes(w: uint8x16_t) -> [int8x16_t; 4] {
    let low = vdupq_n_u8(3);
    [
        vreinterpretq_s8_u8(vandq_u8(w, low)),
        vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<2>(w), low)),
        vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(w), low)),
        vreinterpretq_s8_u8(vshrq_n_u8::<6>(w)),
    ]
}

/// The codes of rows `4 * q .. 4 * q + 4` of a block, 16 bytes.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn load(block: &Block, q: usize) -> uint8x16_t {
    let quarter = &block.as_chunks::<16>().0[q];
    // SAFETY: 16 readable bytes behind the reference.
    unsafe { vld1q_u8(quarter.as_ptr()) }
}

/// The 16 activations that a block meets, in one register.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn load_word(x: &Word) -> int8x16_t {
    // SAFETY: 16 readable bytes behind the reference.
    unsafe { vld1q_s8(x.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn store(lanes: &mut Lanes<i32>, q: usize, sums: int32x4_t) {
    let quarter = &mut lanes.as_chunks_mut::<4>().0[q];
    // SAFETY: 16 writable bytes behind the reference.
    unsafe { vst1q_s32(quarter.as_mut_ptr(), sums) };
}

/// As many independent sums as a full tile has.
#[target_feature(enable = "neon")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    // Codes change every round, or the compiler would multiply the constants once for all.
    let (mut codes, x, one) = (vdup_n_s8(2), vdup_n_s8(3), vdup_n_s8(1));
    let mut acc = [vdupq_n_s16(0); 8];
    for _ in 0..rounds {
        codes = vadd_s8(codes, one);
        for a in &mut acc {
            *a = vmlal_s8(*a, codes, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = vaddq_s16(sum, a);
    }
    (8 * acc.len() as u64 * rounds, i32::from(vaddvq_s16(sum)))
}
