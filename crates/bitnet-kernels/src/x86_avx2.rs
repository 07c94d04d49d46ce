//! AVX2: a block is two registers of eight rows. `vpmaddubsw` adds pairs of products in i16, `vpmaddwd` with
//! ones adds pairs of those in i32.
//!
//! Why no i16 saturates, activations being at least -128 and at most 127, codes at most 2:
//! a pair of products is in [-2 * 128 * v, 2 * 127 * v] where v is the largest masked code.
//! [`dot`] keeps v at 2 and 8 (planes 2 and 3 are shifted down by four bits first) and adds planes 0 + 2 (v = 2)
//! and 1 + 3 (v = 8) in i16: one block adds at most [-4096, 4064] to the latter, so eight blocks stay within
//! [-32768, 32512]. [`tile`] shifts all planes down to v = 2 and adds four per block, [-2048, 2032], so sixteen
//! blocks stay within the same bounds. [`plane_tile`] adds one pair per plane, [-512, 508], so 64 planes do.
//!
//! Many tokens go by way of byte planes. Sums that begin at minus the sum of the lane's activations hold trits times activations and could run
//! over 504 columns instead of 256 before they are widened; widening takes some 2 % of the time, and making those beginnings as much, so
//! sums here hold codes times activations. What bounds the tile is that every product needs an addition: both share
//! the multiplier's ports. On Emerald Rapids (2026-11-26) alternating `vpmaddubsw` and `vpaddw` in registers reach 1.42 products a
//! cycle, 71 % of `vpmaddubsw` alone; the tile in the first-level cache reaches 69.9 %, all of a product of 128 tokens that stays in
//! the second-level cache 64.5 %. Activations copied to where a run's lie side by side: 61 to 63 %. On Zen 4 (2026-11-27) registers allow 82 %, the tile in the
//! first-level cache reaches 81 %, a product of 128 tokens 71 %: widening, unpacking, fetching outputs and waiting for the second-level
//! cache each cost 2 to 3 %. Runs of 256, 384, 1024 and 1280 columns, groups of 4 strips and 128 tokens: the same or slower.

use std::arch::x86_64::*;

use crate::{
    float::attention::wide::Wide,
    isa::{Block, Four, Isa, Lanes, Op, Plane, Word, array, plane_word},
    x86,
};

/// Proof that this CPU has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Whether this CPU (and its operating system) has what [`run`] enables.
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

/// Compiles `op` for this instruction set.
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    op.eval(Avx2(()))
}

impl Isa for Avx2 {
    type Floats = crate::simd::x86_avx2::Ymm;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 1;
    const TOKENS: usize = 4;
    const PLANE_TOKENS: usize = 6;
    const PLANES_FROM: usize = 8;

    #[inline(always)]
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        // SAFETY: `self` is only made in `run`, which the table calls after `supported`.
        unsafe { dot(blocks, x) }
    }

    #[inline(always)]
    fn wide_dots<const S: usize, const N: usize>(
        self,
        blocks: [&[Block]; S],
        x: &[Wide; N],
    ) -> [[Lanes<i32>; N]; S] {
        // SAFETY: as in `dot`.
        blocks.map(|blocks| unsafe { wide_dots(blocks, x) })
    }

    #[inline(always)]
    fn call<O: Op>(self, part: O) -> O::Output {
        // SAFETY: as in `dot`.
        unsafe { run(part) }
    }

    #[inline(always)]
    fn prefetch_line<T>(self, address: *const T) {
        x86::prefetch(address);
    }

    #[inline(always)]
    fn tile<const S: usize, const T: usize>(
        self,
        strips: [&[Block]; S],
        x: [&[Word]; T],
        out: &mut [[Lanes<i32>; T]; S],
    ) {
        // SAFETY: as in `dot`.
        unsafe { tile(strips, x, out) }
    }

    #[inline(always)]
    fn plane_tile<const T: usize>(self, planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
        // SAFETY: as in `dot`.
        unsafe { plane_tile(planes, x, sums) }
    }

    #[inline(always)]
    fn transpose<const TURN: bool>(self, lines: [&Block; 16]) -> [Block; 16] {
        x86::transpose::<TURN>(lines)
    }

    #[inline(always)]
    fn prefetch(self, block: &Block) {
        x86::prefetch_far(block);
    }

    #[inline(always)]
    fn prefetch_write(self, row: &mut [f32]) {
        x86::prefetch_write(row);
    }

    #[inline(always)]
    fn multiply(self, rounds: u64) -> (u64, i32) {
        // SAFETY: as in `dot`.
        unsafe { multiply(rounds) }
    }
}

