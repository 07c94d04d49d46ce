//! Exact trits and scales: the form in which files are read, converted and compared.

use crate::QuantError;

/// The largest number of columns: sums of code x int8, with codes in the top bits of a byte (times 64),
/// must stay inside an i32: 128 * 127 * (cols / 4) < 2^31.
pub const MAX_COLS: usize = 1 << 19;

/// Which weights of a matrix share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// All weights of the matrix share one.
    Tensor,
    /// The weights of each row (an output) share one.
    Row,
    /// Each run of this many consecutive columns of a row; the last run of a row may be shorter.
    Group(usize),
}

/// The scales of a ternary matrix. A weight is always trit *times* scale.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// A single scale for the whole matrix.
    Tensor(f32),
    /// One scale for each row, in order.
    Row(Vec<f32>),
    /// One per group: `scales[row * ceil(cols / size) + group]`.
    Group {
        /// Columns that share a scale; the last group of a row may be shorter.
        size: usize,
        /// The scales, row-major: all groups of a row, then those of the next.
        scales: Vec<f32>,
    },
}

impl Scales {
    /// Which weights share a scale here.
    pub fn granularity(&self) -> Granularity {
        match self {
            Self::Tensor(_) => Granularity::Tensor,
            Self::Row(_) => Granularity::Row,
            Self::Group { size, .. } => Granularity::Group(*size),
        }
    }

    /// All scales, in row-major order.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Tensor(scale) => std::slice::from_ref(scale),
            Self::Row(scales) | Self::Group { scales, .. } => scales,
        }
    }

    /// How many scales a `[rows, cols]` matrix has at `granularity`, or `None` when that overflows or the group is empty.
    pub fn count(granularity: Granularity, rows: usize, cols: usize) -> Option<usize> {
        match granularity {
            Granularity::Tensor => Some(1),
            Granularity::Row => Some(rows),
            Granularity::Group(0) => None,
            Granularity::Group(size) => rows.checked_mul(cols.div_ceil(size)),
        }
    }

    /// The same scales at the coarsest granularity that holds them: equal groups become larger groups (equal parts of a
    /// row, or powers of two) or a row's scale, equal rows the tensor's. A scale of 0 belongs to a group without nonzero
    /// weights and agrees with any other. So a model has the same scales whatever blocks its file is made of.
    pub fn coarsest(self, cols: usize) -> Self {
        let common = |scales: &[f32]| {
            let mut nonzero = scales.iter().copied().filter(|&s| s != 0.0);
            let first = nonzero.next().unwrap_or(0.0);
            nonzero.all(|s| s.to_bits() == first.to_bits()).then_some(first)
        };
        let per_row = match self {
            Self::Tensor(scale) => return Self::Tensor(scale),
            Self::Row(scales) => scales,
            Self::Group { size, scales } => {
                let rows: Option<Vec<f32>> =
                    scales.chunks(cols.div_ceil(size.max(1)).max(1)).map(common).collect();
                match rows {
                    Some(rows) => rows,
                    None => return Self::widest_groups(size, scales, cols, common),
                }
            }
        };
        match common(&per_row) {
            Some(scale) => Self::Tensor(scale),
            None => Self::Row(per_row),
        }
    }

    /// The group sizes that are looked for in rows of `cols`, largest first: up to 16 equal parts, and powers of two
    /// down to 32.
    pub fn group_sizes(cols: usize) -> Vec<usize> {
        let parts = (2..=16).filter(|p| cols.is_multiple_of(*p)).map(|p| cols / p);
        let powers = (0..usize::BITS).map(|b| 1usize << b).take_while(|&size| size < cols);
        let mut sizes: Vec<usize> = parts.chain(powers).filter(|&size| size >= 32).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        sizes
    }

    /// Joins groups of `size` to the largest groups within which `common` finds one scale.
    fn widest_groups(
        size: usize,
        scales: Vec<f32>,
        cols: usize,
        common: impl Fn(&[f32]) -> Option<f32>,
    ) -> Self {
        let rows = || scales.chunks(cols.div_ceil(size));
        let wider = Self::group_sizes(cols).into_iter().filter(|&s| s > size && s.is_multiple_of(size));
        for wide in wider {
            let joined: Option<Vec<f32>> =
                rows().flat_map(|row| row.chunks(wide / size)).map(&common).collect();
            if let Some(scales) = joined {
                return Self::Group { size: wide, scales };
            }
        }
        Self::Group { size, scales }
    }
}

