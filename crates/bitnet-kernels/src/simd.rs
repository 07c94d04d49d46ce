//! Sixteen floats at once, in the registers of an instruction set: the lanes in which every float sum runs.
//!
//! Loops over `[f32; 16]` are enough where a loop does one thing; where many sums are kept at once the compiler
//! cuts such arrays into scalars, so attention and dense products use these types.

use bytes::{Bytes, Sixteen};

use crate::{
    float::{half, lanes::tree},
    isa::Lanes,
};

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64_neon;
pub(crate) mod bytes;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_sse41;

/// Sixteen floats. Holding a value proves that this CPU has the instruction set, since its constructors are unsafe.
pub(crate) trait Floats: Copy {
    /// Sixteen bytes in registers of the same set.
    type Bytes: Bytes;

    /// All lanes `x`.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn splat(x: f32) -> Self;

    /// # Safety
    /// As [`Floats::splat`].
    unsafe fn load(x: &Lanes<f32>) -> Self;

    /// Widens binary16 values, exactly (a signalling NaN becomes quiet).
    ///
    /// # Safety
    /// As [`Floats::splat`].
    unsafe fn load_f16(x: &[u16; 16]) -> Self;

    /// Widens bfloat16 values, exactly.
    ///
    /// # Safety
    /// As [`Floats::splat`].
    unsafe fn load_bf16(x: &[u16; 16]) -> Self;

    /// All lanes the binary16 value with those bits, widened as by [`Floats::load_f16`].
    ///
    /// # Safety
    /// As [`Floats::splat`].
    #[inline(always)]
    unsafe fn splat_f16(x: u16) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self::splat(half::widen(x)) }
    }

    /// Widens signed bytes to floats; every i8 is exact.
    fn of_integers(x: Self::Bytes) -> Self;

    /// The lower or (`HIGH`) the upper four bits of each byte, as what they stand for: `levels[code] * scale + offset`, the
    /// product rounded, then the sum.
    ///
    /// # Safety
    /// As [`Floats::splat`].
    #[inline(always)]
    unsafe fn nibbles<const HIGH: bool>(
        codes: &[u8; 16],
        levels: &[i8; 16],
        scale: Self,
        offset: Option<Self>,
    ) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        let levels = unsafe { Self::Bytes::load(bytemuck::must_cast_ref(levels)) };
        // SAFETY: as above.
        let codes = unsafe { Self::Bytes::load(codes) };
        // SAFETY: as above.
        let four_bits = unsafe { Self::Bytes::splat(15) };
        let codes = if HIGH { codes.shr(4) } else { codes.and(four_bits) };
        let product = Self::of_integers(codes.entries_of(levels)).mul(scale);
        match offset {
            Some(offset) => product.add(offset),
            None => product,
        }
    }

    fn store(self) -> Lanes<f32>;

    fn add(self, other: Self) -> Self;

    fn mul(self, other: Self) -> Self;

    /// Rounds to binary16, ties to even (a signalling NaN becomes quiet).
    fn to_f16(self) -> [u16; 16];

    /// Lane `i` is the sum of the lanes of `vectors[i]`, added in the order of [`tree`].
    fn sums(vectors: &[Self; 16]) -> Self;
}

/// The definition, and the scalar kernel's type.
#[derive(Clone, Copy)]
pub(crate) struct Array(Lanes<f32>);

impl Floats for Array {
    type Bytes = Sixteen;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 16])
    }

    #[inline(always)]
    unsafe fn load(x: &Lanes<f32>) -> Self {
        Self(*x)
    }

    #[inline(always)]
    unsafe fn load_f16(x: &[u16; 16]) -> Self {
        Self(x.map(half::widen))
    }

    #[inline(always)]
    unsafe fn load_bf16(x: &[u16; 16]) -> Self {
        Self(x.map(|x| f32::from_bits(u32::from(x) << 16)))
    }

    #[inline(always)]
    fn of_integers(x: Sixteen) -> Self {
        Self(x.0.map(|x| f32::from(x.cast_signed())))
    }

    #[inline(always)]
    fn store(self) -> Lanes<f32> {
        self.0
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
        self
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a *= b);
        self
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        self.0.map(half::round)
    }

    #[inline(always)]
    fn sums(vectors: &[Self; 16]) -> Self {
        Self(vectors.map(|v| tree(v.0)))
    }
}
