//! What an instruction set brings, and how a generic operation is compiled for it.
//!
//! An operation is a value that implements [`Op`]; its `eval` is generic over [`Isa`] and always inlined. Each
//! instruction set has one `#[target_feature]` function `run`, so the same body is compiled once per set and
//! the compiler may use that set's vectors for the fixed 16-lane loops. Floats are only ever added, multiplied
//! and divided in an order that the source fixes (Rust never contracts to fused operations), so every
//! compilation gives the same bits.

use std::ops::Range;

use bitnet_quant::TernaryLines;

use crate::{
    float::attention::{
        self,
        int8::{self, Wide},
    },
    screen::ByteDots,
    simd::{Floats, bytes::Bytes},
    ternary::{
        base3,
        lines::{self, Lines},
        planes::{self, Four, Plane},
    },
};

/// One 64-byte block of a strip: 16 rows by 16 columns, see `bitnet_quant::PackedTernary`.
pub(crate) type Block = [u8; 64];
/// The activations of the 16 columns of one block.
pub(crate) type Word = [i8; 16];
/// One value per row of a strip.
pub(crate) type Lanes<T> = [T; 16];

/// An instruction set. Holding a value proves that this CPU has it, since values can only be made inside
/// functions compiled for the set.
pub(crate) trait Isa: ByteDots {
    /// Sixteen floats in its registers.
    type Floats: Floats;
    /// Whether a register file holds more than twenty of [`Isa::Floats`], so that float tiles may be wide.
    const WIDE_FLOATS: bool;
    /// Strips in the widest tile of [`Isa::tile`]: 1, 2, or 4 (which is used with up to 4 tokens, 2 with more).
    const STRIPS: usize;
    /// Tokens in the widest tile.
    const TOKENS: usize;

    /// Tokens in the widest tile of [`Isa::plane_tile`] or 0 where [`Isa::tile`] is always as fast.
    const PLANE_TOKENS: usize = 0;
    /// Fewest tokens for which unpacking planes pays.
    const PLANES_FROM: usize = usize::MAX;

    /// `sum(code * x)` per row of a strip, over `blocks.len()` blocks and as many words of activations.
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32>;

    /// The same for `S` strips times `T` tokens: `out[s][t] = dot(strips[s], x[t])`.
    /// All slices have one length. Called with `S <= STRIPS`, `T <= TOKENS`.
    fn tile<const S: usize, const T: usize>(
        self,
        strips: [&[Block]; S],
        x: [&[Word]; T],
        out: &mut [[Lanes<i32>; T]; S],
    );

    /// The codes of `blocks` as planes, four to a block: plane `4 * b + p` has columns `16 * b + 4 * p ..`.
    #[inline(always)]
    fn unpack(self, blocks: &[Block], planes: &mut [Plane]) {
        planes::unpack(blocks, planes);
    }

    /// Adds `sum(code * x)` over all planes and as many activations to the sums of `T` tokens. Called with `T <= PLANE_TOKENS`.
    #[inline(always)]
    fn plane_tile<const T: usize>(self, planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
        planes::tile_of(planes, x, sums);
    }

    /// [`Isa::dot`] over blocks of `bitnet_quant::PackedBase3`; `x` are the activations, any number of whole or broken blocks.
    #[inline(always)]
    fn dot_base3(self, blocks: &[Block], x: &[i8]) -> Lanes<i32> {
        base3::dot(self, blocks, x)
    }

    /// Four blocks of `bitnet_quant::PackedBase3` as the five that [`Isa::dot`] takes.
    #[inline(always)]
    fn unpack_base3(self, blocks: [&Block; 4]) -> [Block; 5] {
        base3::unpack(blocks)
    }

    /// `((sums - x_sum) * step) * scales`, lane by lane. [`crate::ternary::finish`] is the definition; a set may spell it in
    /// its own vectors where the compiler, having unrolled the tile around it, would not.
    #[inline(always)]
    fn finish(self, sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
        crate::ternary::finish(sums, x_sum, step, scales)
    }

