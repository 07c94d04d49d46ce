//! Parts of attention that the compiler, left to itself, cuts into scalars.

use std::arch::x86_64::*;

use super::registers::{load, load_lanes, store};
use crate::{
    float::{
        attention::wide::{TOP, Wide},
        lanes::max_of,
    },
    isa::{Block, Lanes, array},
    simd::x86_avx512::Zmm,
    x86,
};

/// Two bytes of `x` one after the other; the 128 that codes are too large by is taken off at the beginning. Products of
/// two bytes are at most 2^15 and there are at most 2^9 of them in a sum.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn wide_dots<const S: usize, const N: usize>(
    blocks: [&[Block]; S],
    x: &[Wide; N],
) -> [[Lanes<i32>; N]; S] {
    let len = blocks[0].len();
    assert!(len <= x[0].high.len() && blocks.iter().all(|blocks| blocks.len() == len));
    let first = |half: usize| array::<_, N>(|n| _mm512_set1_epi32(-128 * x[n].sums[half]));
    let (mut high, mut low) = ([first(0); S], [first(1); S]);
    for b in 0..len {
        let codes: [_; S] = array(|s| {
            // SAFETY: b < len, the length of all.
            let block = unsafe { blocks[s].get_unchecked(b) };
            x86::prefetch_ahead(block);
            load(block)
        });
        for n in 0..N {
            // SAFETY: b < len, which is at most the number of words.
            let word = |words: &[[i8; 4]]| bytemuck::must_cast::<_, i32>(unsafe { *words.get_unchecked(b) });
            let (h, l) = (_mm512_set1_epi32(word(&x[n].high)), _mm512_set1_epi32(word(&x[n].low)));
            for s in 0..S {
                high[s][n] = _mm512_dpbusd_epi32(high[s][n], codes[s], h);
                low[s][n] = _mm512_dpbusd_epi32(low[s][n], codes[s], l);
            }
        }
    }
    array(|s| array(|n| store(_mm512_add_epi32(_mm512_slli_epi32::<8>(high[s][n]), low[s][n]))))
}

/// [`Wide::set`]; `full` stays as it is, since nobody multiplies with it here.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn widen(x: &[f32], wide: &mut Wide) -> f32 {
    let (whole, tail) = x.as_chunks::<16>();
    let magnitude = |x| _mm512_abs_ps(x);
    let mut largest = _mm512_set1_ps(bitnet_quant::activations::MIN_AMAX);
    for x in whole {
        // The second operand is what remains where the first is not a number.
        largest = _mm512_max_ps(magnitude(load_floats(x)), largest);
    }
    largest = _mm512_max_ps(magnitude(load_tail(tail)), largest);
    let amax = _mm512_reduce_max_ps(largest);
    let factor = _mm512_set1_ps(TOP * (1.0 / amax));
    let mut sums = [_mm512_setzero_si512(); 2];
    let mut put = |x: __m512, high: &mut [i8; 16], low: &mut [i8; 16]| {
        let y = _mm512_mul_ps(x, factor);
        // Rounds to nearest, ties to even; what is not a number becomes 0.
        let y = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(y, y), y);
        let h = _mm512_srai_epi32::<8>(_mm512_add_epi32(y, _mm512_set1_epi32(128)));
        let l = _mm512_sub_epi32(y, _mm512_slli_epi32::<8>(h));
        sums = [_mm512_add_epi32(sums[0], h), _mm512_add_epi32(sums[1], l)];
        let (h, l) = (_mm512_cvtepi32_epi8(h), _mm512_cvtepi32_epi8(l));
        // SAFETY: 16 writable bytes behind each reference.
        unsafe { _mm_storeu_si128(high.as_mut_ptr().cast(), h) };
        // SAFETY: as above.
        unsafe { _mm_storeu_si128(low.as_mut_ptr().cast(), l) };
    };
    let high = wide.high.as_flattened_mut().as_chunks_mut().0;
    let mut halves = high.iter_mut().zip(wide.low.as_flattened_mut().as_chunks_mut().0);
    for (x, (high, low)) in whole.iter().zip(&mut halves) {
        put(load_floats(x), high, low);
    }
    if let (false, Some((high, low))) = (tail.is_empty(), halves.next()) {
        put(load_tail(tail), high, low);
    }
    wide.sums = sums.map(|sums| _mm512_reduce_add_epi32(sums));
    amax / TOP
}