/// How many weights are -1, 0 and +1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TritCounts {
    /// How many weights are -1.
    pub minus: u64,
    /// How many weights are 0.
    pub zero: u64,
    /// How many weights are +1.
    pub plus: u64,
}

/// A `[rows, cols]` matrix of trits with scales; row = output, column = input.
///
/// Codes are trit + 1, four to a byte, row by row: column `j` stands in bits `2 * (j % 4)` of byte `j / 4` of
/// its row. A row takes `ceil(cols / 4)` bytes; the codes past its last column are 1 (trit 0), so that equal
/// matrices have equal bytes. No code is 3.
#[derive(Clone, Debug, PartialEq)]
pub struct TernaryMatrix {
    rows: usize,
    cols: usize,
    codes: Vec<u8>,
    scales: Scales,
}

impl TernaryMatrix {
    /// Takes codes in the layout of this type.
    ///
    /// # Errors
    /// When a size disagrees with the shape, a code is 3, a scale is not finite, or the shape is empty or too large.
    pub fn new(rows: usize, cols: usize, mut codes: Vec<u8>, scales: Scales) -> Result<Self, QuantError> {
        let shape = QuantError::Shape { rows, cols };
        if rows == 0 || cols == 0 || cols > MAX_COLS {
            return Err(shape);
        }
        let stride = cols.div_ceil(4);
        let expected = rows.checked_mul(stride).ok_or(shape.clone())?;
        if codes.len() != expected {
            return Err(QuantError::Size { what: "codes", rows, cols, expected, got: codes.len() });
        }
        let expected = Scales::count(scales.granularity(), rows, cols).ok_or(shape)?;
        let values = scales.values();
        if values.len() != expected {
            return Err(QuantError::Size { what: "scales", rows, cols, expected, got: values.len() });
        }
        if let Some((index, &value)) = values.iter().enumerate().find(|(_, s)| !s.is_finite()) {
            return Err(QuantError::Scale { index, value });
        }
        if !cols.is_multiple_of(4) {
            let used = (1u8 << (2 * (cols % 4))) - 1;
            for row in codes.chunks_exact_mut(stride) {
                row[stride - 1] = row[stride - 1] & used | 0x55 & !used;
            }
        }
        if let Some((at, field)) = first_code_three(&codes) {
            return Err(QuantError::NotATrit { row: at / stride, col: at % stride * 4 + field });
        }
        Ok(Self { rows, cols, codes, scales })
    }

    /// Packs trits given one by one, row by row.
    ///
    /// # Errors
    /// As [`TernaryMatrix::new`]; a value outside -1..=1 is [`QuantError::NotATrit`].
    pub fn from_trits(rows: usize, cols: usize, trits: &[i8], scales: Scales) -> Result<Self, QuantError> {
        let expected = rows.checked_mul(cols).ok_or(QuantError::Shape { rows, cols })?;
        if trits.len() != expected || cols == 0 {
            return Err(QuantError::Size { what: "trits", rows, cols, expected, got: trits.len() });
        }
        if let Some(at) = trits.iter().position(|t| !(-1..=1).contains(t)) {
            return Err(QuantError::NotATrit { row: at / cols, col: at % cols });
        }
        let mut codes = Vec::with_capacity(rows * cols.div_ceil(4));
        trits.chunks_exact(cols).for_each(|row| codes.extend(row.chunks(4).map(pack_four)));
        Self::new(rows, cols, codes, scales)
    }

