//! Rows of ggml's blocks (integers with scales of their own) times float vectors.
//!
//! A weight is the f32 that `bitnet-format` decodes, bit for bit: the same multiplications and additions, each rounded, in the same
//! order. Products are those of dense floats (see [`crate::float`]): the lanes add `weight * x`, so a product of blocks equals the
//! product of the rows it stands for. With one token, weights are made in registers and meet their activations there; for several, rows
//! are widened once ([`Widen`]) and multiplied as any floats.

use bitnet_core::threads::ColumnsMut;

use crate::{
    isa::{Block, Isa, Lanes, Op},
    simd::Floats,
};

mod codec;
pub(crate) mod of_256;
pub(crate) mod of_32;

use codec::{Codec, Sink};

/// Rows in one product of 16, whose sums go through one tree.
const ROWS: usize = 16;
/// Rows that are read side by side: as many chains of additions hide each other's latency.
const SIDE_BY_SIDE: usize = 4;

/// How ggml stores blocks of weights that stand for floats of any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "ggml's names; `bitnet_format::TensorType` says what they hold")]
pub enum BlockType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Iq4Nl,
    Mxfp4,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Xs,
}

impl BlockType {
    /// Every block type that has a kernel.
    pub const ALL: [Self; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Iq4Nl,
        Self::Mxfp4,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Xs,
    ];

    /// Weights of a block, and its bytes.
    pub const fn size(self) -> (usize, usize) {
        match self {
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Mxfp4 => (32, 17),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Iq4Xs => (256, 136),
        }
    }
}

/// A matrix of blocks, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// The block type, which all rows share.
    pub ty: BlockType,
    /// Weights of a row, whole blocks.
    pub cols: usize,
    /// The blocks of all rows, row-major, without padding.
    pub bytes: &'a [u8],
}

impl Blocks<'_> {
    /// Rows that the bytes have room for.
    pub fn rows(&self) -> usize {
        let (weights, size) = self.ty.size();
        self.bytes.len() / (self.cols / weights * size).max(1)
    }
}

/// Keeps the weights as f32, group by group.
struct Kept<'a, const GROUPS: usize>(&'a mut [Lanes<f32>; GROUPS]);

impl<I: Isa, const GROUPS: usize> Sink<I> for Kept<'_, GROUPS> {
    #[inline(always)]
    fn take(&mut self, _: I, group: usize, weights: I::Floats) {
        self.0[group] = weights.store();
    }
}

/// Adds `weight * x` to a sum in lanes, so that no decoded weight reaches memory.
struct Dot<'a, F, const GROUPS: usize> {
    sum: F,
    x: &'a [Lanes<f32>; GROUPS],
}

impl<I: Isa, const GROUPS: usize> Sink<I> for Dot<'_, I::Floats, GROUPS> {
    #[inline(always)]
    fn take(&mut self, isa: I, group: usize, weights: I::Floats) {
        self.sum = self.sum.add(weights.mul(isa.load(&self.x[group])));
    }
}

/// Decodes whole blocks to f32: `out[i]` is weight `i`.
pub(crate) struct Widen<'a, C> {
    pub(crate) codec: C,
    pub(crate) bytes: &'a [u8],
    pub(crate) out: &'a mut [f32],
}

/// Gives [`Op`] of both operations to a codec: an operation cannot be generic over the length of its arrays through a trait's constants.
macro_rules! operations {
    ($($codec:ty: $bytes:literal, $groups:literal;)*) => {$(
        impl Op for Widen<'_, $codec> {
            type Output = ();
            const FLOATS: bool = true;

            #[inline(always)]
            fn eval<I: Isa>(self, isa: I) {
                widen::<I, $codec, $bytes, $groups>(isa, self.codec, self.bytes, self.out);
            }
        }

        impl Op for BlockRows<'_, '_, $codec> {
            type Output = ();
            const FLOATS: bool = true;

            #[inline(always)]
            fn eval<I: Isa>(self, isa: I) {
                self.dots::<I, $bytes, $groups>(isa);
            }
        }
    )*};
}

operations! {
    of_32::Q4_0: 18, 2;
    of_32::Q4_1: 20, 2;
    of_32::Q5_0: 22, 2;
    of_32::Q5_1: 24, 2;
    of_32::Q8_0: 34, 2;
    of_32::Iq4Nl: 18, 2;
    of_32::Mxfp4: 17, 2;
    of_256::Q2K: 84, 16;
    of_256::Q3K: 110, 16;
    of_256::Q4K: 144, 16;
    of_256::Q5K: 176, 16;
    of_256::Q6K: 210, 16;
    of_256::Iq4Xs: 136, 16;
}

