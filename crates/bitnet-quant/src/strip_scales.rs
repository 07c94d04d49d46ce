//! Scales in the order in which strips of rows need them.

use crate::{Granularity, QuantError, Scales, ternary::MAX_COLS};

/// Rows of a strip: the 32-bit lanes of a 64-byte vector. All packed layouts have it.
pub(crate) const STRIP: usize = 16;

/// The scales of a matrix whose rows are taken sixteen at a time.
#[derive(Clone, Debug)]
pub struct StripScales {
    granularity: Granularity,
    /// Groups in a row: 1 unless scales are by group.
    groups: usize,
    /// Tensor: one. Row and group: strip-major, then group, then 16 rows, padded with 0.
    values: Vec<f32>,
}

impl StripScales {
    /// Reorders and pads the scales of a `[rows, cols]` matrix.
    ///
    /// # Errors
    /// When the shape is empty or too large, the number of scales does not fit it, or one is not finite.
    pub fn new(scales: Scales, rows: usize, cols: usize) -> Result<Self, QuantError> {
        let shape = QuantError::Shape { rows, cols };
        if rows == 0 || cols == 0 || cols > MAX_COLS {
            return Err(shape);
        }
        let granularity = scales.granularity();
        let expected = Scales::count(granularity, rows, cols).ok_or(shape)?;
        let got = scales.values().len();
        if got != expected {
            return Err(QuantError::Size { what: "scales", rows, cols, expected, got });
        }
        if let Some((index, &value)) = scales.values().iter().enumerate().find(|(_, s)| !s.is_finite()) {
            return Err(QuantError::Scale { index, value });
        }
        let (groups, by_row) = match scales {
            Scales::Tensor(scale) => return Ok(Self { granularity, groups: 1, values: vec![scale] }),
            Scales::Row(values) => (1, values),
            Scales::Group { size, scales } => (cols.div_ceil(size), scales),
        };
        let mut values = vec![0.0; rows.div_ceil(STRIP) * groups * STRIP];
        for row in 0..rows {
            for group in 0..groups {
                let at = (row / STRIP * groups + group) * STRIP + row % STRIP;
                values[at] = by_row[row * groups + group];
            }
        }
        Ok(Self { granularity, groups, values })
    }

    /// Which weights share a scale: all, those of a row, or a group within a row.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The scales of `group` for the 16 rows of `strip`, or the tensor's single one.
    pub fn strip(&self, strip: usize, group: usize) -> &[f32] {
        match self.granularity {
            Granularity::Tensor => &self.values,
            _ => {
                let at = (strip * self.groups + group) * STRIP;
                &self.values[at..at + STRIP]
            }
        }
    }

    /// The scale of the weights of `row` in `group` (0 unless scales are by group).
    pub fn of(&self, row: usize, group: usize) -> f32 {
        match self.strip(row / STRIP, group) {
            [one] => *one,
            rows => rows[row % STRIP],
        }
    }

    /// The largest magnitude of a scale.
    pub fn largest(&self) -> f32 {
        self.values.iter().fold(0.0, |largest, scale| scale.abs().max(largest))
    }

    /// In row-major order, without padding.
    pub fn row_major(&self, rows: usize) -> Scales {
        match self.granularity {
            Granularity::Tensor => Scales::Tensor(self.values[0]),
            Granularity::Row => Scales::Row((0..rows).map(|r| self.of(r, 0)).collect()),
            Granularity::Group(size) => {
                let places = (0..rows).flat_map(|r| (0..self.groups).map(move |g| (r, g)));
                Scales::Group { size, scales: places.map(|(r, g)| self.of(r, g)).collect() }
            }
        }
    }
}
