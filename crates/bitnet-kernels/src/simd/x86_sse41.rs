//! Sixteen floats in four SSE registers. There are no conversions of binary16: integer arithmetic does them.

use std::arch::x86_64::*;

use super::Floats;
use crate::{float::half, isa::Lanes};

#[derive(Clone, Copy)]
pub(crate) struct Xmm([__m128; 4]);

impl Floats for Xmm {
    type Bytes = __m128i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: SSE is part of x86-64.
        Self([unsafe { _mm_set1_ps(x) }; 4])
    }

    #[inline(always)]
    unsafe fn load(x: &Lanes<f32>) -> Self {
        // SAFETY: the caller vouches for SSE4.1.
        Self(unsafe { load(x) })
    }

    #[inline(always)]
    unsafe fn load_f16(x: &[u16; 16]) -> Self {
        // SAFETY: as in `load`.
        Self(unsafe { load_f16(x) })
    }

    #[inline(always)]
    unsafe fn load_bf16(x: &[u16; 16]) -> Self {
        // SAFETY: as in `load`.
        Self(unsafe { load(&x.map(|x| f32::from_bits(u32::from(x) << 16))) })
    }

    #[inline(always)]
    fn of_integers(x: __m128i) -> Self {
        // SAFETY: registers of bytes are only made where the caller vouches for SSE4.1.
        Self(unsafe { integers(x) })
    }

    #[inline(always)]
    fn store(self) -> Lanes<f32> {
        let mut out = [0.0; 16];
        for (out, part) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            // SAFETY: SSE is part of x86-64; 16 writable bytes behind the reference.
            unsafe { _mm_storeu_ps(out.as_mut_ptr(), part) };
        }
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a value exists only where SSE4.1 does.
        Self(unsafe { add(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { mul(self.0, other.0) })
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        self.store().map(half::round)
    }

    #[inline(always)]
    fn sums(vectors: &[Self; 16]) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { sums(vectors) })
    }
}

#[target_feature(enable = "sse4.1")]
#[inline]
fn load(x: &Lanes<f32>) -> [__m128; 4] {
    let mut out = [_mm_setzero_ps(); 4];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<4>().0) {
        // SAFETY: 16 readable bytes behind the reference.
        *out = unsafe { _mm_loadu_ps(x.as_ptr()) };
    }
    out
}

/// [`half::widen`], four at a time.
#[target_feature(enable = "sse4.1")]
#[inline]
fn load_f16(x: &[u16; 16]) -> [__m128; 4] {
    let mut out = [_mm_setzero_ps(); 4];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<4>().0) {
        // SAFETY: 8 readable bytes behind the reference.
        let h = _mm_cvtepu16_epi32(unsafe { _mm_loadl_epi64(x.as_ptr().cast()) });
        let magnitude = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
        let sign = _mm_slli_epi32::<16>(_mm_xor_si128(h, magnitude));
        let shifted = _mm_slli_epi32::<13>(magnitude);
        let normal = _mm_add_epi32(shifted, _mm_set1_epi32(112 << 23));
        let subnormal =
            _mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_castsi128_ps(_mm_set1_epi32((127 - 24) << 23)));
        let no_number = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7c00));
        let quiet = _mm_and_si128(no_number, _mm_set1_epi32(0x40_0000));
        let special = _mm_or_si128(_mm_or_si128(shifted, _mm_set1_epi32(0x7f80_0000)), quiet);
        let is_normal = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x3ff));
        let is_special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));
        let finite = _mm_blendv_epi8(_mm_castps_si128(subnormal), normal, is_normal);
        let bits = _mm_blendv_epi8(finite, special, is_special);
        *out = _mm_castsi128_ps(_mm_or_si128(bits, sign));
    }
    out
}

#[target_feature(enable = "sse4.1")]
#[inline]
fn integers(x: __m128i) -> [__m128; 4] {
    [
        _mm_cvtepi32_ps(_mm_cvtepi8_epi32(x)),
        _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128::<4>(x))),
        _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128::<8>(x))),
        _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128::<12>(x))),
    ]
}

#[target_feature(enable = "sse4.1")]
#[inline]
fn add(mut a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
    for i in 0..4 {
        a[i] = _mm_add_ps(a[i], b[i]);
    }
    a
}

#[target_feature(enable = "sse4.1")]
#[inline]
fn mul(mut a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
    for i in 0..4 {
        a[i] = _mm_mul_ps(a[i], b[i]);
    }
    a
}

/// Adds quarters, then transposes four by four.
#[target_feature(enable = "sse4.1")]
#[inline]
fn sums(v: &[Xmm; 16]) -> [__m128; 4] {
    // Lanes j and j + 8, then j and j + 4 of what remains.
    let fours = |i: usize| {
        let [a, b, c, d] = v[i].0;
        _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d))
    };
    let mut out = [_mm_setzero_ps(); 4];
    for (i, out) in out.iter_mut().enumerate() {
        let (a, b, c, d) = (fours(4 * i), fours(4 * i + 1), fours(4 * i + 2), fours(4 * i + 3));
        let ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        *out = _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
    }
    out
}
