//! Base 3 by table: the bytes of a register are looked up in 128 entries at once (`vpermi2b` of AVX-512 VBMI).
//!
//! Two conditional subtractions of 81 (the smaller of `v` and `v - 81`, which wraps to a large number when there is nothing to
//! subtract) leave the four low digits; the table gives them as a byte of two bits a digit. What was subtracted is 81 times the
//! highest digit and is multiplied as it stands: its sum is a multiple of 81, divided exactly at the end. One block adds
//! at most 4 * 162 * 128 to it, so it has room for 2^31 / 82944 blocks, of 20 columns, in each of the two sets of sums:
//! a million columns, and `bitnet-quant` takes half of that.

use std::arch::x86_64::*;

use super::registers::{bytes, load, store};
use crate::{
    isa::{Block, Lanes},
    ternary::definitions::digits,
    x86,
};

/// Columns of a block in base 3.
const COLUMNS: usize = bitnet_quant::PackedBase3::BLOCK_COLS;

/// Low digits of the numbers below 81.
static DIGITS: [Block; 2] = {
    let mut table = [[0; 64]; 2];
    let mut code = 0;
    while code < 81 {
        table[code / 64][code % 64] = digits(code as u8).0;
        code += 1;
    }
    table
};

/// The inverse of 81 modulo 2^32: multiplying with it divides multiples of 81 exactly.
const INVERSE: i32 = inverse(81) as i32;

const fn inverse(odd: u32) -> u32 {
    // Newton's iteration doubles the number of right bits, three to begin with.
    let mut x = odd;
    let mut round = 0;
    while round < 4 {
        x = x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    x
}

/// Whether this CPU has the table look-up.
#[inline(always)]
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx512vbmi")
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,f16c")]
#[inline]
pub(super) fn dot(blocks: &[Block], x: &[i8]) -> Lanes<i32> {
    assert!(blocks.len() == x.len().div_ceil(COLUMNS));
    let mut even = [_mm512_setzero_si512(); 5];
    let mut odd = even;
    let (whole, broken) = x.as_chunks::<COLUMNS>();
    let (pairs, last) = whole.as_chunks::<2>();
    for (block, x) in blocks.as_chunks::<2>().0.iter().zip(pairs) {
        step(&mut even, &block[0], &x[0]);
        step(&mut odd, &block[1], &x[1]);
    }
    // What is left: a whole block, a broken one, or both.
    let mut padded = [0; COLUMNS];
    padded[..broken.len()].copy_from_slice(broken);
    let rest = last.iter().chain((!broken.is_empty()).then_some(&padded));
    for (block, x) in blocks[2 * pairs.len()..].iter().zip(rest) {
        step(&mut even, block, x);
    }
    let plane = |p: usize| _mm512_add_epi32(even[p], odd[p]);
    let low = _mm512_add_epi32(plane(0), _mm512_srai_epi32::<2>(plane(1)));
    let middle = _mm512_add_epi32(_mm512_srai_epi32::<4>(plane(2)), _mm512_srai_epi32::<6>(plane(3)));
    let divided = |x| _mm512_mullo_epi32(x, _mm512_set1_epi32(INVERSE));
    let high = _mm512_add_epi32(divided(even[4]), divided(odd[4]));
    store(_mm512_add_epi32(_mm512_add_epi32(low, middle), high))
}

/// One block into sums of its own planes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,f16c")]
#[inline]
fn step(acc: &mut [__m512i; 5], block: &Block, x: &[i8; COLUMNS]) {
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|m| _mm512_set1_epi8(m as i8));
    x86::prefetch_ahead(block);
    let (codes, high) = split(block);
    let words = x.as_chunks::<4>().0;
    let word = |p: usize| _mm512_set1_epi32(bytemuck::must_cast(words[p]));
    for p in 0..4 {
        acc[p] = _mm512_dpbusd_epi32(acc[p], _mm512_and_si512(codes, masks[p]), word(p));
    }
    acc[4] = _mm512_dpbusd_epi32(acc[4], high, word(4));
}

/// The four low digits, two bits each, and 81 times the highest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,f16c")]
#[inline]
fn split(block: &Block) -> (__m512i, __m512i) {
    let table = [load(&DIGITS[0]), load(&DIGITS[1])];
    let place = _mm512_set1_epi8(81);
    let v = load(block);
    let once = _mm512_min_epu8(v, _mm512_sub_epi8(v, place));
    let rest = _mm512_min_epu8(once, _mm512_sub_epi8(once, place));
    (_mm512_permutex2var_epi8(table[0], rest, table[1]), _mm512_sub_epi8(v, rest))
}

/// [`crate::ternary::base3::unpack`]. The two low bits of 81 and of 162 are the digits 1 and 2.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,f16c")]
#[inline]
pub(super) fn unpack(blocks: [&Block; 4]) -> [Block; 5] {
    let mask = |m: u8| _mm512_set1_epi8(m as i8);
    let and = |v, m: u8| _mm512_and_si512(v, mask(m));
    let or = |a, b| _mm512_or_si512(a, b);
    let [(l0, h0), (l1, h1), (l2, h2), (l3, h3)] = blocks.map(|block| split(block));
    let [h0, h1, h2, h3] = [h0, h1, h2, h3].map(|h| and(h, 3));
    let third = or(_mm512_slli_epi16::<2>(h1), and(_mm512_slli_epi16::<4>(l2), 0xf0));
    let fourth = or(_mm512_slli_epi16::<4>(h2), and(_mm512_slli_epi16::<6>(l3), 0xc0));
    [
        l0,
        or(h0, and(_mm512_slli_epi16::<2>(l1), 0xfc)),
        or(and(_mm512_srli_epi16::<6>(l1), 0x03), third),
        or(and(_mm512_srli_epi16::<4>(l2), 0x0f), fourth),
        or(and(_mm512_srli_epi16::<2>(l3), 0x3f), _mm512_slli_epi16::<6>(h3)),
    ]
    .map(|block| bytes(block))
}