    /// Words across lines: word `r` of block `s` of the result is word `s` of `lines[r]`. With `TURN`, blocks are then
    /// turned by [`TernaryLines::turn`].
    #[inline(always)]
    fn transpose<const TURN: bool>(self, lines: [&Block; 16]) -> [Block; 16] {
        let blocks = lines::transpose(lines);
        if TURN { blocks.map(|block| TernaryLines::turn(&block)) } else { blocks }
    }

    /// Writes `first + i` for every `x[i]` that is above 0 (or NaN) to the head of `ids`, which has room for all and 16 more.
    /// Returns how many they are.
    #[inline(always)]
    fn list_open(self, x: &[f32], first: u32, ids: &mut [u32]) -> usize {
        lines::list(x, first, ids, |x| x > 0.0 || x.is_nan())
    }

    /// The same for every `x[i]` that is not 0.
    #[inline(always)]
    fn list_nonzero(self, x: &[i8], first: u32, ids: &mut [u32]) -> usize {
        lines::list(x, first, ids, |x| x != 0)
    }

    /// Begins to fetch `block`, for use some time later. Only a hint.
    #[inline(always)]
    fn prefetch(self, _block: &Block) {}

    /// `sums[i] = sum(code * x)` over the line `ids[i]`, a row.
    #[inline(always)]
    fn line_dots(self, lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
        lines::dots(self, lines, ids, x, sums);
    }

    /// `sum(codes[j] * code)` over the lines `j` (columns), for the elements of `blocks` of each line, 16 to a lane.
    /// Lines whose `codes[j]` is 0 are not read.
    #[inline(always)]
    fn line_sums(self, lines: Lines<'_>, codes: &[i8], blocks: Range<usize>, sums: &mut [Lanes<i32>]) {
        lines::sums(self, lines, codes, blocks, sums);
    }

    /// `sum((code - 128) * x)` of the four bytes of each lane of all blocks and the words of each `x`, for `S` runs of as many
    /// blocks. Exact: the sums fit.
    #[inline(always)]
    fn wide_dots<const S: usize, const N: usize>(
        self,
        blocks: [&[Block]; S],
        x: &[Wide; N],
    ) -> [[Lanes<i32>; N]; S] {
        blocks.map(|blocks| int8::wide_dots(blocks, x))
    }

    /// [`Wide::set`], of the forms that [`Isa::wide_dots`] reads.
    #[inline(always)]
    fn widen(self, x: &[f32], wide: &mut Wide) -> f32 {
        wide.set(x)
    }

    /// `x` becomes `e^(x - max)`. Returns `max` and the sum of what `x` has become, in lane order.
    #[inline(always)]
    fn soften(self, x: &mut [f32]) -> [f32; 2] {
        attention::soften(x)
    }

    /// The integers, rounded to floats.
    #[inline(always)]
    fn floats(self, x: &Lanes<i32>) -> Self::Floats {
        self.load(&x.map(|x| x as f32))
    }

    /// Runs a part of an operation as a function of its own, which is compiled once for all its callers.
    fn call<O: Op>(self, part: O) -> O::Output;

    /// Begins to fetch the cache line at `address`. Only a hint.
    #[inline(always)]
    fn prefetch_line<T>(self, _address: *const T) {}

    /// Begins to fetch the cache lines of `row`, which is about to be overwritten. Only a hint.
    #[inline(always)]
    fn prefetch_write(self, _row: &mut [f32]) {}

    /// Reads every block with as little work as this set's `dot` could possibly do: the yardstick for streaming.
    #[inline(always)]
    fn read(self, blocks: &[Block]) -> Lanes<i32> {
        let mut sums = [0i32; 16];
        for block in blocks {
            for (sum, word) in sums.iter_mut().zip(block.as_chunks::<4>().0) {
                *sum = sum.wrapping_add(i32::from_le_bytes(*word));
            }
        }
        sums
    }

    /// Multiplies registers with themselves `rounds` times, without touching memory: the yardstick for products.
    /// Returns how many products were added, and a sum that keeps the loop alive.
    fn multiply(self, rounds: u64) -> (u64, i32);

