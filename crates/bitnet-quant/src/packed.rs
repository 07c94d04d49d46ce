//! The layout that kernels stream: 16 rows by 16 columns in one 64-byte block.

use bitnet_core::{HybridMemoryPool, Purpose, SharedBytes, ThreadPool};

use crate::{
    Granularity, QuantError, Scales, StripScales, TernaryMatrix, strip_scales::STRIP,
    ternary::first_code_three,
};

/// Trits as "t2": two bits each, 16 rows interleaved, one sequential stream.
///
/// Rows are taken in strips of [`PackedTernary::STRIP`]. A strip is one block of 64 bytes for every 16 columns, one
/// block after another. Byte `4 * r + c` of a block holds four codes (trit + 1) of the strip's row `r`: bits
/// `2p..2p + 2` are column `16 * block + 4 * p + c`. So one 64-byte load has a 32-bit lane per row, and masking
/// plane `p` leaves four consecutive columns of all 16 rows, ready to be multiplied with one 4-byte broadcast
/// of the activations. Several row streams read side by side measured a third of the bandwidth of one
/// interleaved stream, hence this order.
///
/// Rows and columns past the end hold code 1; padded activations are 0, so they add nothing.
#[derive(Clone, Debug)]
pub struct PackedTernary {
    rows: usize,
    cols: usize,
    strips: SharedBytes,
    scales: StripScales,
}

impl PackedTernary {
    /// Rows in a strip: the 32-bit lanes of a 64-byte vector.
    pub const STRIP: usize = STRIP;
    /// Columns in a block: four codes a byte, four bytes a row.
    pub const BLOCK_COLS: usize = 16;
    /// Bytes of a block, one AVX-512 register.
    pub const BLOCK_BYTES: usize = 64;