/// Runs `$run` with `$codec` standing for the codec of `$ty`.
macro_rules! with_codec {
    ($ty:expr, $codec:ident => $run:expr) => {{
        use $crate::blocks::{BlockType, of_32, of_256};
        match $ty {
            BlockType::Q4_0 => {
                let $codec = of_32::Q4_0;
                $run
            }
            BlockType::Q4_1 => {
                let $codec = of_32::Q4_1;
                $run
            }
            BlockType::Q5_0 => {
                let $codec = of_32::Q5_0;
                $run
            }
            BlockType::Q5_1 => {
                let $codec = of_32::Q5_1;
                $run
            }
            BlockType::Q8_0 => {
                let $codec = of_32::Q8_0;
                $run
            }
            BlockType::Iq4Nl => {
                let $codec = of_32::Iq4Nl;
                $run
            }
            BlockType::Mxfp4 => {
                let $codec = of_32::Mxfp4;
                $run
            }
            BlockType::Q2K => {
                let $codec = of_256::Q2K;
                $run
            }
            BlockType::Q3K => {
                let $codec = of_256::Q3K;
                $run
            }
            BlockType::Q4K => {
                let $codec = of_256::Q4K;
                $run
            }
            BlockType::Q5K => {
                let $codec = of_256::Q5K;
                $run
            }
            BlockType::Q6K => {
                let $codec = of_256::Q6K;
                $run
            }
            BlockType::Iq4Xs => {
                let $codec = of_256::Iq4Xs;
                $run
            }
        }
    }};
}
pub(crate) use with_codec;

#[inline(always)]
fn widen<I: Isa, C: Codec<BYTES, GROUPS>, const BYTES: usize, const GROUPS: usize>(
    isa: I,
    codec: C,
    bytes: &[u8],
    out: &mut [f32],
) {
    let outs = out.as_chunks_mut::<16>().0.as_chunks_mut::<GROUPS>().0;
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(outs) {
        codec.decode(isa, block, &mut Kept(out));
    }
}

/// Which rows of a matrix are multiplied.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    /// As many as the output has, from this row on.
    From(usize),
    /// The rows of these numbers, in this order.
    These(&'a [u32]),
}

impl Which<'_> {
    #[inline(always)]
    fn row(self, i: usize) -> usize {
        match self {
            Self::From(first) => first + i,
            Self::These(ids) => ids[i] as usize,
        }
    }
}

/// `out[i] = dot(row(i), x)` for one token.
pub(crate) struct BlockRows<'a, 'b, C> {
    pub(crate) codec: C,
    pub(crate) bytes: &'a [u8],
    pub(crate) which: Which<'a>,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl<C> BlockRows<'_, '_, C> {
    #[inline(always)]
    fn dots<I: Isa, const BYTES: usize, const GROUPS: usize>(self, isa: I)
    where
        C: Codec<BYTES, GROUPS>,
    {
        let x = self.x.as_chunks::<16>().0.as_chunks::<GROUPS>().0;
        let blocks = self.bytes.as_chunks::<BYTES>().0;
        let out = self.out.row(0);
        let last = out.len().saturating_sub(1);
        // Behind the last row it is multiplied again, which reads nothing new and is left out of the result.
        let row = |i: usize| &blocks[self.which.row(i.min(last)) * x.len()..][..x.len()];
        for (first, out) in (0..).step_by(ROWS).zip(out.chunks_mut(ROWS)) {
            let mut sums = [isa.splat(0.0); ROWS];
            let mut i = 0;
            while i < out.len() {
                let rows = [row(first + i), row(first + i + 1), row(first + i + 2), row(first + i + 3)];
                let ahead = match self.which {
                    Which::From(from) => {
                        lines_ahead(self.bytes, (from + first + i) * x.len() * BYTES, x.len() * BYTES)
                    }
                    Which::These(_) => &[],
                };
                let four = lanes_of::<I, C, BYTES, GROUPS>(isa, self.codec, rows, x, ahead);
                sums[i..i + SIDE_BY_SIDE].copy_from_slice(&four);
                i += SIDE_BY_SIDE;
            }
            let dots = I::Floats::sums(&sums).store();
            out.copy_from_slice(&dots[..out.len()]);
        }
    }
}

/// The cache lines of the rows behind those that begin at byte `at`, which are `row` bytes each.
#[inline(always)]
fn lines_ahead(bytes: &[u8], at: usize, row: usize) -> &[Block] {
    let lines = bytes.as_chunks::<64>().0;
    let (from, to) = ((at + SIDE_BY_SIDE * row) / 64, (at + 2 * SIDE_BY_SIDE * row) / 64);
    let end = to.min(lines.len());
    if from < end { &lines[from..end] } else { &[] }
}

/// The lanes of four rows times `x`, before they are added up. Meanwhile `ahead` is fetched, in its order: to the memory, rows side by
/// side are as many streams.
#[inline(always)]
fn lanes_of<I: Isa, C: Codec<BYTES, GROUPS>, const BYTES: usize, const GROUPS: usize>(
    isa: I,
    codec: C,
    rows: [&[[u8; BYTES]]; SIDE_BY_SIDE],
    x: &[[Lanes<f32>; GROUPS]],
    ahead: &[Block],
) -> [I::Floats; SIDE_BY_SIDE] {
    assert!(rows.iter().all(|row| row.len() == x.len()));
    let mut sums = [isa.splat(0.0); SIDE_BY_SIDE];
    for (i, x) in x.iter().enumerate() {
        // As many lines as are used, the odd ones early.
        let step = (SIDE_BY_SIDE * BYTES).div_ceil(size_of::<Block>());
        for line in 0..step {
            if let Some(block) = ahead.get(i * step + line) {
                isa.prefetch(block);
            }
        }
        for p in 0..SIDE_BY_SIDE {
            // SAFETY: all rows are as long as `x`. (With a way to panic inside the loop the sums are kept in memory.)
            let block = unsafe { rows[p].get_unchecked(i) };
            let mut sink = Dot { sum: sums[p], x };
            codec.decode(isa, block, &mut sink);
            sums[p] = sink.sum;
        }
    }
    sums
}
