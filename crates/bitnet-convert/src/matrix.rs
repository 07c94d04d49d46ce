//! A matrix of the model that is read, in its exact form.

use bitnet_model::{ModelError, Part, Table, Weight};
use bitnet_quant::{Scales, TernaryMatrix};
use bitnet_source::{Source, SourceError};

/// A matrix of the model that is read, in its exact form.
pub(crate) enum Matrix {
    /// Trits with scales, none of which is negative.
    Trits(TernaryMatrix),
    /// The sum of two; only `.bitnet` files hold such, and every target gets its values.
    Planes(Box<[TernaryMatrix; 2]>),
    /// Floats, or blocks that stand for floats.
    Table(Table),
}

impl Matrix {
    /// Row `row` as f32 into `out`, `out.len() == cols`.
    pub(crate) fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Trits(m) => m.row_to_f32(row, out),
            Self::Planes(planes) => {
                planes[0].row_to_f32(row, out);
                let mut second = vec![0.0; out.len()];
                planes[1].row_to_f32(row, &mut second);
                out.iter_mut().zip(second).for_each(|(a, b)| *a += b);
            }
            Self::Table(t) => t.row_to_f32(row, out),
        }
    }

    /// `[rows, cols]`, that is outputs and inputs.
    pub(crate) fn shape(&self) -> [usize; 2] {
        match self {
            Self::Trits(m) => [m.rows(), m.cols()],
            Self::Planes(planes) => [planes[0].rows(), planes[0].cols()],
            Self::Table(t) => [t.rows(), t.cols()],
        }
    }
}

/// Reads the matrix of `part` from the source.
pub(crate) fn read(source: &Source, part: Part) -> Result<Matrix, SourceError> {
    let quant = |e| SourceError::from(ModelError::quant(&source.name(part))(e));
    let trits = |weight: Weight| {
        let none = || SourceError::Unsupported {
            what: "a plane of no trits".into(),
            cure: "take the original".into(),
        };
        weight.trits().map_err(quant)?.ok_or_else(none)
    };
    match source.weight(part)? {
        Weight::Table(table) => Ok(Matrix::Table(table)),
        Weight::Planes(planes) => {
            let [first, second] = *planes;
            Ok(Matrix::Planes(Box::new([trits(first)?, trits(second)?])))
        }
        weight => without_negative_scales(trits(weight)?).map(Matrix::Trits).map_err(quant),
    }
}

/// A trit times a negative scale is the opposite trit times its magnitude, which every format can hold.
fn without_negative_scales(matrix: TernaryMatrix) -> Result<TernaryMatrix, bitnet_quant::QuantError> {
    if !matrix.scales().values().iter().any(|s| s.is_sign_negative()) {
        return Ok(matrix);
    }
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let stride = cols.div_ceil(4);
    let mut codes = matrix.codes().to_vec();
    for (row, codes) in codes.chunks_exact_mut(stride).enumerate() {
        for col in (0..cols).filter(|&col| matrix.scale(row, col).is_sign_negative()) {
            let shift = 2 * (col % 4);
            let code = codes[col / 4] >> shift & 3;
            codes[col / 4] = codes[col / 4] & !(3 << shift) | (2 - code) << shift;
        }
    }
    let abs = |scales: &[f32]| scales.iter().map(|s| s.abs()).collect();
    let scales = match matrix.scales() {
        Scales::Tensor(s) => Scales::Tensor(s.abs()),
        Scales::Row(s) => Scales::Row(abs(s)),
        Scales::Group { size, scales } => Scales::Group { size: *size, scales: abs(scales) },
    };
    TernaryMatrix::new(rows, cols, codes, scales)
}