/// Blocks whose i16 sums fit, see the module's head.
const DOT_BLOCKS: usize = 8;
const TILE_BLOCKS: usize = 16;

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn dot(blocks: &[Block], x: &[Word]) -> Lanes<i32> {
    let low = _mm256_set1_epi8(0x03);
    let high = _mm256_set1_epi8(0x0c);
    let ones = _mm256_set1_epi16(1);
    // [eight rows] of planes 0 and 2, and of planes 1 and 3 (four times too large).
    let mut small = [_mm256_setzero_si256(); 2];
    let mut large = [_mm256_setzero_si256(); 2];
    for (blocks, x) in blocks.chunks(DOT_BLOCKS).zip(x.chunks(DOT_BLOCKS)) {
        let mut small16 = [_mm256_setzero_si256(); 2];
        let mut large16 = [_mm256_setzero_si256(); 2];
        for (block, x) in blocks.iter().zip(x) {
            x86::prefetch_ahead(block);
            let words: [_; 4] = array(|p| _mm256_set1_epi32(plane_word(x, p)));
            for h in 0..2 {
                let w = load(block, h);
                let shifted = _mm256_srli_epi16::<4>(w);
                let plane0 = _mm256_maddubs_epi16(_mm256_and_si256(w, low), words[0]);
                let plane1 = _mm256_maddubs_epi16(_mm256_and_si256(w, high), words[1]);
                let plane2 = _mm256_maddubs_epi16(_mm256_and_si256(shifted, low), words[2]);
                let plane3 = _mm256_maddubs_epi16(_mm256_and_si256(shifted, high), words[3]);
                small16[h] = _mm256_add_epi16(small16[h], _mm256_add_epi16(plane0, plane2));
                large16[h] = _mm256_add_epi16(large16[h], _mm256_add_epi16(plane1, plane3));
            }
        }
        for h in 0..2 {
            small[h] = _mm256_add_epi32(small[h], _mm256_madd_epi16(small16[h], ones));
            large[h] = _mm256_add_epi32(large[h], _mm256_madd_epi16(large16[h], ones));
        }
    }
    let mut out = [0; 16];
    for h in 0..2 {
        store(&mut out, h, _mm256_add_epi32(small[h], _mm256_srai_epi32::<2>(large[h])));
    }
    out
}

/// A few tokens, for which it does not pay to unpack planes. Eight rows at a time: the tokens' i16 sums, 4 planes and a
/// broadcast fit in the 16 registers.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn tile<const S: usize, const T: usize>(
    strips: [&[Block]; S],
    x: [&[Word]; T],
    out: &mut [[Lanes<i32>; T]; S],
) {
    for (strip, out) in strips.iter().zip(out) {
        *out = [[0; 16]; T];
        for h in 0..2 {
            let mut first = 0;
            while first < strip.len() {
                let last = (first + TILE_BLOCKS).min(strip.len());
                let sums = half_tile::<T>(&strip[first..last], h, array(|t| &x[t][first..last]));
                for (out, sum) in out.iter_mut().zip(sums) {
                    let total = _mm256_add_epi32(load_sums(out, h), sum);
                    store(out, h, total);
                }
                first = last;
            }
        }
    }
}

/// i32 sums of eight rows over at most [`TILE_BLOCKS`] blocks.
#[target_feature(enable = "avx2,f16c")]
#[inline(never)]
fn half_tile<const T: usize>(strip: &[Block], h: usize, x: [&[Word]; T]) -> [__m256i; T] {
    assert!(x.iter().all(|x| x.len() == strip.len()));
    let low = _mm256_set1_epi8(3);
    let mut acc = [_mm256_setzero_si256(); T];
    for (b, block) in strip.iter().enumerate() {
        let w = load(block, h);
        let planes = [
            _mm256_and_si256(w, low),
            _mm256_and_si256(_mm256_srli_epi16::<2>(w), low),
            _mm256_and_si256(_mm256_srli_epi16::<4>(w), low),
            _mm256_and_si256(_mm256_srli_epi16::<6>(w), low),
        ];
        for t in 0..T {
            // SAFETY: b < strip.len(), the length of every token's words.
            let x = unsafe { x[t].get_unchecked(b) };
            for (p, &plane) in planes.iter().enumerate() {
                let word = _mm256_set1_epi32(plane_word(x, p));
                acc[t] = _mm256_add_epi16(acc[t], _mm256_maddubs_epi16(plane, word));
            }
        }
    }
    for a in &mut acc {
        *a = _mm256_madd_epi16(*a, _mm256_set1_epi16(1));
    }
    acc
}

/// Planes whose i16 sums fit: a plane adds two products to each i16, at most [-512, 508], so 64 stay within [-32768, 32512].
const TILE_PLANES: usize = 64;

