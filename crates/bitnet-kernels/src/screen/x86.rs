//! The x86-64 sets. With VNNI the two byte planes of the hidden vector are multiplied in place (`vpdpbusd` wraps, it does not
//! saturate); without it bytes are widened and multiplied with the 16-bit codes, whose pairs fit: 2 * 255 * 32,512 < 2^31.

use std::arch::x86_64::*;

use super::{ByteDots, Query};
use crate::{
    isa::{Block, Lanes},
    x86::prefetch_ahead,
    x86_avx2::{self, Avx2},
    x86_avx512vnni::Avx512Vnni,
    x86_avxvnni::AvxVnni,
    x86_sse41::Sse41,
};

impl ByteDots for Avx512Vnni {
    const QUERIES: usize = 8;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: a value exists only where the instruction set does.
        unsafe { avx512vnni(blocks, x) }
    }
}

impl ByteDots for AvxVnni {
    const QUERIES: usize = 2;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: as above.
        unsafe { avxvnni(blocks, x) }
    }
}

impl ByteDots for Avx2 {
    const QUERIES: usize = 2;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: as above.
        unsafe { avx2(blocks, x) }
    }
}

impl ByteDots for Sse41 {
    const QUERIES: usize = 1;

    #[inline(always)]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        // SAFETY: as above.
        x.map(|x| unsafe { sse41(blocks, x) })
    }
}

/// The word of plane `p`, as `vpdpbusd` takes it.
#[inline(always)]
fn word(planes: &[i8; 8], p: usize) -> i32 {
    let plane = &planes.as_chunks::<4>().0[p];
    i32::from_le_bytes([plane[0] as u8, plane[1] as u8, plane[2] as u8, plane[3] as u8])
}

/// A block is one register; a vector has two sums (of either plane), for even and odd blocks where it is alone.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn avx512vnni<const T: usize>(blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
    assert!(x.iter().all(|x| x.planes.len() == blocks.len()));
    // One register would wait for its own last sum; several vectors fill that time themselves.
    let mut even = [[_mm512_setzero_si512(); 2]; T];
    let mut odd = even;
    let mut b = 0;
    while b + 2 <= blocks.len() {
        avx512vnni_block(&mut even, blocks, &x, b);
        avx512vnni_block(if T == 1 { &mut odd } else { &mut even }, blocks, &x, b + 1);
        b += 2;
    }
    if b < blocks.len() {
        avx512vnni_block(&mut even, blocks, &x, b);
    }
    let mut out = [[0; 16]; T];
    for t in 0..T {
        let [high, low] = [0, 1].map(|p| _mm512_add_epi32(even[t][p], odd[t][p]));
        let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
        let sum = _mm512_add_epi32(sum, _mm512_set1_epi32(x[t].correction()));
        // SAFETY: 64 writable bytes behind the reference.
        unsafe { _mm512_storeu_si512(out[t].as_mut_ptr().cast(), sum) };
    }
    out
}

/// Adds block `b`, of which there is one, to both planes' sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn avx512vnni_block<const T: usize>(
    acc: &mut [[__m512i; 2]; T],
    blocks: &[Block],
    x: &[Query<'_>; T],
    b: usize,
) {
    debug_assert!(b < blocks.len());
    // SAFETY: the caller counts blocks, and every vector has as many planes.
    let block = unsafe { blocks.get_unchecked(b) };
    prefetch_ahead(block);
    // SAFETY: 64 readable bytes behind the reference.
    let w = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    for t in 0..T {
        // SAFETY: as for the block.
        let planes = unsafe { x[t].planes.get_unchecked(b) };
        for (p, acc) in acc[t].iter_mut().enumerate() {
            *acc = _mm512_dpbusd_epi32(*acc, w, _mm512_set1_epi32(word(planes, p)));
        }
    }
}