    /// Packs a matrix, on all threads of `threads`.
    ///
    /// # Errors
    /// [`QuantError::Memory`] when the pool has no room.
    pub fn pack(
        matrix: &TernaryMatrix,
        pool: &HybridMemoryPool,
        threads: &ThreadPool,
    ) -> Result<Self, QuantError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let bytes = Self::byte_len(rows, cols).ok_or(QuantError::Shape { rows, cols })?;
        let mut strips = pool
            .allocate::<u8>(Purpose::Weights, bytes)
            .map_err(|error| QuantError::Memory(error.to_string()))?;
        let strip_bytes = cols.div_ceil(Self::BLOCK_COLS) * Self::BLOCK_BYTES;
        threads.for_each_chunk_mut(&mut strips, strip_bytes, |s, strip| pack_strip(matrix, s, strip));
        Self::from_strips(rows, cols, strips.into(), matrix.scales().clone())
    }

    /// Takes strips that are packed already (a mapped file's).
    ///
    /// # Errors
    /// When sizes disagree with the shape or a scale is not finite. Codes of 3 are not looked for here: a
    /// reader of foreign bytes calls [`PackedTernary::check`].
    pub fn from_strips(
        rows: usize,
        cols: usize,
        strips: SharedBytes,
        scales: Scales,
    ) -> Result<Self, QuantError> {
        let scales = StripScales::new(scales, rows, cols)?;
        let expected = Self::byte_len(rows, cols).ok_or(QuantError::Shape { rows, cols })?;
        if strips.len() != expected {
            return Err(QuantError::Size { what: "strips", rows, cols, expected, got: strips.len() });
        }
        Ok(Self { rows, cols, strips, scales })
    }

    /// The same matrix with its strips in memory of `pool`.
    ///
    /// # Errors
    /// When memory is short.
    pub fn copied(&self, pool: &HybridMemoryPool) -> Result<Self, QuantError> {
        let mut strips = pool
            .allocate::<u8>(Purpose::Weights, self.strips.len())
            .map_err(|error| QuantError::Memory(error.to_string()))?;
        strips.copy_from_slice(&self.strips);
        Ok(Self { strips: strips.into(), ..self.clone() })
    }

    /// Bytes of the strips of a `[rows, cols]` matrix, or `None` when that overflows.
    pub fn byte_len(rows: usize, cols: usize) -> Option<usize> {
        let blocks = rows.div_ceil(Self::STRIP).checked_mul(cols.div_ceil(Self::BLOCK_COLS))?;
        blocks.checked_mul(Self::BLOCK_BYTES)
    }

    /// Rows of the matrix, its outputs; padding is not counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, its inputs; padding is not counted.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Strips of 16 rows, the last padded.
    pub fn strips(&self) -> usize {
        self.rows.div_ceil(Self::STRIP)
    }

    /// Blocks of 16 columns in a strip, the last padded.
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(Self::BLOCK_COLS)
    }

    /// The bytes of strip `strip`, block by block.
    pub fn strip(&self, strip: usize) -> &[u8] {
        let len = self.blocks() * Self::BLOCK_BYTES;
        &self.strips[strip * len..(strip + 1) * len]
    }

    /// The bytes of all strips, one strip behind another.
    pub fn bytes(&self) -> &SharedBytes {
        &self.strips
    }

    /// Which weights share a scale: all, those of a row, or a group within a row.
    pub fn granularity(&self) -> Granularity {
        self.scales.granularity()
    }

    /// Groups in a row: 1 unless scales are by group.
    pub fn groups(&self) -> usize {
        match self.granularity() {
            Granularity::Group(size) => self.cols.div_ceil(size),
            _ => 1,
        }
    }

    /// The scales of `group` for the 16 rows of `strip`, or the tensor's single one.
    pub fn strip_scales(&self, strip: usize, group: usize) -> &[f32] {
        self.scales.strip(strip, group)
    }

    /// The scales in the order of the strips.
    pub fn scales_by_strip(&self) -> &StripScales {
        &self.scales
    }

    /// The weights of one row (trit times scale) into `out`, `out.len() == cols`: an embedding's row.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of [{}, {}]", self.rows, self.cols);
        let (strip, lane) = (row / Self::STRIP, row % Self::STRIP);
        let group = match self.granularity() {
            Granularity::Group(size) => size,
            _ => self.cols,
        };
        let bytes = self.strip(strip);
        for (g, out) in out.chunks_mut(group).enumerate() {
            let scale = self.scales.of(row, g);
            for (col, w) in (g * group..).zip(out) {
                let byte = bytes[col / Self::BLOCK_COLS * Self::BLOCK_BYTES + 4 * lane + col % 4];
                *w = ((byte >> (2 * (col % Self::BLOCK_COLS / 4)) & 3) as i8 - 1) as f32 * scale;
            }
        }
    }

    /// Refuses codes of 3 (as in damaged or foreign bytes). Reads every byte.
    ///
    /// # Errors
    /// [`QuantError::NotATrit`] with the first place.
    pub fn check(&self) -> Result<(), QuantError> {
        first_code_three(&self.strips).map_or(Ok(()), |(at, plane)| {
            let (block, byte) = (at / Self::BLOCK_BYTES, at % Self::BLOCK_BYTES);
            Err(QuantError::NotATrit {
                row: block / self.blocks() * Self::STRIP + byte / 4,
                col: block % self.blocks() * Self::BLOCK_COLS + 4 * plane + byte % 4,
            })
        })
    }

    /// The exact matrix back.
    ///
    /// # Errors
    /// [`QuantError::NotATrit`] when the strips hold a code of 3.
    pub fn unpack(&self) -> Result<TernaryMatrix, QuantError> {
        let stride = self.cols.div_ceil(4);
        let mut codes = Vec::with_capacity(self.rows * stride);
        for row in 0..self.rows {
            let lane = 4 * (row % Self::STRIP);
            let blocks = self.strip(row / Self::STRIP).chunks_exact(Self::BLOCK_BYTES);
            let words = blocks.map(|b| u32::from_le_bytes([b[lane], b[lane + 1], b[lane + 2], b[lane + 3]]));
            let start = codes.len();
            codes.extend(words.flat_map(|w| transpose(w).to_le_bytes()));
            codes.truncate(start + stride);
        }
        TernaryMatrix::new(self.rows, self.cols, codes, self.scales())
    }

    /// The scales in row-major order, without padding.
    pub fn scales(&self) -> Scales {
        self.scales.row_major(self.rows)
    }
}

