//! Rows and columns that are read alone: no lane has a row of its own here, so activations (for rows) or columns (for
//! columns) are interleaved instead.

use std::{arch::x86_64::*, ops::Range};

use super::registers::{Avx512Vnni, bytes, load, load_floats, store};
use crate::{
    isa::{Block, Lanes, Word, array, for_each_live, plane_word},
    ternary::definitions::Lines,
    x86,
};

/// Blocks of a row that are multiplied in one go: their activations, spread over lanes, take 4 KB.
const SPREAD: usize = 16;
/// Rows that share the loads of spread activations.
const ROWS: usize = 4;
/// Columns that share the loads and stores of sums.
const COLUMNS: usize = 8;
/// Blocks of columns whose sums are kept: 16 KB. `ternary::lines` asks for no more at once.
const SUMMED: usize = 16;
/// Bytes of lines that are asked for ahead of their use.
const AHEAD: usize = 5 << 10;

/// [`crate::isa::Isa::transpose`] in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn transpose<const TURN: bool>(rows: [&Block; 16]) -> [Block; 16] {
    let zero = _mm512_setzero_si512();
    let (mut pairs, mut quads) = ([zero; 16], [zero; 16]);
    for i in 0..8 {
        let (a, b) = (load(rows[2 * i]), load(rows[2 * i + 1]));
        pairs[2 * i] = _mm512_unpacklo_epi32(a, b);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    for g in 0..4 {
        for h in 0..2 {
            let (a, b) = (pairs[4 * g + h], pairs[4 * g + h + 2]);
            quads[4 * g + 2 * h] = _mm512_unpacklo_epi64(a, b);
            quads[4 * g + 2 * h + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    // Lane q of quads[4g + k] is word 4q + k of rows 4g .. 4g + 4: what is left is a transposition of whole lanes.
    let mut out = [[0; 64]; 16];
    let finished = |v| bytes(if TURN { turn(v) } else { v });
    for k in 0..4 {
        let (a, b) = (quads[k], quads[4 + k]);
        let (c, d) = (quads[8 + k], quads[12 + k]);
        let even = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[k] = finished(_mm512_shuffle_i32x4::<0x88>(even.0, even.1));
        out[4 + k] = finished(_mm512_shuffle_i32x4::<0x88>(odd.0, odd.1));
        out[8 + k] = finished(_mm512_shuffle_i32x4::<0xdd>(even.0, even.1));
        out[12 + k] = finished(_mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1));
    }
    out
}

/// Swaps lanes with planes, bit by bit of their numbers, then the two halves of the byte's number.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn turn(v: __m512i) -> __m512i {
    let lanes = |x: [i32; 4]| {
        let [a, b, c, d] = x;
        _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d)
    };
    let splat = |x: u8| i32::from_ne_bytes([x; 4]);
    // Where the mask is set, take the other operand.
    let choose = |mask, taken, kept| _mm512_ternarylogic_epi32::<0xca>(mask, taken, kept);
    let near = _mm512_rolv_epi32(_mm512_shuffle_i64x2::<0xb1>(v, v), lanes([2, 30, 2, 30]));
    let v = choose(lanes([0xcc, 0x33, 0xcc, 0x33].map(splat)), near, v);
    let far = _mm512_rolv_epi32(_mm512_shuffle_i64x2::<0x4e>(v, v), lanes([4, 4, 28, 28]));
    let v = choose(lanes([0xf0, 0xf0, 0x0f, 0x0f].map(splat)), far, v);
    let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order))
}

/// Sixteen numbers at a time, the wanted ones moved together.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn list<T>(x: &[T], first: u32, ids: &mut [u32], test: impl Fn(&[T]) -> __mmask16) -> usize {
    let mut numbers = _mm512_add_epi32(
        _mm512_set1_epi32(first as i32),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    );
    let mut count = 0;
    for x in x.chunks(16) {
        let wanted = test(x);
        let room = &mut ids[count..count + 16];
        let packed = _mm512_maskz_compress_epi32(wanted, numbers);
        // SAFETY: 64 writable bytes behind the reference.
        unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), packed) };
        count += wanted.count_ones() as usize;
        numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(16));
    }
    count
}

/// [`crate::isa::Isa::list_open`]: numbers of the elements above 0 or NaN.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn list_open(x: &[f32], first: u32, ids: &mut [u32]) -> usize {
    list(x, first, ids, |x| {
        let lanes = x
            .first_chunk()
            .copied()
            .unwrap_or_else(|| std::array::from_fn(|i| x.get(i).copied().unwrap_or(0.0)));
        _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(load_floats(&lanes), _mm512_setzero_ps())
    })
}

/// [`crate::isa::Isa::list_nonzero`]: numbers of the elements that are not 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn list_nonzero(x: &[i8], first: u32, ids: &mut [u32]) -> usize {
    list(x, first, ids, |x| {
        let lanes: [i8; 16] = x
            .first_chunk()
            .copied()
            .unwrap_or_else(|| std::array::from_fn(|i| x.get(i).copied().unwrap_or(0)));
        // SAFETY: 16 readable bytes behind the reference.
        let v = unsafe { _mm_loadu_si128(lanes.as_ptr().cast()) };
        _mm_test_epi8_mask(v, v)
    })
}

