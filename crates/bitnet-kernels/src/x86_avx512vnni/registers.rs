//! Registers of 64 bytes and the memory behind them.

use std::arch::x86_64::*;

use crate::isa::{Block, Lanes};

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load(block: &Block) -> __m512i {
    // SAFETY: 64 readable bytes behind the reference; unaligned loads are allowed.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store(lanes: __m512i) -> Lanes<i32> {
    let mut out = [0; 16];
    // SAFETY: 64 writable bytes behind the reference.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), lanes) };
    out
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_lanes(lanes: &Lanes<i32>) -> __m512i {
    // SAFETY: 64 readable bytes behind the reference.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_floats(lanes: &Lanes<f32>) -> __m512 {
    // SAFETY: 64 readable bytes behind the reference.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn bytes(v: __m512i) -> Block {
    let mut out = [0; 64];
    // SAFETY: 64 writable bytes behind the reference.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), v) };
    out
}

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Vnni(pub(super) ());
