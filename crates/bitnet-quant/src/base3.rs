//! Five trits to a byte: 1.6 bits a weight, for memory that is slower than the arithmetic of unpacking.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};

use crate::{PackedTernary, QuantError, StripScales};

/// Trits as "t3": base 3, five to a byte, in the strips of [`PackedTernary`].
///
/// A block of 64 bytes holds 16 rows by 20 columns. Byte `4 * r + c` is `sum(code(p) * 3^p)`, below 243, where `code(p)` is
/// trit + 1 of the strip's row `r`, column `20 * block + 4 * p + c`. So the four low digits unpack to one byte of a "t2" block
/// (a table of 81 entries), the highest is 0, 81 or 162, and masked planes meet 4-byte broadcasts of the activations as there.
///
/// Rows and columns past the end hold code 1. Groups of columns with scales of their own are not held.
#[derive(Debug)]
pub struct PackedBase3 {
    rows: usize,
    cols: usize,
    strips: Buffer<u8>,
    scales: StripScales,
}

/// Powers of 3: what a code of each plane counts.
const PLACES: [u8; 5] = [1, 3, 9, 27, 81];

impl PackedBase3 {
    /// Columns in a block of 64 bytes: five trits a byte, four bytes a row.
    pub const BLOCK_COLS: usize = 20;
    /// Bytes of a block, one AVX-512 register.
    pub const BLOCK_BYTES: usize = 64;

    /// The same matrix five trits to a byte, on all threads of `threads`.
    ///
    /// # Errors
    /// [`QuantError::Memory`] when the pool has no room.
    ///
    /// # Panics
    /// When scales are by group.
    pub fn new(
        packed: &PackedTernary,
        pool: &HybridMemoryPool,
        threads: &ThreadPool,
    ) -> Result<Self, QuantError> {
        assert!(packed.groups() == 1, "base 3 has one scale per row at most");
        let (rows, cols) = (packed.rows(), packed.cols());
        let strip_bytes = cols.div_ceil(Self::BLOCK_COLS) * Self::BLOCK_BYTES;
        let size = packed.strips().checked_mul(strip_bytes).ok_or(QuantError::Shape { rows, cols })?;
        let mut strips = pool
            .allocate::<u8>(Purpose::Weights, size)
            .map_err(|error| QuantError::Memory(error.to_string()))?;
        threads.for_each_chunk_mut(&mut strips, strip_bytes, |s, strip| {
            repack(packed.strip(s).as_chunks().0, strip.as_chunks_mut().0);
        });
        Ok(Self { rows, cols, strips, scales: packed.scales_by_strip().clone() })
    }

    /// Rows of the matrix, its outputs; padding is not counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, its inputs; padding is not counted.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Blocks in a strip of 16 rows, the last padded.
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(Self::BLOCK_COLS)
    }

    /// The bytes of all strips, one strip behind another.
    pub fn bytes(&self) -> &[u8] {
        &self.strips
    }

    /// The scales, in the order of strips.
    pub fn scales(&self) -> &StripScales {
        &self.scales
    }

    /// The weights of one row (trit times scale) into `out`, `out.len() == cols`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of [{}, {}]", self.rows, self.cols);
        let (strip, lane) = (row / PackedTernary::STRIP, row % PackedTernary::STRIP);
        let (blocks, _) = self.strips.as_chunks::<64>();
        let (blocks, scale) = (&blocks[strip * self.blocks()..], self.scales.of(row, 0));
        for (col, w) in out.iter_mut().enumerate() {
            let at = col % Self::BLOCK_COLS;
            let byte = blocks[col / Self::BLOCK_COLS][4 * lane + at % 4];
            *w = ((byte / PLACES[at / 4] % 3) as i8 - 1) as f32 * scale;
        }
    }
}

/// Groups of four columns, as they are in both layouts: a byte of each row and plane.
fn repack(from: &[[u8; 64]], to: &mut [[u8; 64]]) {
    for (b, block) in to.iter_mut().enumerate() {
        for (p, place) in PLACES.iter().enumerate() {
            let (source, plane) = ((5 * b + p) / 4, (5 * b + p) % 4);
            let source = from.get(source).unwrap_or(&[0x55; 64]);
            for (byte, source) in block.iter_mut().zip(source) {
                *byte += (source >> (2 * plane) & 3) * place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Scales, TernaryMatrix};

    /// Matrices have fewer columns than this: up to five blocks under Miri, which is slow.
    const END: usize = if cfg!(miri) { 100 } else { 200 };

    proptest! {
        #[test]
        fn five_trits_to_a_byte_are_the_same_matrix(rows in 1usize..50, cols in 1..END, seed in any::<u64>()) {
            let mut state = seed | 1;
            let mut random = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); state >> 40 };
            let trits: Vec<i8> = (0..rows * cols).map(|_| (random() % 3) as i8 - 1).collect();
            let scales = Scales::Row((0..rows).map(|r| r as f32 + 1.0).collect());
            let matrix = TernaryMatrix::from_trits(rows, cols, &trits, scales).unwrap();
            let (pool, threads) = (HybridMemoryPool::new(), ThreadPool::new(1));
            let packed = PackedTernary::pack(&matrix, &pool, &threads).unwrap();
            let base3 = PackedBase3::new(&packed, &pool, &threads).unwrap();
            prop_assert!(base3.bytes().iter().all(|&byte| byte < 243));
            let (mut got, mut want) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..rows {
                base3.row_to_f32(row, &mut got);
                matrix.row_to_f32(row, &mut want);
                prop_assert_eq!(&got, &want);
            }
        }
    }
}
