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
    float::{
        attention::wide::{self, Wide},
        soften::soften,
    },
    screen::ByteDots,
    simd::{Floats, bytes::Bytes},
    ternary::{
        STRIP,
        definitions::{self, Lines, MADE, TAKEN, four},
    },
};

pub(crate) use crate::block::{Block, Four, Lanes, Plane, Word, array, plane_word};

/// An instruction set. Holding a value proves that this CPU has it, since values can only be made inside
/// functions compiled for the set.
pub(crate) trait Isa: ByteDots {
    /// Sixteen floats in its registers.
    type Floats: Floats;
    /// Whether a register file holds more than twenty of [`Isa::Floats`], so that float tiles may be wide.
    const WIDE_FLOATS: bool;
    /// Strips in the widest tile of [`Isa::tile`]: 1, 2, or 4 (which is used with up to 4 tokens, 2 with more).
    const STRIPS: usize;
    /// Tokens in the widest tile of [`Isa::tile`].
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
        definitions::unpack_planes(blocks, planes);
    }

    /// Adds `sum(code * x)` over all planes and as many activations to the sums of `T` tokens. Called with `T <= PLANE_TOKENS`.
    #[inline(always)]
    fn plane_tile<const T: usize>(self, planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
        definitions::tile_of(planes, x, sums);
    }

    /// [`Isa::dot`] over blocks of `bitnet_quant::PackedBase3`; `x` are the activations, any number of whole or broken blocks.
    #[inline(always)]
    fn dot_base3(self, blocks: &[Block], x: &[i8]) -> Lanes<i32> {
        dot_base3(self, blocks, x)
    }

    /// Four blocks of `bitnet_quant::PackedBase3` as the five that [`Isa::dot`] takes.
    #[inline(always)]
    fn unpack_base3(self, blocks: [&Block; 4]) -> [Block; 5] {
        definitions::unpack_base3(blocks)
    }

    /// `((sums - x_sum) * step) * scales`, lane by lane. [`definitions::finish`] is the definition; a set may spell it in
    /// its own vectors where the compiler, having unrolled the tile around it, would not.
    #[inline(always)]
    fn finish(self, sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
        definitions::finish(sums, x_sum, step, scales)
    }

    /// Words across lines: word `r` of block `s` of the result is word `s` of `lines[r]`. With `TURN`, blocks are then
    /// turned by [`TernaryLines::turn`].
    #[inline(always)]
    fn transpose<const TURN: bool>(self, lines: [&Block; 16]) -> [Block; 16] {
        let blocks = definitions::transpose(lines);
        if TURN { blocks.map(|block| TernaryLines::turn(&block)) } else { blocks }
    }

    /// Writes `first + i` for every `x[i]` that is above 0 (or NaN) to the head of `ids`, which has room for all and 16 more.
    /// Returns how many they are.
    #[inline(always)]
    fn list_open(self, x: &[f32], first: u32, ids: &mut [u32]) -> usize {
        definitions::list(x, first, ids, |x| x > 0.0 || x.is_nan())
    }

    /// The same for every `x[i]` that is not 0.
    #[inline(always)]
    fn list_nonzero(self, x: &[i8], first: u32, ids: &mut [u32]) -> usize {
        definitions::list(x, first, ids, |x| x != 0)
    }

    /// Begins to fetch `block`, for use some time later. Only a hint.
    #[inline(always)]
    fn prefetch(self, _block: &Block) {}

    /// `sums[i] = sum(code * x)` over the line `ids[i]`, a row.
    #[inline(always)]
    fn line_dots(self, lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
        line_dots(self, lines, ids, x, sums);
    }

    /// `sum(codes[j] * code)` over the lines `j` (columns), for the elements of `blocks` of each line, 16 to a lane.
    /// Lines whose `codes[j]` is 0 are not read.
    #[inline(always)]
    fn line_sums(self, lines: Lines<'_>, codes: &[i8], blocks: Range<usize>, sums: &mut [Lanes<i32>]) {
        line_sums(self, lines, codes, blocks, sums);
    }

    /// `sum((code - 128) * x)` of the four bytes of each lane of all blocks and the words of each `x`, for `S` runs of as many
    /// blocks. Exact: the sums fit.
    #[inline(always)]
    fn wide_dots<const S: usize, const N: usize>(
        self,
        blocks: [&[Block]; S],
        x: &[Wide; N],
    ) -> [[Lanes<i32>; N]; S] {
        blocks.map(|blocks| wide::wide_dots(blocks, x))
    }

    /// [`Wide::set`], of the forms that [`Isa::wide_dots`] reads.
    #[inline(always)]
    fn widen(self, x: &[f32], wide: &mut Wide) -> f32 {
        wide.set(x)
    }

    /// `x` becomes `e^(x - max)`. Returns `max` and the sum of what `x` has become, in lane order.
    #[inline(always)]
    fn soften(self, x: &mut [f32]) -> [f32; 2] {
        soften(x)
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

    /// A register all of whose lanes are `x`.
    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self::Floats::splat(x) }
    }

    /// The sixteen floats in a register.
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

    /// The sixteen signed bytes, widened to floats without rounding.
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

    /// Decodes four-bit codes to floats: see [`Floats::nibbles`].
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

    /// The sixteen bytes in a register.
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 16]) -> <Self::Floats as Floats>::Bytes {
        // SAFETY: as in `splat`.
        unsafe { <Self::Floats as Floats>::Bytes::load(x) }
    }

    /// A register all of whose bytes are `x`.
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
    /// What the operation returns besides what it writes.
    type Output;
    /// Whether it has no integer products, in which alone AVX-VNNI differs from AVX2: such an operation is compiled once for both.
    const FLOATS: bool = false;

    /// Does it. Implementations are `#[inline(always)]`, as is everything hot that they call.
    fn eval<I: Isa>(self, isa: I) -> Self::Output;
}

