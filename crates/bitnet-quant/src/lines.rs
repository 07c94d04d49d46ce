//! Rows or columns that can be left out: each is a run of bytes of its own.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};

use crate::{PackedTernary, QuantError, StripScales};

/// What a line of [`TernaryLines`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// A row: outputs can be left out.
    Rows,
    /// A column: inputs can be left out.
    Columns,
}

/// The trits of a matrix line by line, for products that skip lines.
///
/// The unit is the 32-bit word of [`PackedTernary`]: 16 consecutive elements of a line, byte `c` holding in bits
/// `2p..2p + 2` the code (trit + 1) of element `4 * p + c`. A line is its words one after another, padded with code 1 to whole
/// blocks of 64 bytes. So masking plane `p` of a block leaves elements `16 * l + 4 * p + c` in byte `4 * l + c`: for
/// a row, the bytes that meet the same rearrangement of the activations.
///
/// Groups of columns with scales of their own are not held: skipping has nothing to offer them.
#[derive(Debug)]
pub struct TernaryLines {
    axis: Axis,
    rows: usize,
    cols: usize,
    bytes: Buffer<u8>,
    scales: StripScales,
}

impl TernaryLines {
    /// Elements of a line in one block.
    pub const BLOCK_LEN: usize = 256;
    /// Bytes of a block, one AVX-512 register.
    pub const BLOCK_BYTES: usize = 64;

    /// The same matrix by lines, on all threads of `threads`; bit for bit the trits and scales of `packed`.
    ///
    /// # Errors
    /// [`QuantError::Memory`] when the pool has no room.
    ///
    /// # Panics
    /// When scales are by group.
    pub fn new(
        packed: &PackedTernary,
        axis: Axis,
        pool: &HybridMemoryPool,
        threads: &ThreadPool,
    ) -> Result<Self, QuantError> {
        assert!(packed.groups() == 1, "lines have one scale per row at most");
        let (rows, cols) = (packed.rows(), packed.cols());
        let (lines, len) = match axis {
            Axis::Rows => (rows, cols),
            Axis::Columns => (cols, rows),
        };
        let stride = len.div_ceil(Self::BLOCK_LEN) * Self::BLOCK_BYTES;
        let size = lines.checked_mul(stride).ok_or(QuantError::Shape { rows, cols })?;
        let mut bytes = pool
            .allocate::<u8>(Purpose::Weights, size)
            .map_err(|error| QuantError::Memory(error.to_string()))?;
        threads.for_each_chunk_mut(&mut bytes, PackedTernary::STRIP * stride, |i, lines| match axis {
            Axis::Rows => split_strip(packed.strip(i), lines, stride),
            Axis::Columns => split_columns(packed, i, lines, stride),
        });
        Ok(Self { axis, rows, cols, bytes, scales: packed.scales_by_strip().clone() })
    }

    /// Whether lines are rows or columns of the matrix.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// Rows of the matrix, its outputs; padding is not counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, its inputs; padding is not counted.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Blocks of 64 bytes in a line, the last padded.
    pub fn line_blocks(&self) -> usize {
        let len = match self.axis {
            Axis::Rows => self.cols,
            Axis::Columns => self.rows,
        };
        len.div_ceil(Self::BLOCK_LEN)
    }

    /// The bytes of all lines, one line behind another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The scales, in the order of strips of rows.
    pub fn scales(&self) -> &StripScales {
        &self.scales
    }