    /// Rows of the matrix, its outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, its inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The scales that the trits are multiplied with.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// The same trits with other scales.
    ///
    /// # Errors
    /// When their number or values do not fit the shape.
    pub fn with_scales(self, scales: Scales) -> Result<Self, QuantError> {
        Self::new(self.rows, self.cols, self.codes, scales)
    }

    /// All codes, `ceil(cols / 4)` bytes a row.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The codes of one row, four to a byte: trit + 1 in two bits, the first in the lowest.
    pub fn row_codes(&self, row: usize) -> &[u8] {
        let stride = self.cols.div_ceil(4);
        &self.codes[row * stride..(row + 1) * stride]
    }

    /// The trits of one row into `out`, `out.len() == cols`.
    pub fn row_trits(&self, row: usize, out: &mut [i8]) {
        assert_eq!(out.len(), self.cols);
        let codes = self.row_codes(row);
        out.iter_mut().enumerate().for_each(|(j, t)| *t = (codes[j / 4] >> (2 * (j % 4)) & 3) as i8 - 1);
    }

    /// The scale of the weight at `row`, `col`.
    pub fn scale(&self, row: usize, col: usize) -> f32 {
        match &self.scales {
            Scales::Tensor(scale) => *scale,
            Scales::Row(scales) => scales[row],
            Scales::Group { size, scales } => scales[row * self.cols.div_ceil(*size) + col / size],
        }
    }

    /// The weights of one row (trit times scale) into `out`, `out.len() == cols`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        let codes = self.row_codes(row);
        for (j, w) in out.iter_mut().enumerate() {
            *w = ((codes[j / 4] >> (2 * (j % 4)) & 3) as i8 - 1) as f32 * self.scale(row, j);
        }
    }

    /// The matrix whose row `i` is row `order[i]` of this one.
    ///
    /// # Panics
    /// When an index is outside the matrix.
    pub fn reorder_rows(&self, order: &[usize]) -> Self {
        let codes = order.iter().flat_map(|&r| self.row_codes(r)).copied().collect();
        let pick = |scales: &[f32], width: usize| {
            order.iter().flat_map(|&r| &scales[r * width..(r + 1) * width]).copied().collect()
        };
        let scales = match &self.scales {
            Scales::Tensor(scale) => Scales::Tensor(*scale),
            Scales::Row(scales) => Scales::Row(pick(scales, 1)),
            Scales::Group { size, scales } => {
                Scales::Group { size: *size, scales: pick(scales, self.cols.div_ceil(*size)) }
            }
        };
        Self { rows: order.len(), cols: self.cols, codes, scales }
    }

    /// How many weights are -1, 0 and +1.
    pub fn counts(&self) -> TritCounts {
        let (mut zero, mut plus) = (0u64, 0u64);
        for byte in &self.codes {
            zero += u64::from((byte & 0x55).count_ones());
            plus += u64::from((byte & 0xaa).count_ones());
        }
        // The padding of each row is trit 0.
        zero -= (self.rows * (self.cols.div_ceil(4) * 4 - self.cols)) as u64;
        TritCounts { minus: (self.rows * self.cols) as u64 - zero - plus, zero, plus }
    }
}

/// The first code of 3: its byte, and its field in that byte.
pub(crate) fn first_code_three(codes: &[u8]) -> Option<(usize, usize)> {
    // Both bits of a field are set only in code 3. Looking at whole pieces first lets the compiler use vectors.
    const PIECE: usize = 4096;
    let threes = |byte: &u8| byte & (byte >> 1) & 0x55;
    let bad =
        codes.chunks(PIECE).position(|piece| piece.iter().fold(0, |all, byte| all | threes(byte)) != 0)?;
    let at = bad * PIECE + codes[bad * PIECE..].iter().position(|byte| threes(byte) != 0)?;
    Some((at, threes(&codes[at]).trailing_zeros() as usize / 2))
}

