//! Sixteen floats at once, in the registers of an instruction set: the lanes in which every float sum runs.
//!
//! Loops over `[f32; 16]` are enough where a loop does one thing; where many sums are kept at once the compiler
//! cuts such arrays into scalars, so attention and dense products use these types.

use crate::{
    float::{half, lanes::tree},
    isa::Lanes,
};

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64_neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_sse41;

/// Sixteen floats. Holding a value proves that this CPU has the instruction set, since its constructors are unsafe.
pub(crate) trait Floats: Copy {
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

    /// Widens integers, exactly.
    ///
    /// # Safety
    /// As [`Floats::splat`].
    unsafe fn load_i8(x: &[i8; 16]) -> Self;

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
    unsafe fn load_i8(x: &[i8; 16]) -> Self {
        Self(x.map(f32::from))
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