    /// All lanes `x`.
    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self::Floats::splat(x) }
    }

    /// The sixteen values.
    #[inline(always)]
    fn load(self, x: &Lanes<f32>) -> Self::Floats {
        // SAFETY: as in `splat`.
        unsafe { Self::Floats::load(x) }
    }

    /// The sixteen binary16 values, widened.
    #[inline(always)]
    fn load_f16(self, x: &[u16; 16]) -> Self::Floats {
        // SAFETY: as in `splat`.
        unsafe { Self::Floats::load_f16(x) }
    }

    /// The sixteen bfloat16 values, widened.
    #[inline(always)]
    fn load_bf16(self, x: &[u16; 16]) -> Self::Floats {
        // SAFETY: as in `splat`.
        unsafe { Self::Floats::load_bf16(x) }
    }

    /// The sixteen integers, widened.
    #[inline(always)]
    fn load_i8(self, x: &[i8; 16]) -> Self::Floats {
        Self::Floats::of_integers(self.load_bytes(bytemuck::must_cast_ref(x)))
    }

    /// All lanes the binary16 value with those bits.
    #[inline(always)]
    fn splat_f16(self, x: u16) -> Self::Floats {
        // SAFETY: as in `splat`.
        unsafe { Self::Floats::splat_f16(x) }
    }

    /// See [`Floats::nibbles`].
    #[inline(always)]
    fn nibbles<const HIGH: bool>(
        self,
        codes: &[u8; 16],
        levels: &[i8; 16],
        scale: Self::Floats,
        offset: Option<Self::Floats>,
    ) -> Self::Floats {
        // SAFETY: as in `splat`.
        unsafe { Self::Floats::nibbles::<HIGH>(codes, levels, scale, offset) }
    }

    /// The sixteen bytes.
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 16]) -> <Self::Floats as Floats>::Bytes {
        // SAFETY: as in `splat`.
        unsafe { <Self::Floats as Floats>::Bytes::load(x) }
    }

    /// All bytes `x`.
    #[inline(always)]
    fn splat_byte(self, x: u8) -> <Self::Floats as Floats>::Bytes {
        // SAFETY: as in `splat`.
        unsafe { <Self::Floats as Floats>::Bytes::splat(x) }
    }

    /// All bits of byte `i` are bit `i` of `x`.
    #[inline(always)]
    fn spread_bits(self, x: u16) -> <Self::Floats as Floats>::Bytes {
        // SAFETY: as in `splat`.
        unsafe { <Self::Floats as Floats>::Bytes::bits(x) }
    }
}

/// An operation written once for all instruction sets.
pub(crate) trait Op {
    /// What it returns.
    type Output;
    /// Whether it has no integer products, in which alone AVX-VNNI differs from AVX2: such an operation is compiled once for both.
    const FLOATS: bool = false;

    /// Does it. Implementations are `#[inline(always)]`, as is everything hot that they call.
    fn eval<I: Isa>(self, isa: I) -> Self::Output;
}

/// The four activation bytes that plane `p` of a block meets, as one little-endian word.
#[inline(always)]
pub(crate) fn plane_word(x: &Word, p: usize) -> i32 {
    i32::from_le_bytes([x[4 * p] as u8, x[4 * p + 1] as u8, x[4 * p + 2] as u8, x[4 * p + 3] as u8])
}

/// The activations of four columns as one little-endian word.
#[inline(always)]
pub(crate) fn four_word(x: &Four) -> i32 {
    let [a, b, c, d] = *x;
    i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
}

/// `[of(0), of(1), ..]`. In hot code instead of `std::array::from_fn` and `map`: those may become functions of their own, which are
/// compiled without the instruction set of the code around them. `N` is at least 1.
#[inline(always)]
pub(crate) fn array<T: Copy, const N: usize>(of: impl Fn(usize) -> T) -> [T; N] {
    let mut all = [of(0); N];
    let mut i = 1;
    while i < N {
        all[i] = of(i);
        i += 1;
    }
    all
}