/// Packs the 16 rows of strip `s`; rows and columns past the end become trit 0.
fn pack_strip(matrix: &TernaryMatrix, s: usize, strip: &mut [u8]) {
    const EMPTY: u8 = 0x55;
    let lanes = strip.len() / PackedTernary::BLOCK_BYTES;
    for r in 0..PackedTernary::STRIP {
        let row = s * PackedTernary::STRIP + r;
        let codes = if row < matrix.rows() { matrix.row_codes(row) } else { &[] };
        for block in 0..lanes {
            let byte = |p: usize| codes.get(4 * block + p).copied().unwrap_or(EMPTY);
            let word = transpose(u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]));
            let at = block * PackedTernary::BLOCK_BYTES + 4 * r;
            strip[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Transposes a 4 x 4 matrix of 2-bit fields: field (byte p, position c) goes to (byte c, position p).
fn transpose(word: u32) -> u32 {
    // Two delta swaps: first the off-diagonal fields of each 2 x 2 quarter, then the off-diagonal quarters.
    let t = (word ^ (word >> 6)) & 0x00cc_00cc;
    let word = word ^ t ^ (t << 6);
    let t = (word ^ (word >> 12)) & 0x0000_f0f0;
    word ^ t ^ (t << 12)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The layout, straight from its definition.
    fn code_at(strip: &[u8], r: usize, col: usize) -> u8 {
        let (block, p, c) = (col / 16, col % 16 / 4, col % 4);
        strip[block * 64 + 4 * r + c] >> (2 * p) & 3
    }

    proptest! {
        #[test]
        fn packing_follows_the_layout_and_unpacks_to_the_same_matrix(
            rows in 1usize..40, cols in 1usize..70, group in 1usize..40, seed in any::<u64>(), kind in 0..3
        ) {
            let mut state = seed | 1;
            let mut random = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); state >> 40 };
            let trits: Vec<i8> = (0..rows * cols).map(|_| (random() % 3) as i8 - 1).collect();
            let scales = match kind {
                0 => Scales::Tensor(0.25),
                1 => Scales::Row((0..rows).map(|r| r as f32 + 1.0).collect()),
                _ => Scales::Group { size: group, scales: (0..rows * cols.div_ceil(group)).map(|i| i as f32).collect() },
            };
            let matrix = TernaryMatrix::from_trits(rows, cols, &trits, scales).unwrap();
            let packed = PackedTernary::pack(&matrix, &HybridMemoryPool::new(), &ThreadPool::new(1)).unwrap();
            for row in 0..packed.strips() * 16 {
                for col in 0..packed.blocks() * 16 {
                    let inside = row < rows && col < cols;
                    let want = if inside { (trits[row * cols + col] + 1) as u8 } else { 1 };
                    prop_assert_eq!(code_at(packed.strip(row / 16), row % 16, col), want);
                }
            }
            prop_assert_eq!(packed.check(), Ok(()));
            let (mut got, mut want) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..rows {
                packed.row_to_f32(row, &mut got);
                matrix.row_to_f32(row, &mut want);
                prop_assert_eq!(&got, &want);
            }
            prop_assert_eq!(packed.unpack().unwrap(), matrix);
        }
    }

    #[test]
    fn foreign_strips_are_checked() {
        let pack = |bytes: Vec<u8>| PackedTernary::from_strips(20, 17, bytes.into(), Scales::Tensor(1.0));
        assert!(matches!(pack(vec![0x55; 255]), Err(QuantError::Size { what: "strips", expected: 256, .. })));
        let mut bytes = vec![0x55; 256];
        // Strip 1, block 0, row 3 of the strip, column 4 * 2 + 1.
        bytes[128 + 4 * 3 + 1] |= 3 << 4;
        assert_eq!(pack(bytes).unwrap().check(), Err(QuantError::NotATrit { row: 19, col: 9 }));
    }
}
