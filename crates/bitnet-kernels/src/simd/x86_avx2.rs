//! Sixteen floats in two AVX registers, with F16C.

use std::arch::x86_64::*;

use super::Floats;
use crate::isa::Lanes;

#[derive(Clone, Copy)]
pub(crate) struct Ymm([__m256; 2]);

impl Floats for Ymm {
    type Bytes = __m128i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and F16C.
        Self([unsafe { _mm256_set1_ps(x) }; 2])
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
        Self(unsafe { load_bf16(x) })
    }

    #[inline(always)]
    unsafe fn splat_f16(x: u16) -> Self {
        // SAFETY: as in `splat`.
        Self([unsafe { splat_f16(x) }; 2])
    }

    #[inline(always)]
    fn of_integers(x: __m128i) -> Self {
        // SAFETY: registers of bytes are only made where the caller vouches for AVX2.
        Self(unsafe { integers(x) })
    }

    #[inline(always)]
    fn store(self) -> Lanes<f32> {
        let mut out = [0.0; 16];
        for (out, half) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            // SAFETY: a value exists only where AVX2 does; 32 writable bytes behind the reference.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), half) };
        }
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a value exists only where AVX2 does.
        Self(unsafe { add(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { mul(self.0, other.0) })
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        // SAFETY: as in `add`; values exist only where F16C does, too.
        unsafe { to_f16(self.0) }
    }

    #[inline(always)]
    fn sums(vectors: &[Self; 16]) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { sums(vectors) })
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(x: &Lanes<f32>) -> [__m256; 2] {
    let mut out = [_mm256_setzero_ps(); 2];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<8>().0) {
        // SAFETY: 32 readable bytes behind the reference.
        *out = unsafe { _mm256_loadu_ps(x.as_ptr()) };
    }
    out
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn splat_f16(x: u16) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(x.cast_signed()))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn load_f16(x: &[u16; 16]) -> [__m256; 2] {
    let mut out = [_mm256_setzero_ps(); 2];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<8>().0) {
        *out = _mm256_cvtph_ps(load_eight(x));
    }
    out
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_bf16(x: &[u16; 16]) -> [__m256; 2] {
    let mut out = [_mm256_setzero_ps(); 2];
    for (out, x) in out.iter_mut().zip(x.as_chunks::<8>().0) {
        *out = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_eight(x))));
    }
    out
}

#[target_feature(enable = "avx2")]
#[inline]
fn integers(bytes: __m128i) -> [__m256; 2] {
    let high = _mm_srli_si128::<8>(bytes);
    [_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high))]
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_eight(x: &[u16; 8]) -> __m128i {
    // SAFETY: 16 readable bytes behind the reference.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
    [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
}

#[target_feature(enable = "avx2")]
#[inline]
fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
    [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn to_f16(x: [__m256; 2]) -> [u16; 16] {
    let mut out = [0; 16];
    for (out, x) in out.as_chunks_mut::<8>().0.iter_mut().zip(x) {
        let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
        // SAFETY: 16 writable bytes behind the reference.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), halves) };
    }
    out
}

/// Adds halves, then transposes four by four, so that each instruction adds lanes of several vectors.
#[target_feature(enable = "avx2")]
#[inline]
fn sums(v: &[Ymm; 16]) -> [__m256; 2] {
    let eights = |i: usize| _mm256_add_ps(v[i].0[0], v[i].0[1]);
    // Lanes j and j + 4 of two vectors: [i, i + 4], four lanes each.
    let fours = |i: usize| {
        let (a, b) = (eights(i), eights(i + 4));
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
    };
    let half = |i: usize| {
        let (a, b, c, d) = (fours(i), fours(i + 1), fours(i + 2), fours(i + 3));
        // Lanes j and j + 2 of two vectors side by side, then lanes 0 and 1.
        let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd))
    };
    [half(0), half(8)]
}