    /// The weights of one row (trit times scale) into `out`, `out.len() == cols`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of [{}, {}]", self.rows, self.cols);
        let (stride, scale) = (self.line_blocks() * Self::BLOCK_BYTES, self.scales.of(row, 0));
        for (col, w) in out.iter_mut().enumerate() {
            let (line, at) = match self.axis {
                Axis::Rows => (row, col),
                Axis::Columns => (col, row),
            };
            let byte = self.bytes[line * stride + at / 16 * 4 + at % 4];
            *w = ((byte >> (2 * (at % 16 / 4)) & 3) as i8 - 1) as f32 * scale;
        }
    }

    /// Turns a block of 16 rows by 16 columns: words that belong to rows become words that belong to columns.
    ///
    /// With the field of row `4a + b`, column `4p + c` in byte `16a + 4b + c`, plane `p`, the turned block has it in
    /// byte `16p + 4c + b`, plane `a`. It is its own inverse, and the definition of what kernels do in registers.
    pub fn turn(block: &[u8; 64]) -> [u8; 64] {
        const LOW: u128 = u128::MAX / 255 * 3;
        let rows = block.as_chunks::<16>().0;
        let mut turned = [0; 64];
        for (p, out) in turned.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let field = |a: usize| (u128::from_le_bytes(rows[a]) >> (2 * p) & LOW) << (2 * a);
            let bytes = (field(0) | field(1) | field(2) | field(3)).to_le_bytes();
            *out = std::array::from_fn(|byte| bytes[4 * (byte % 4) + byte / 4]);
        }
        turned
    }
}

/// Sixteen trits of 0: every two-bit code is 1.
const EMPTY: [u8; 4] = [0x55; 4];

/// The rows of a strip into lines.
fn split_strip(strip: &[u8], lines: &mut [u8], stride: usize) {
    for (r, line) in lines.chunks_exact_mut(stride).enumerate() {
        let words = strip.as_chunks::<64>().0.iter().map(|block| &block.as_chunks::<4>().0[r]);
        let words = words.chain(std::iter::repeat(&EMPTY));
        line.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = *word);
    }
}

/// The columns of block `b` of every strip into lines.
fn split_columns(packed: &PackedTernary, b: usize, lines: &mut [u8], stride: usize) {
    lines.fill(EMPTY[0]);
    for s in 0..packed.strips() {
        let block = TernaryLines::turn(&packed.strip(s).as_chunks().0[b]);
        for (line, word) in lines.chunks_exact_mut(stride).zip(block.as_chunks::<4>().0) {
            line[4 * s..4 * s + 4].copy_from_slice(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Scales, TernaryMatrix};

    /// Matrices have fewer rows and columns than this: up to three blocks of 16 under Miri, which takes a minute for the largest.
    const END: usize = if cfg!(miri) { 40 } else { 300 };

    proptest! {
        #[test]
        fn lines_hold_the_trits_of_rows_and_of_columns(
            rows in 1..END, cols in 1..END, seed in any::<u64>(), by_row in any::<bool>()
        ) {
            let mut state = seed | 1;
            let mut random = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); state >> 40 };
            let trits: Vec<i8> = (0..rows * cols).map(|_| (random() % 3) as i8 - 1).collect();
            let scales = if by_row { Scales::Row((0..rows).map(|r| r as f32).collect()) } else { Scales::Tensor(0.5) };
            let matrix = TernaryMatrix::from_trits(rows, cols, &trits, scales).unwrap();
            let (pool, threads) = (HybridMemoryPool::new(), ThreadPool::new(1));
            let packed = PackedTernary::pack(&matrix, &pool, &threads).unwrap();
            for axis in [Axis::Rows, Axis::Columns] {
                let lines = TernaryLines::new(&packed, axis, &pool, &threads).unwrap();
                let (mut got, mut want) = (vec![0.0; cols], vec![0.0; cols]);
                for row in 0..rows {
                    lines.row_to_f32(row, &mut got);
                    matrix.row_to_f32(row, &mut want);
                    prop_assert_eq!(&got, &want);
                }
                prop_assert_eq!(lines.scales().row_major(rows), matrix.scales().clone());
            }
        }
    }

    #[test]
    fn a_turned_block_has_every_field_where_it_belongs() {
        let block: [u8; 64] = std::array::from_fn(|i| (i * 89 + 7) as u8);
        let turned = TernaryLines::turn(&block);
        let field = |block: &[u8; 64], byte: usize, plane: usize| block[byte] >> (2 * plane) & 3;
        for (a, b, c, p) in (0..256).map(|i| (i / 64, i / 16 % 4, i / 4 % 4, i % 4)) {
            assert_eq!(field(&turned, 16 * p + 4 * c + b, a), field(&block, 16 * a + 4 * b + c, p));
        }
        assert_eq!(TernaryLines::turn(&turned), block);
    }
}
