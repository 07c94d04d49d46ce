//! Sixteen floats in four NEON registers.

use std::{arch::aarch64::*, arch::asm};

use super::Floats;
use crate::isa::Lanes;

#[derive(Clone, Copy)]
pub(crate) struct Quads([float32x4_t; 4]);

impl Floats for Quads {
    type Bytes = uint8x16_t;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for NEON.
        Self([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    unsafe fn load(x: &Lanes<f32>) -> Self {
        // SAFETY: as in `splat`.
        Self(unsafe { load(x) })
    }

    #[inline(always)]
    unsafe fn load_f16(x: &[u16; 16]) -> Self {
        // SAFETY: as in `splat`.
        Self(unsafe { load_f16(x) })
    }

    #[inline(always)]
    unsafe fn load_bf16(x: &[u16; 16]) -> Self {
        // SAFETY: as in `splat`.
        Self(unsafe { load(&x.map(|x| f32::from_bits(u32::from(x) << 16))) })
    }

    #[inline(always)]
    unsafe fn splat_f16(x: u16) -> Self {
        // SAFETY: as in `splat`.
        let [first, ..] = unsafe { load_f16(&[x; 16]) };
        Self([first; 4])
    }

    #[inline(always)]
    fn of_integers(x: uint8x16_t) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { integers(x) })
    }

    #[inline(always)]
    fn store(self) -> Lanes<f32> {
        let mut out = [0.0; 16];
        for (out, part) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            // SAFETY: a value exists only where NEON does; 16 writable bytes behind the reference.
            unsafe { vst1q_f32(out.as_mut_ptr(), part) };
        }
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a value exists only where NEON does.
        Self(unsafe { add(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { mul(self.0, other.0) })
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        // SAFETY: as in `add`.
        unsafe { to_f16(self.0) }
    }

    #[inline(always)]
    fn sums(vectors: &[Self; 16]) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { sums(vectors) })
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(x: &Lanes<f32>) -> [float32x4_t; 4] {
    let mut out = [vdupq_n_f32(0.0); 4];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<4>().0) {
        // SAFETY: 16 readable bytes behind the reference.
        *out = unsafe { vld1q_f32(x.as_ptr()) };
    }
    out
}

#[target_feature(enable = "neon")]
#[inline]
fn load_f16(x: &[u16; 16]) -> [float32x4_t; 4] {
    let mut out = [vdupq_n_f32(0.0); 4];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<4>().0) {
        // SAFETY: 8 readable bytes behind the reference.
        let halves = unsafe { vld1_u16(x.as_ptr()) };
        // SAFETY: fcvtl is part of every aarch64 CPU; it only reads and writes the named registers. (Its intrinsic is
        // not stable.)
        unsafe {
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) *out, in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags));
        }
    }
    out
}

#[target_feature(enable = "neon")]
#[inline]
fn to_f16(x: [float32x4_t; 4]) -> [u16; 16] {
    let mut out = [0; 16];
    for (out, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
        let halves: uint16x4_t;
        // SAFETY: as for fcvtl. fcvtn rounds as the control register says, which is to nearest even in Rust programs.
        unsafe {
            asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) x,
                options(pure, nomem, nostack, preserves_flags));
        }
        // SAFETY: 8 writable bytes behind the reference.
        unsafe { vst1_u16(out.as_mut_ptr(), halves) };
    }
    out
}

#[target_feature(enable = "neon")]
#[inline]
fn integers(x: uint8x16_t) -> [float32x4_t; 4] {
    let bytes = vreinterpretq_s8_u8(x);
    let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
    [
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
        vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
        vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
    ]
}

#[target_feature(enable = "neon")]
#[inline]
fn add(mut a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
    for i in 0..4 {
        a[i] = vaddq_f32(a[i], b[i]);
    }
    a
}

#[target_feature(enable = "neon")]
#[inline]
fn mul(mut a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
    for i in 0..4 {
        a[i] = vmulq_f32(a[i], b[i]);
    }
    a
}

/// Adds quarters, then transposes four by four.
#[target_feature(enable = "neon")]
#[inline]
fn sums(v: &[Quads; 16]) -> [float32x4_t; 4] {
    // Lanes j and j + 8, then j and j + 4 of what remains.
    let fours = |i: usize| {
        let [a, b, c, d] = v[i].0;
        vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d))
    };
    // Lanes j and j + 2 of two vectors side by side: [a 0+2, b 0+2, a 1+3, b 1+3].
    let twos = |i: usize| {
        let (a, b) = (fours(i), fours(i + 1));
        vaddq_f32(vzip1q_f32(a, b), vzip2q_f32(a, b))
    };
    let mut out = [vdupq_n_f32(0.0); 4];
    for (i, out) in out.iter_mut().enumerate() {
        let (ab, cd) = (vreinterpretq_f64_f32(twos(4 * i)), vreinterpretq_f64_f32(twos(4 * i + 2)));
        let (low, high) = (vzip1q_f64(ab, cd), vzip2q_f64(ab, cd));
        *out = vaddq_f32(vreinterpretq_f32_f64(low), vreinterpretq_f32_f64(high));
    }
    out
}