/// [`crate::float::attention::soften`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn soften(x: &mut [f32]) -> [f32; 2] {
    let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
    let (whole, tail) = x.as_chunks::<16>();
    let mask = !(u16::MAX.checked_shl(tail.len() as u32).unwrap_or(0));
    let mut largest = nothing;
    for x in whole {
        largest = _mm512_max_ps(load_floats(x), largest);
    }
    largest = _mm512_mask_max_ps(largest, mask, load_tail(tail), largest);
    let mut max = _mm512_reduce_max_ps(largest);
    if max == 0.0 {
        // Which zero comes first decides over its sign.
        max = max_of(x, f32::NEG_INFINITY, |x| x);
    }
    let (first, mut sums) = (_mm512_set1_ps(max), _mm512_setzero_ps());
    let (whole, tail) = x.as_chunks_mut::<16>();
    for x in whole {
        let p = exp(_mm512_sub_ps(load_floats(x), first));
        sums = _mm512_add_ps(sums, p);
        // SAFETY: 64 writable bytes behind the reference.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), p) };
    }
    if !tail.is_empty() {
        let p = exp(_mm512_sub_ps(load_tail(tail), first));
        sums = _mm512_mask_add_ps(sums, mask, sums, p);
        // SAFETY: the mask has no more lanes than the tail has elements.
        unsafe { _mm512_mask_storeu_ps(tail.as_mut_ptr(), mask, p) };
    }
    [max, tree(sums)]
}

/// [`crate::float::exp::exp`] of sixteen.
#[target_feature(enable = "avx512f")]
#[inline]
fn exp(x: __m512) -> __m512 {
    let all = |x| _mm512_set1_ps(x);
    let round = all(12_582_912.0);
    // The second operand is what remains where it is not a number.
    let x = _mm512_max_ps(all(-110.0), _mm512_min_ps(all(90.0), x));
    let shifted = _mm512_add_ps(_mm512_mul_ps(x, all(std::f32::consts::LOG2_E)), round);
    let n = _mm512_sub_ps(shifted, round);
    let r = _mm512_sub_ps(x, _mm512_mul_ps(n, all(0.693_359_4)));
    let r = _mm512_sub_ps(r, _mm512_mul_ps(n, all(-2.121_944_4e-4)));
    let mut p = all(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = _mm512_add_ps(_mm512_mul_ps(p, r), all(coefficient));
    }
    let y = _mm512_add_ps(_mm512_add_ps(_mm512_mul_ps(p, _mm512_mul_ps(r, r)), r), all(1.0));
    let n = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(round));
    let half = _mm512_srai_epi32::<1>(n);
    let power = |k| _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(k, _mm512_set1_epi32(127))));
    _mm512_mul_ps(_mm512_mul_ps(y, power(half)), power(_mm512_sub_epi32(n, half)))
}

/// The sum of the lanes in the order of [`crate::float::lanes::tree`].
#[target_feature(enable = "avx512f")]
#[inline]
fn tree(sums: __m512) -> f32 {
    let sums = _mm512_add_ps(sums, _mm512_shuffle_f32x4::<0b0000_1110>(sums, sums));
    let sums = _mm512_add_ps(sums, _mm512_shuffle_f32x4::<1>(sums, sums));
    let sums = _mm512_castps512_ps128(sums);
    let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    _mm_cvtss_f32(_mm_add_ss(sums, _mm_shuffle_ps::<1>(sums, sums)))
}

/// The integers, rounded to floats.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn floats(x: &Lanes<i32>) -> Zmm {
    Zmm(_mm512_cvtepi32_ps(load_lanes(x)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_floats(x: &[f32; 16]) -> __m512 {
    super::load_floats(x)
}

/// Fewer than sixteen, then zeros.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_tail(x: &[f32]) -> __m512 {
    let mask = !(u16::MAX.checked_shl(x.len() as u32).unwrap_or(0));
    // SAFETY: the mask has no more lanes than `x` has elements.
    unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr()) }
}
