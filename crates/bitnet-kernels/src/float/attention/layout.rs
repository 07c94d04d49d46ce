//! How a chunk of keys and values lies in memory: keys first, then values.
//!
//! Keys lie in strips of 16 positions, one position per lane, so that scores need no sums across lanes. A strip is
//! `[rows, 16]`: one row per dimension, in the order in which [`super::score`] adds them up (all dimensions of a
//! float lane one behind another), so that a strip is read from its beginning to its end. Heads of a number of
//! dimensions that is not a multiple of 16 have rows that nobody reads.
//!
//! Values lie in blocks of [`COLUMNS`] dimensions, `[positions, dimensions]`: the columns whose sums fit in registers together
//! are one stream.

use half::f16;

use super::{int8, partial::CHUNK};
use crate::{
    float::dense::pad,
    isa::{Isa, Lanes, Op},
    simd::Floats,
};

/// Dimensions in a block of values.
pub(super) const COLUMNS: usize = 64;
/// Float lanes in the order in which the tree of `crate::float::lanes` takes them up, depth first. It is its own inverse.
pub(super) const ORDER: [usize; 16] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Elements of a chunk's keys, head dimensions padded to a multiple of 16.
const fn keys_len(head_dim: usize) -> usize {
    CHUNK * head_dim.next_multiple_of(16)
}

/// Elements of a chunk: keys, then values.
pub(crate) const fn chunk_len(head_dim: usize) -> usize {
    keys_len(head_dim) + CHUNK * head_dim
}

/// The part of a chunk that holds keys.
#[inline(always)]
pub(super) fn keys<E>(chunk: &[E], head_dim: usize) -> &[E] {
    &chunk[..keys_len(head_dim)]
}

/// The part of a chunk that holds values.
#[inline(always)]
pub(super) fn values<E>(chunk: &[E], head_dim: usize) -> &[E] {
    &chunk[keys_len(head_dim)..]
}

/// Puts `k` and `v` at `position` of a chunk.
#[inline(always)]
fn scatter<E: Copy>(
    chunk: &mut [E],
    position: usize,
    k: &[f32],
    v: &[f32],
    round: impl Fn(&Lanes<f32>) -> [E; 16],
) {
    let (head_dim, per_lane) = (k.len(), k.len().div_ceil(16));
    let (keys, values) = chunk.split_at_mut(keys_len(head_dim));
    let keys = &mut keys[position / 16 * 16 * 16 * per_lane + position % 16..];
    for (i, k) in k.chunks(16).enumerate() {
        let rounded = round(&pad(k));
        for (lane, &rounded) in rounded[..k.len()].iter().enumerate() {
            keys[16 * (ORDER[lane] * per_lane + i)] = rounded;
        }
    }
    let mut first = 0;
    for v in v.chunks(COLUMNS) {
        let row = &mut values[first + position * v.len()..][..v.len()];
        for (to, v) in row.chunks_mut(16).zip(v.chunks(16)) {
            to.copy_from_slice(&round(&pad(v))[..v.len()]);
        }
        first += CHUNK * v.len();
    }
}

/// A chunk to be written, see [`super::KvChunk`].
#[derive(Debug)]
pub enum KvChunkMut<'a> {
    /// A chunk of binary32; positions are stored as they are.
    F32(&'a mut [f32]),
    /// A chunk of binary16; positions are rounded, ties to even.
    F16(&'a mut [f16]),
    /// A chunk of int8; each position gets a step for its key and one for its value.
    Int8 {
        /// The int8 codes plus 128, keys before values.
        codes: &'a mut [u8],
        /// One step per position: those of the keys, then those of the values.
        steps: &'a mut [f32],
    },
}

/// Puts one position's key and value into a chunk, rounded to its type.
pub(crate) struct Store<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) position: usize,
    pub(crate) chunk: KvChunkMut<'a>,
}

impl Op for Store<'_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { k, v, position, chunk } = self;
        match chunk {
            KvChunkMut::Int8 { codes, steps } => int8::store(codes, steps, position, k, v),
            KvChunkMut::F32(chunk) => scatter(chunk, position, k, v, |x| *x),
            KvChunkMut::F16(chunk) => {
                scatter(chunk, position, k, v, |x| isa.load(x).to_f16().map(f16::from_bits))
            }
        }
    }
}
