//! What operations of [`Isa`](crate::isa::Isa) return, in plain loops. They are the bodies of its methods where a set has no better
//! one, and name no set themselves.

use bitnet_quant::TernaryLines;

use super::strips::STRIP;
use crate::block::{Block, Four, Lanes, Plane};

/// Planes of four columns in a block of 16.
pub(super) const PLANES: usize = 4;

/// The definition of [`Isa::unpack`](crate::isa::Isa::unpack).
#[inline(always)]
pub(crate) fn unpack_planes(blocks: &[Block], planes: &mut [Plane]) {
    for (block, planes) in blocks.iter().zip(planes.as_chunks_mut::<PLANES>().0) {
        for (p, plane) in planes.iter_mut().enumerate() {
            for (code, byte) in plane.iter_mut().zip(block) {
                *code = byte >> (2 * p) & 3;
            }
        }
    }
}

/// The definition of [`Isa::plane_tile`](crate::isa::Isa::plane_tile).
#[inline(always)]
pub(crate) fn tile_of<const T: usize>(planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
    for (x, sums) in x.iter().zip(sums) {
        for (plane, x) in planes.iter().zip(*x) {
            for (row, sum) in sums.iter_mut().enumerate() {
                for (&code, &x) in plane[4 * row..].iter().zip(x) {
                    *sum += i32::from(code) * i32::from(x);
                }
            }
        }
    }
}

/// Blocks in base 3 that are unpacked together: as many columns as [`MADE`] blocks have.
pub(crate) const TAKEN: usize = 4;

/// Blocks of two bits a trit that [`TAKEN`] blocks in base 3 become.
pub(crate) const MADE: usize = 5;

/// The definition of [`Isa::unpack_base3`](crate::isa::Isa::unpack_base3): groups of four columns follow one another in both layouts, five to a block in one
/// and four in the other.
#[inline(always)]
pub(crate) fn unpack_base3(blocks: [&Block; TAKEN]) -> [Block; MADE] {
    let (mut low, mut high) = ([[0u8; 64]; TAKEN], [[0u8; 64]; TAKEN]);
    for i in 0..TAKEN {
        for j in 0..64 {
            low[i][j] = digits(blocks[i][j]).0;
        }
        for j in 0..64 {
            high[i][j] = digits(blocks[i][j]).1;
        }
    }
    let mut made = [low[0], [0; 64], [0; 64], [0; 64], [0; 64]];
    for j in 0..64 {
        made[1][j] = high[0][j] | low[1][j] << 2;
        made[2][j] = low[1][j] >> 6 | high[1][j] << 2 | low[2][j] << 4;
        made[3][j] = low[2][j] >> 4 | high[2][j] << 4 | low[3][j] << 6;
        made[4][j] = low[3][j] >> 2 | high[3][j] << 6;
    }
    made
}

/// The four low digits, two bits each, and the highest. Comparisons, which every set has as vectors.
#[inline(always)]
pub(crate) const fn digits(byte: u8) -> (u8, u8) {
    let mut rest = byte;
    let high = (rest >= 81) as u8 + (rest >= 162) as u8;
    rest = rest.wrapping_sub(81 * high);
    let third = (rest >= 27) as u8 + (rest >= 54) as u8;
    rest = rest.wrapping_sub(27 * third);
    let second = (rest >= 9) as u8 + (rest >= 18) as u8;
    rest = rest.wrapping_sub(9 * second);
    let first = (rest >= 3) as u8 + (rest >= 6) as u8;
    rest = rest.wrapping_sub(3 * first);
    (rest | first << 2 | second << 4 | third << 6, high)
}

/// `((sums - x_sum) * step) * scales`, lane by lane: the definition of [`Isa::finish`](crate::isa::Isa::finish), where scales are applied.
#[inline(always)]
pub(crate) fn finish(sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
    let mut y = [0.0; STRIP];
    for r in 0..STRIP {
        y[r] = ((sums[r] - x_sum) as f32 * step) * scales[r];
    }
    y
}

/// A matrix of lines (rows or columns) as blocks that kernels read.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub(super) blocks: &'a [Block],
    /// Blocks of 64 bytes in a line.
    pub(super) len: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn of(matrix: &'a TernaryLines) -> Self {
        Self { blocks: matrix.bytes().as_chunks().0, len: matrix.line_blocks() }
    }

    /// The blocks of line `i`, counted from 0.
    #[inline(always)]
    pub(crate) fn line(&self, i: u32) -> &'a [Block] {
        &self.blocks[i as usize * self.len..][..self.len]
    }

    /// How many lines there are: rows or columns, by the matrix's axis.
    pub(super) fn count(&self) -> usize {
        self.blocks.len() / self.len
    }
}

/// The definition of `Isa::list_open` and `Isa::list_nonzero`.
#[inline(always)]
pub(crate) fn list<T: Copy>(x: &[T], first: u32, ids: &mut [u32], wanted: impl Fn(T) -> bool) -> usize {
    let mut count = 0;
    for (number, &x) in (first..).zip(x) {
        ids[count] = number;
        count += usize::from(wanted(x));
    }
    count
}

/// The definition of `Isa::transpose`, without turning.
#[inline(always)]
pub(crate) fn transpose(rows: [&Block; STRIP]) -> [Block; STRIP] {
    let mut out = [[0; 64]; STRIP];
    for (r, row) in rows.iter().enumerate() {
        for (out, word) in out.iter_mut().zip(row.as_chunks::<4>().0) {
            out.as_chunks_mut::<4>().0[r] = *word;
        }
    }
    out
}

/// A block in base 3 whose trits are all 0: 121 is `11111` in base 3.
static NO_TRITS: Block = [121; 64];

/// Up to four blocks; those that are missing are blocks of zeros.
#[inline(always)]
pub(crate) fn four(blocks: &[Block]) -> [&Block; TAKEN] {
    std::array::from_fn(|i| blocks.get(i).unwrap_or(&NO_TRITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_digits() {
        for code in 0..243u8 {
            let (low, high) = digits(code);
            let digit = |p: u32| code / 3u8.pow(p) % 3;
            assert_eq!((low, high), (digit(0) | digit(1) << 2 | digit(2) << 4 | digit(3) << 6, digit(4)));
        }
    }
}