/// Runs of [`TAKEN`] blocks that are unpacked before they are multiplied.
const BASE3_RUNS: usize = 4;

/// [`Isa::dot_base3`] for any instruction set.
#[inline(always)]
pub(crate) fn dot_base3<I: Isa>(isa: I, blocks: &[Block], x: &[i8]) -> Lanes<i32> {
    let mut sums = [0; STRIP];
    let columns = BASE3_RUNS * MADE * STRIP;
    for (blocks, x) in blocks.chunks(BASE3_RUNS * TAKEN).zip(x.chunks(columns)) {
        let mut made = [[0; 64]; BASE3_RUNS * MADE];
        for (taken, made) in blocks.chunks(TAKEN).zip(made.as_chunks_mut().0) {
            *made = isa.unpack_base3(four(taken));
        }
        let mut words: [Word; BASE3_RUNS * MADE] = [[0; 16]; BASE3_RUNS * MADE];
        words.as_flattened_mut()[..x.len()].copy_from_slice(x);
        let used = x.len().div_ceil(STRIP);
        let part = isa.dot(&made[..used], &words[..used]);
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// Rows or inputs that are looked at in one go, to list the live ones on the stack.
pub(crate) const LISTED: usize = 1024;

/// Words of live inputs that the generic product puts side by side before it multiplies.
const LIVE_WORDS: usize = 4;

/// Calls `work(lines, activations, following)` for every `N` of the inputs whose code is not 0; `following` are the next ones
/// as far as they are known, to be prefetched. The last call is filled up with activations of 0.
#[inline(always)]
pub(crate) fn for_each_live<I: Isa, const N: usize>(
    isa: I,
    codes: &[i8],
    mut work: impl FnMut([u32; N], [i8; N], &[u32]),
) {
    const { assert!(N <= LISTED / 2) };
    let mut ids = [0u32; LISTED + STRIP];
    let mut live = 0;
    let segment = LISTED - N;
    for (i, part) in codes.chunks(segment).enumerate() {
        live += isa.list_nonzero(part, (i * segment) as u32, &mut ids[live..]);
        let (groups, rest) = ids[..live].as_chunks::<N>();
        for (i, group) in groups.iter().enumerate() {
            work(*group, group.map(|id| codes[id as usize]), &ids[(i + 1) * N..live]);
        }
        let left = rest.len();
        ids.copy_within(live - left..live, 0);
        live = left;
    }
    if live > 0 {
        let group = std::array::from_fn(|i| ids[i.min(live - 1)]);
        let x = std::array::from_fn(|i| if i < live { codes[ids[i] as usize] } else { 0 });
        work(group, x, &[]);
    }
}

/// [`Isa::line_dots`] for any instruction set: 16 lines become a strip.
#[inline(always)]
pub(crate) fn line_dots<I: Isa>(isa: I, lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
    for (ids, sums) in ids.chunks(STRIP).zip(sums.chunks_mut(STRIP)) {
        let rows: [&[Block]; STRIP] = std::array::from_fn(|r| lines.line(ids[r.min(ids.len() - 1)]));
        let mut total = [0; STRIP];
        for (b, x) in x.chunks(STRIP).enumerate() {
            let strip = isa.transpose::<false>(std::array::from_fn(|r| &rows[r][b]));
            let part = isa.dot(&strip[..x.len()], x);
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
        sums.copy_from_slice(&total[..ids.len()]);
    }
}

/// [`Isa::line_sums`] for any instruction set: live columns become strips of columns side by side.
#[inline(always)]
pub(crate) fn line_sums<I: Isa>(
    isa: I,
    lines: Lines<'_>,
    codes: &[i8],
    blocks: Range<usize>,
    sums: &mut [Lanes<i32>],
) {
    sums.fill([0; STRIP]);
    for_each_live::<_, { LIVE_WORDS * STRIP }>(isa, codes, |ids, x, _| {
        let x = x.as_chunks::<STRIP>().0;
        for (b, sums) in blocks.clone().zip(sums.as_chunks_mut::<STRIP>().0) {
            let mut strips = [[[0; 64]; LIVE_WORDS]; STRIP];
            for (word, ids) in ids.as_chunks::<STRIP>().0.iter().enumerate() {
                let turned = isa.transpose::<true>(ids.each_ref().map(|&id| &lines.line(id)[b]));
                for (strip, block) in strips.iter_mut().zip(turned) {
                    strip[word] = block;
                }
            }
            for (strip, sums) in strips.iter().zip(sums) {
                let part = isa.dot(strip, x);
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
    });
}
