//! Sixteen floats in one AVX-512 register.

use std::arch::x86_64::*;

use super::{Floats, bytes::Bytes};
use crate::isa::Lanes;

#[derive(Clone, Copy)]
pub(crate) struct Zmm(pub(crate) __m512);

impl Floats for Zmm {
    type Bytes = __m128i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for AVX-512F.
        Self(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(x: &Lanes<f32>) -> Self {
        // SAFETY: as in `splat`; 64 readable bytes behind the reference.
        Self(unsafe { _mm512_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn load_f16(x: &[u16; 16]) -> Self {
        // SAFETY: as in `splat`; 32 readable bytes behind the reference.
        let halves = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        // SAFETY: as in `splat`.
        Self(unsafe { _mm512_cvtph_ps(halves) })
    }

    #[inline(always)]
    unsafe fn load_bf16(x: &[u16; 16]) -> Self {
        // SAFETY: as in `splat`; 32 readable bytes behind the reference.
        let halves = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        // SAFETY: as in `splat`.
        Self(unsafe { bf16(halves) })
    }

    #[inline(always)]
    unsafe fn splat_f16(x: u16) -> Self {
        // SAFETY: as in `splat`.
        Self(unsafe { splat_f16(x) })
    }

    #[inline(always)]
    fn of_integers(x: __m128i) -> Self {
        // SAFETY: registers of bytes are only made where the caller vouches for AVX-512F.
        Self(unsafe { integers(x) })
    }

    /// One look-up among the sixteen products, which takes the place of widening and multiplying sixteen codes; two blocks' halves
    /// share the products.
    #[inline(always)]
    unsafe fn nibbles<const HIGH: bool>(
        codes: &[u8; 16],
        levels: &[i8; 16],
        scale: Self,
        offset: Option<Self>,
    ) -> Self {
        // SAFETY: the caller vouches for more.
        let levels = unsafe { __m128i::load(bytemuck::must_cast_ref(levels)) };
        let products = Self::of_integers(levels).mul(scale);
        let table = match offset {
            Some(offset) => products.add(offset),
            None => products,
        };
        // SAFETY: as above.
        let codes = unsafe { __m128i::load(codes) };
        // SAFETY: as in `splat`.
        Self(unsafe { entries::<HIGH>(codes, table.0) })
    }

    #[inline(always)]
    fn store(self) -> Lanes<f32> {
        let mut out = [0.0; 16];
        // SAFETY: a value exists only where AVX-512F does; 64 writable bytes behind the reference.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) };
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a value exists only where AVX-512F does.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        let mut out = [0; 16];
        // SAFETY: as in `add`.
        let halves = unsafe { _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0) };
        // SAFETY: 32 writable bytes behind the reference.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), halves) };
        out
    }

    #[inline(always)]
    fn sums(vectors: &[Self; 16]) -> Self {
        // SAFETY: as in `add`.
        Self(unsafe { sums(vectors) })
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn bf16(halves: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn integers(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn splat_f16(x: u16) -> __m512 {
    _mm512_cvtph_ps(_mm256_set1_epi16(x.cast_signed()))
}

/// The instruction looks at the lowest four bits of each lane alone.
#[target_feature(enable = "avx512f")]
#[inline]
fn entries<const HIGH: bool>(codes: __m128i, table: __m512) -> __m512 {
    let lanes = _mm512_cvtepu8_epi32(codes);
    _mm512_permutexvar_ps(if HIGH { _mm512_srli_epi32::<4>(lanes) } else { lanes }, table)
}

/// Adds halves, then quarters, then transposes four by four, so that each instruction adds lanes of several vectors.
#[target_feature(enable = "avx512f")]
#[inline]
fn sums(v: &[Zmm; 16]) -> __m512 {
    // Lanes j and j + 8 of two vectors: [first, second], eight lanes each.
    let eights = |a: usize, b: usize| {
        let low = _mm512_shuffle_f32x4::<0x44>(v[a].0, v[b].0);
        _mm512_add_ps(low, _mm512_shuffle_f32x4::<0xee>(v[a].0, v[b].0))
    };
    // Lanes j and j + 4 of four vectors: [i, i + 4, i + 8, i + 12], four lanes each.
    let fours = |i: usize| {
        let (p, q) = (eights(i, i + 4), eights(i + 8, i + 12));
        _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(p, q), _mm512_shuffle_f32x4::<0xdd>(p, q))
    };
    let (a, b, c, d) = (fours(0), fours(1), fours(2), fours(3));
    // Lanes j and j + 2 of two vectors side by side, then lanes 0 and 1.
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd))
}