/// 16 rows times `T` tokens, at most 6: 12 sums, the plane's two halves, a broadcast and a product are the 16 registers.
#[target_feature(enable = "avx2,f16c")]
#[inline(never)]
fn plane_tile<const T: usize>(planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
    assert!(x.iter().all(|x| x.len() == planes.len()));
    let starts: [_; T] = array(|t| x[t].as_ptr());
    let mut first = 0;
    while first < planes.len() {
        let last = (first + TILE_PLANES).min(planes.len());
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        for (g, plane) in planes[..last].iter().enumerate().skip(first) {
            let w = [load(plane, 0), load(plane, 1)];
            for t in 0..T {
                // SAFETY: g < planes.len(), the length of every token's activations.
                unsafe { add_products(&mut acc[t], w, starts[t], g) };
            }
        }
        let ones = _mm256_set1_epi16(1);
        for t in 0..T {
            for (h, &sum) in acc[t].iter().enumerate() {
                let total = _mm256_add_epi32(load_sums(&sums[t], h), _mm256_madd_epi16(sum, ones));
                store(&mut sums[t], h, total);
            }
        }
        first = last;
    }
}

/// Adds the products of a plane with the activations `x[g]`. In assembly, since the compiler would broadcast six tokens' activations at
/// once, for which there are no registers.
///
/// # Safety
/// `x[g]` is readable.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn add_products(acc: &mut [__m256i; 2], w: [__m256i; 2], x: *const Four, g: usize) {
    // SAFETY: reads four bytes at `x[g]`, by the caller's promise; writes the named registers.
    unsafe {
        std::arch::asm!(
            "vpbroadcastd {x4}, dword ptr [{x} + 4 * {g}]",
            "vpmaddubsw {product}, {w0}, {x4}",
            "vpmaddubsw {x4}, {w1}, {x4}",
            "vpaddw {acc0}, {acc0}, {product}",
            "vpaddw {acc1}, {acc1}, {x4}",
            x = in(reg) x,
            g = in(reg) g,
            w0 = in(ymm_reg) w[0],
            w1 = in(ymm_reg) w[1],
            acc0 = inout(ymm_reg) acc[0],
            acc1 = inout(ymm_reg) acc[1],
            x4 = out(ymm_reg) _,
            product = out(ymm_reg) _,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
}

/// The codes of rows `8 * h .. 8 * h + 8` of a block, 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn load(block: &Block, h: usize) -> __m256i {
    let half = &block.as_chunks::<32>().0[h];
    // SAFETY: 32 readable bytes behind the reference; unaligned loads are allowed.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_sums(lanes: &Lanes<i32>, h: usize) -> __m256i {
    let half = &lanes.as_chunks::<8>().0[h];
    // SAFETY: 32 readable bytes behind the reference.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn store(lanes: &mut Lanes<i32>, h: usize, sums: __m256i) {
    let half = &mut lanes.as_chunks_mut::<8>().0[h];
    // SAFETY: 32 writable bytes behind the reference.
    unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), sums) };
}

/// 16-bit products of pairs go straight into i32: nothing can saturate. A lane's two halves are added at the end.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(crate) fn wide_dots<const N: usize>(blocks: &[Block], x: &[Wide; N]) -> [Lanes<i32>; N] {
    assert!(blocks.len() <= x[0].full.len());
    let bias = _mm256_set1_epi16(128);
    let mut out = [[0; 16]; N];
    for (out, x) in out.iter_mut().zip(x) {
        let mut acc = [_mm256_setzero_si256(); 4];
        for (block, word) in blocks.iter().zip(&x.full) {
            x86::prefetch_ahead(block);
            let word = _mm256_set1_epi64x(i64::from_ne_bytes(bytemuck::must_cast(*word)));
            for (acc, quarter) in acc.iter_mut().zip(block.as_chunks::<16>().0) {
                // SAFETY: 16 readable bytes behind the reference.
                let codes = unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) };
                let codes = _mm256_sub_epi16(_mm256_cvtepu8_epi16(codes), bias);
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(codes, word));
            }
        }
        for h in 0..2 {
            // Lanes 0, 1, 4, 5, 2, 3, 6, 7 of the half.
            let sums = _mm256_hadd_epi32(acc[2 * h], acc[2 * h + 1]);
            store(out, h, _mm256_permute4x64_epi64::<0xd8>(sums));
        }
    }
    out
}

/// Twelve independent chains of products. (The additions of a real product go to other units.)
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn multiply(rounds: u64) -> (u64, i32) {
    const CHAINS: usize = 12;
    let x = _mm256_set1_epi8(3);
    let mut acc = [_mm256_set1_epi8(2); CHAINS];
    for _ in 0..rounds {
        for a in &mut acc {
            *a = _mm256_maddubs_epi16(*a, x);
        }
    }
    let mut sum = acc[0];
    for &a in &acc[1..] {
        sum = _mm256_add_epi16(sum, a);
    }
    (32 * CHAINS as u64 * rounds, _mm256_extract_epi32::<0>(sum))
}