/// Up to four trits as one byte; missing ones are trit 0.
fn pack_four(trits: &[i8]) -> u8 {
    let code = |p: usize| trits.get(p).map_or(1, |t| (t + 1) as u8);
    code(0) | code(1) << 2 | code(2) << 4 | code(3) << 6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn trits_round_trip(rows in 1usize..5, cols in 1usize..20, seed in any::<u64>()) {
            let trits: Vec<i8> = (0..rows * cols).map(|i| (seed.rotate_left(i as u32 * 7) % 3) as i8 - 1).collect();
            let m = TernaryMatrix::from_trits(rows, cols, &trits, Scales::Tensor(0.5)).unwrap();
            let mut row = vec![0; cols];
            for r in 0..rows {
                m.row_trits(r, &mut row);
                prop_assert_eq!(&row, &trits[r * cols..(r + 1) * cols]);
            }
            let c = m.counts();
            let count = |v| trits.iter().filter(|&&t| t == v).count() as u64;
            prop_assert_eq!((c.minus, c.zero, c.plus), (count(-1), count(0), count(1)));
        }
    }

    #[test]
    fn padding_is_made_canonical_and_code_three_is_found() {
        let m = TernaryMatrix::new(1, 5, vec![0b01_01_01_01, 0b11_11_11_10], Scales::Tensor(1.0)).unwrap();
        assert_eq!(m.codes()[1], 0b01_01_01_10);
        let bad = TernaryMatrix::new(2, 5, vec![0x55, 0x55, 0b01_11_01_01, 0x55], Scales::Tensor(1.0));
        assert_eq!(bad.unwrap_err(), QuantError::NotATrit { row: 1, col: 2 });
    }

    #[test]
    fn wrong_sizes_and_scales_are_refused() {
        assert!(matches!(
            TernaryMatrix::new(2, 8, vec![0x55; 3], Scales::Tensor(1.0)),
            Err(QuantError::Size { what: "codes", expected: 4, got: 3, .. })
        ));
        assert!(matches!(
            TernaryMatrix::new(2, 8, vec![0x55; 4], Scales::Group { size: 4, scales: vec![1.0; 3] }),
            Err(QuantError::Size { what: "scales", expected: 4, got: 3, .. })
        ));
        assert!(TernaryMatrix::new(2, 8, vec![0x55; 4], Scales::Group { size: 0, scales: vec![] }).is_err());
        assert!(TernaryMatrix::new(1, 4, vec![0x55], Scales::Tensor(f32::NAN)).is_err());
        assert!(TernaryMatrix::new(usize::MAX, 4 * 8, vec![], Scales::Tensor(1.0)).is_err());
        assert!(TernaryMatrix::new(0, 4, vec![], Scales::Tensor(1.0)).is_err());
    }

    #[test]
    fn scales_collapse_to_the_coarsest_equal_granularity() {
        let group = |scales: &[f32]| Scales::Group { size: 4, scales: scales.to_vec() };
        assert_eq!(group(&[2.0, 2.0, 2.0, 2.0]).coarsest(8), Scales::Tensor(2.0));
        assert_eq!(group(&[2.0, 0.0, 3.0, 3.0]).coarsest(8), Scales::Row(vec![2.0, 3.0]));
        assert_eq!(group(&[2.0, 1.0, 3.0, 3.0]).coarsest(8), group(&[2.0, 1.0, 3.0, 3.0]));
        assert_eq!(Scales::Row(vec![0.0, 5.0]).coarsest(8), Scales::Tensor(5.0));
        let by = |size: usize, scales: &[f32]| Scales::Group { size, scales: scales.to_vec() };
        // Two rows of 256: groups of 64 that are pairwise equal are groups of 128, or a power of two in a longer row.
        let pairs = [1.0, 0.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0];
        assert_eq!(by(64, &pairs).coarsest(256), by(128, &[1.0, 2.0, 3.0, 4.0]));
        assert_eq!(by(64, &[1.0, 1.0, 2.0, 2.0, 3.0]).coarsest(320), by(128, &[1.0, 2.0, 3.0]));
        assert_eq!(by(64, &[1.0, 2.0, 2.0, 3.0]).coarsest(256), by(64, &[1.0, 2.0, 2.0, 3.0]));
    }
}
