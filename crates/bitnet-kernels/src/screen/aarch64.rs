//! The aarch64 sets. `sdot` multiplies signed bytes, so the copy's 128 is taken away first; plain NEON widens bytes and
//! multiplies them with the 16-bit codes into 32 bits.

use std::arch::aarch64::*;

use super::{ByteDots, Query};
use crate::{
    aarch64_dotprod::{Dotprod, sdot},
    aarch64_i8mm::I8mm,
    aarch64_neon::{Neon, load, store},
    isa::{Block, Lanes},
};

impl ByteDots for I8mm {
    const QUERIES: usize = 2;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: a value exists only where the instruction set does, which includes `dotprod`.
        unsafe { dotprod(blocks, x) }
    }
}

impl ByteDots for Dotprod {
    const QUERIES: usize = 2;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: a value exists only where the instruction set does.
        unsafe { dotprod(blocks, x) }
    }
}

impl ByteDots for Neon {
    const QUERIES: usize = 1;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: as above.
        x.map(|x| unsafe { neon(blocks, x) })
    }
}

/// Eight sums per vector: two planes of four registers of four rows.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dotprod<const T: usize>(blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
    assert!(x.iter().all(|x| x.planes.len() == blocks.len()));
    let offset = vdupq_n_u8(128);
    let mut high = [[vdupq_n_s32(0); 4]; T];
    let mut low = high;
    for (b, block) in blocks.iter().enumerate() {
        let mut words = [vdupq_n_s8(0); T];
        for t in 0..T {
            // SAFETY: b < blocks.len(), the length of every vector's planes.
            let planes = unsafe { x[t].planes.get_unchecked(b) };
            // SAFETY: 8 readable bytes behind the reference.
            let planes = unsafe { vld1_s8(planes.as_ptr()) };
            words[t] = vcombine_s8(planes, planes);
        }
        for q in 0..4 {
            let w = vreinterpretq_s8_u8(veorq_u8(load(block, q), offset));
            for t in 0..T {
                high[t][q] = sdot::<0>(high[t][q], w, words[t]);
                low[t][q] = sdot::<1>(low[t][q], w, words[t]);
            }
        }
    }
    let mut out = [[0; 16]; T];
    for t in 0..T {
        for q in 0..4 {
            store(&mut out[t], q, vaddq_s32(vshlq_n_s32::<8>(high[t][q]), low[t][q]));
        }
    }
    out
}

/// Every row has a register of four sums, one per column.
#[target_feature(enable = "neon")]
#[inline]
fn neon(blocks: &[Block], x: Query<'_>) -> Lanes<i32> {
    let mut acc = [vdupq_n_s32(0); 16];
    for (block, x) in blocks.iter().zip(x.wide) {
        // SAFETY: 8 readable bytes behind the reference.
        let codes = unsafe { vld1_s16(x.as_ptr()) };
        for q in 0..4 {
            let w = load(block, q);
            let first = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(w)));
            let second = vreinterpretq_s16_u16(vmovl_high_u8(w));
            acc[4 * q] = vmlal_s16(acc[4 * q], vget_low_s16(first), codes);
            acc[4 * q + 1] = vmlal_s16(acc[4 * q + 1], vget_high_s16(first), codes);
            acc[4 * q + 2] = vmlal_s16(acc[4 * q + 2], vget_low_s16(second), codes);
            acc[4 * q + 3] = vmlal_s16(acc[4 * q + 3], vget_high_s16(second), codes);
        }
    }
    let correction = vdupq_n_s32(x.correction());
    let mut out = [0; 16];
    for q in 0..4 {
        let pairs = vpaddq_s32(acc[4 * q], acc[4 * q + 1]);
        let rows = vpaddq_s32(pairs, vpaddq_s32(acc[4 * q + 2], acc[4 * q + 3]));
        store(&mut out, q, vaddq_s32(rows, correction));
    }
    out
}
