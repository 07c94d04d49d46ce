//! Sixteen bytes at once: what the codes of blocks are taken out of.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Sixteen bytes. Holding a value proves that this CPU has the instruction set, since its constructors are unsafe.
pub(crate) trait Bytes: Copy {
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn load(x: &[u8; 16]) -> Self;

    /// # Safety
    /// As [`Bytes::load`].
    unsafe fn splat(x: u8) -> Self;

    /// All bits of byte `i` are bit `i` of `x`.
    ///
    /// # Safety
    /// As [`Bytes::load`].
    unsafe fn bits(x: u16) -> Self;

    fn and(self, other: Self) -> Self;

    fn or(self, other: Self) -> Self;

    /// Subtracts byte by byte, wrapping.
    fn sub(self, other: Self) -> Self;

    /// Each byte shifted right, `n < 8`.
    fn shr(self, n: u32) -> Self;

    /// Each byte shifted left, `n < 8`.
    fn shl(self, n: u32) -> Self;

    /// Byte `i` is entry `self[i]` of `table`, `self[i] < 16`.
    fn entries_of(self, table: Self) -> Self;
}

/// The definition, and the scalar kernel's type.
#[derive(Clone, Copy)]
pub(crate) struct Sixteen(pub(crate) [u8; 16]);

impl Bytes for Sixteen {
    #[inline(always)]
    unsafe fn load(x: &[u8; 16]) -> Self {
        Self(*x)
    }

    #[inline(always)]
    unsafe fn splat(x: u8) -> Self {
        Self([x; 16])
    }

    #[inline(always)]
    unsafe fn bits(x: u16) -> Self {
        Self(std::array::from_fn(|i| if x >> i & 1 == 1 { 0xff } else { 0 }))
    }

    #[inline(always)]
    fn and(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
        self
    }

    #[inline(always)]
    fn or(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
        self
    }

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a = a.wrapping_sub(b));
        self
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        Self(self.0.map(|x| x >> n))
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        Self(self.0.map(|x| x << n))
    }

    #[inline(always)]
    fn entries_of(self, table: Self) -> Self {
        Self(self.0.map(|x| table.0[usize::from(x & 15)]))
    }
}

/// An SSE register; SSSE3, which shuffles bytes, is part of SSE4.1.
#[cfg(target_arch = "x86_64")]
impl Bytes for __m128i {
    #[inline(always)]
    unsafe fn load(x: &[u8; 16]) -> Self {
        // SAFETY: 16 readable bytes behind the reference; SSE2 is part of x86-64.
        unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn splat(x: u8) -> Self {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_set1_epi8(x.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn bits(x: u16) -> Self {
        // SAFETY: the caller vouches for SSE4.1.
        unsafe { bits(x) }
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_and_si128(self, other) }
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: as in `and`.
        unsafe { _mm_or_si128(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as in `and`.
        unsafe { _mm_sub_epi8(self, other) }
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        // SAFETY: as in `entries_of`.
        unsafe { shr(self, n) }
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        // SAFETY: as in `entries_of`.
        unsafe { shl(self, n) }
    }

    #[inline(always)]
    fn entries_of(self, table: Self) -> Self {
        // SAFETY: this module's registers are only made where the caller vouches for SSE4.1.
        unsafe { entries(self, table) }
    }
}

/// There are no shifts of bytes: what those of words bring in from the neighbour is masked.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.1")]
#[inline]
fn shr(x: __m128i, n: u32) -> __m128i {
    let words = _mm_srl_epi16(x, _mm_cvtsi32_si128(n.cast_signed()));
    _mm_and_si128(words, _mm_set1_epi8((0xff_u8 >> n).cast_signed()))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.1")]
#[inline]
fn shl(x: __m128i, n: u32) -> __m128i {
    let words = _mm_sll_epi16(x, _mm_cvtsi32_si128(n.cast_signed()));
    _mm_and_si128(words, _mm_set1_epi8((0xff_u8 << n).cast_signed()))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.1")]
#[inline]
fn entries(codes: __m128i, table: __m128i) -> __m128i {
    _mm_shuffle_epi8(table, codes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.1")]
#[inline]
fn bits(x: u16) -> __m128i {
    let both = _mm_set1_epi16(x.cast_signed());
    let bytes = _mm_shuffle_epi8(both, _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    let each = _mm_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    _mm_cmpeq_epi8(_mm_and_si128(bytes, each), each)
}

#[cfg(target_arch = "aarch64")]
impl Bytes for uint8x16_t {
    #[inline(always)]
    unsafe fn load(x: &[u8; 16]) -> Self {
        // SAFETY: 16 readable bytes behind the reference; the caller vouches for NEON.
        unsafe { vld1q_u8(x.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn splat(x: u8) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { vdupq_n_u8(x) }
    }

    #[inline(always)]
    unsafe fn bits(x: u16) -> Self {
        // SAFETY: as in `splat`.
        unsafe { bits(x) }
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: a value exists only where NEON does.
        unsafe { vandq_u8(self, other) }
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: as in `and`.
        unsafe { vorrq_u8(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as in `and`.
        unsafe { vsubq_u8(self, other) }
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        // SAFETY: as in `and`.
        unsafe { shift(self, -(n as i8)) }
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        // SAFETY: as in `and`.
        unsafe { shift(self, n as i8) }
    }

    #[inline(always)]
    fn entries_of(self, table: Self) -> Self {
        // SAFETY: as in `and`.
        unsafe { vqtbl1q_u8(table, self) }
    }
}

/// To the left; to the right where `n` is negative.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn shift(x: uint8x16_t, n: i8) -> uint8x16_t {
    vshlq_u8(x, vdupq_n_s8(n))
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn bits(x: u16) -> uint8x16_t {
    let [low, high] = x.to_le_bytes();
    let each = vcreate_u8(0x8040_2010_0804_0201);
    vtstq_u8(vcombine_u8(vdup_n_u8(low), vdup_n_u8(high)), vcombine_u8(each, each))
}