/// A lane holds 16 columns of one row; plane p of it meets the activations of columns `16 * lane + 4 * p ..`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn dots(lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
    sums.fill(0);
    let mut spread = [[_mm512_setzero_si512(); 4]; SPREAD];
    for (segment, x) in x.chunks(16 * SPREAD).enumerate() {
        for (spread, x) in spread.iter_mut().zip(x.chunks(16)) {
            for (p, spread) in spread.iter_mut().enumerate() {
                let mut lanes = [0; 16];
                lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane = plane_word(x, p));
                *spread = super::load_lanes(&lanes);
            }
        }
        let spread = &spread[..x.len().div_ceil(16)];
        let part = |id: u32| &lines.line(id)[segment * SPREAD..][..spread.len()];
        let distance = AHEAD / (64 * ROWS * spread.len()) * ROWS + ROWS;
        for (i, sums) in sums.chunks_mut(ROWS).enumerate() {
            let pick = |at: usize| std::array::from_fn(|r| part(ids[(at + r).min(ids.len() - 1)]));
            let at = i * ROWS;
            let total = row_dots(pick(at), pick(at + distance), spread);
            sums.iter_mut().zip(total).for_each(|(sum, total)| *sum += total);
        }
    }
}

/// [`ROWS`] rows at once; `ahead` are the rows to prefetch.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn row_dots(rows: [&[Block]; ROWS], ahead: [&[Block]; ROWS], x: &[[__m512i; 4]]) -> [i32; ROWS] {
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|m| _mm512_set1_epi8(m as i8));
    assert!(rows.iter().chain(&ahead).all(|row| row.len() == x.len()));
    let mut acc = [[_mm512_setzero_si512(); 4]; ROWS];
    for (b, x) in x.iter().enumerate() {
        for r in 0..ROWS {
            // SAFETY: b < x.len(), the length of every row.
            x86::prefetch(unsafe { ahead[r].get_unchecked(b) });
            // SAFETY: as above.
            let w = load(unsafe { rows[r].get_unchecked(b) });
            for p in 0..4 {
                acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], _mm512_and_si512(w, masks[p]), x[p]);
            }
        }
    }
    let [a, b, c, d] = acc.map(|acc| planes(acc));
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (ab, cd) = (pair(a, b), pair(c, d));
    let four = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let lanes = store(four);
    std::array::from_fn(|r| (0..4).map(|lane| lanes[4 * lane + r]).sum())
}

/// The sum of four planes, each shifted back to where its codes belong.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn planes(acc: [__m512i; 4]) -> __m512i {
    let low = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<2>(acc[1]));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(acc[2]), _mm512_srai_epi32::<6>(acc[3]));
    _mm512_add_epi32(low, high)
}

/// Four columns' bytes are interleaved, so that a lane holds one row's codes in all four, ready for one broadcast of their
/// activations. Sums stay in memory (the first-level cache); eight columns share each load and store of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn sums(lines: Lines<'_>, codes: &[i8], blocks: Range<usize>, sums: &mut [Lanes<i32>]) {
    assert!(blocks.len() <= SUMMED);
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|m| _mm512_set1_epi8(m as i8));
    let mut acc = [[[_mm512_setzero_si512(); 4]; 4]; SUMMED];
    let acc = &mut acc[..blocks.len()];
    let distance = AHEAD / (64 * COLUMNS * blocks.len()) * COLUMNS;
    for_each_live::<_, COLUMNS>(Avx512Vnni(()), codes, |ids, x, following| {
        let part = |id: u32| &lines.line(id)[blocks.clone()];
        let columns = ids.map(part);
        let ahead: [&[Block]; COLUMNS] =
            std::array::from_fn(|i| part(following.get(distance + i).copied().unwrap_or(ids[i])));
        let [low, high] = [0, 4].map(|i| _mm512_set1_epi32(i32::from_le_bytes(array(|j| x[i + j] as u8))));
        for (b, acc) in acc.iter_mut().enumerate() {
            let column = |i: usize| {
                // SAFETY: b < blocks.len(), the length of every part.
                x86::prefetch(unsafe { ahead[i].get_unchecked(b) });
                // SAFETY: as above.
                load(unsafe { columns[i].get_unchecked(b) })
            };
            let first = interleave([column(0), column(1), column(2), column(3)]);
            let second = interleave([column(4), column(5), column(6), column(7)]);
            for k in 0..4 {
                for p in 0..4 {
                    let sum = _mm512_dpbusd_epi32(acc[k][p], _mm512_and_si512(first[k], masks[p]), low);
                    acc[k][p] = _mm512_dpbusd_epi32(sum, _mm512_and_si512(second[k], masks[p]), high);
                }
            }
        }
    });
    // Lane 4q + c of acc[k][p] is row 16 * (4q + k) + 4p + c of the block.
    for (acc, sums) in acc.iter().zip(sums.as_chunks_mut::<16>().0) {
        for (k, acc) in acc.iter().enumerate() {
            let shifted = [
                store(acc[0]),
                store(_mm512_srai_epi32::<2>(acc[1])),
                store(_mm512_srai_epi32::<4>(acc[2])),
                store(_mm512_srai_epi32::<6>(acc[3])),
            ];
            for (p, lanes) in shifted.iter().enumerate() {
                for (q, four) in lanes.as_chunks::<4>().0.iter().enumerate() {
                    sums[4 * q + k].as_chunks_mut::<4>().0[p] = *four;
                }
            }
        }
    }
}

/// Byte `i` of lane `l` of result `k` is byte `16 * (l / 4) + 4 * k + l % 4` of vector `i`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn interleave(w: [__m512i; 4]) -> [__m512i; 4] {
    let (low01, high01) = (_mm512_unpacklo_epi8(w[0], w[1]), _mm512_unpackhi_epi8(w[0], w[1]));
    let (low23, high23) = (_mm512_unpacklo_epi8(w[2], w[3]), _mm512_unpackhi_epi8(w[2], w[3]));
    [
        _mm512_unpacklo_epi16(low01, low23),
        _mm512_unpackhi_epi16(low01, low23),
        _mm512_unpacklo_epi16(high01, high23),
        _mm512_unpackhi_epi16(high01, high23),
    ]
}