#[target_feature(enable = "avx2,f16c,avxvnni")]
#[inline]
fn avxvnni<const T: usize>(blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
    assert!(x.iter().all(|x| x.planes.len() == blocks.len()));
    let mut high = [[_mm256_setzero_si256(); 2]; T];
    let mut low = high;
    for (b, block) in blocks.iter().enumerate() {
        prefetch_ahead(block);
        let w = [x86_avx2::load(block, 0), x86_avx2::load(block, 1)];
        for t in 0..T {
            // SAFETY: b < blocks.len(), the length of every vector's planes.
            let planes = unsafe { x[t].planes.get_unchecked(b) };
            let [h, l] = [0, 1].map(|p| _mm256_set1_epi32(word(planes, p)));
            for half in 0..2 {
                high[t][half] = _mm256_dpbusd_avx_epi32(high[t][half], w[half], h);
                low[t][half] = _mm256_dpbusd_avx_epi32(low[t][half], w[half], l);
            }
        }
    }
    let mut out = [[0; 16]; T];
    for t in 0..T {
        for half in 0..2 {
            let sum = _mm256_add_epi32(_mm256_slli_epi32::<8>(high[t][half]), low[t][half]);
            let sum = _mm256_add_epi32(sum, _mm256_set1_epi32(x[t].correction()));
            x86_avx2::store(&mut out[t], half, sum);
        }
    }
    out
}

/// Four rows of four columns become 16-bit; each row has two sums, of two columns each.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn avx2<const T: usize>(blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
    assert!(x.iter().all(|x| x.wide.len() == blocks.len()));
    let mut acc = [[_mm256_setzero_si256(); 4]; T];
    for (b, block) in blocks.iter().enumerate() {
        prefetch_ahead(block);
        let mut codes = [_mm256_setzero_si256(); T];
        for t in 0..T {
            // SAFETY: b < blocks.len(), the length of every vector's codes.
            codes[t] = _mm256_set1_epi64x(quad(unsafe { x[t].wide.get_unchecked(b) }));
        }
        for (q, rows) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: 16 readable bytes behind the reference.
            let w = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(rows.as_ptr().cast()) });
            for t in 0..T {
                acc[t][q] = _mm256_add_epi32(acc[t][q], _mm256_madd_epi16(w, codes[t]));
            }
        }
    }
    let mut out = [[0; 16]; T];
    for t in 0..T {
        let correction = _mm256_set1_epi32(x[t].correction());
        for half in 0..2 {
            // Rows 0, 1, 4, 5 and 2, 3, 6, 7: pairs are put in order.
            let pairs = _mm256_hadd_epi32(acc[t][2 * half], acc[t][2 * half + 1]);
            let rows = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            x86_avx2::store(&mut out[t], half, _mm256_add_epi32(rows, correction));
        }
    }
    out
}

/// As with AVX2, two rows in a register.
#[target_feature(enable = "sse4.1,ssse3")]
#[inline]
fn sse41(blocks: &[Block], x: Query<'_>) -> Lanes<i32> {
    let mut acc = [_mm_setzero_si128(); 8];
    for (block, x) in blocks.iter().zip(x.wide) {
        prefetch_ahead(block);
        let codes = _mm_set1_epi64x(quad(x));
        for (q, rows) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: 16 readable bytes behind the reference.
            let w = unsafe { _mm_loadu_si128(rows.as_ptr().cast()) };
            let (first, second) = (_mm_cvtepu8_epi16(w), _mm_unpackhi_epi8(w, _mm_setzero_si128()));
            acc[2 * q] = _mm_add_epi32(acc[2 * q], _mm_madd_epi16(first, codes));
            acc[2 * q + 1] = _mm_add_epi32(acc[2 * q + 1], _mm_madd_epi16(second, codes));
        }
    }
    let mut out = [0; 16];
    for (rows, acc) in out.as_chunks_mut::<4>().0.iter_mut().zip(acc.as_chunks::<2>().0) {
        let sums = _mm_add_epi32(_mm_hadd_epi32(acc[0], acc[1]), _mm_set1_epi32(x.correction()));
        // SAFETY: 16 writable bytes behind the reference.
        unsafe { _mm_storeu_si128(rows.as_mut_ptr().cast(), sums) };
    }
    out
}

/// Four 16-bit codes as one 64-bit word, to be broadcast.
#[inline(always)]
fn quad(x: &[i16; 4]) -> i64 {
    let [a, b, c, d] = x.map(|x| x as u16 as u64);
    (a | b << 16 | c << 32 | d << 48) as i64
}
