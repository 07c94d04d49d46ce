//! From float masters to trits: absmean rounding.
//!
//! BitNet b1.58 (arXiv:2402.17764, section 2): with `m = mean|W|`, a trit is `clamp(round(W / m), -1, 1)` and the
//! weight that takes part in the product is trit times `m`. Rounding is to even, as in the models' own code.

use crate::{Granularity, QuantError, Scales, TernaryMatrix};

/// The mean is never taken below this, so that an all-zero matrix has a finite reciprocal.
pub const MIN_MEAN: f32 = 1e-5;

/// How float weights become trits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantConfig {
    /// Which weights share a mean. The models of the field were trained with one per tensor.
    pub granularity: Granularity,
}

impl Default for QuantConfig {
    fn default() -> Self {
        Self { granularity: Granularity::Tensor }
    }
}

/// Quantizes a row-major `[rows, cols]` matrix.
///
/// The mean is accumulated in f64, row by row, and rounded to f32 once, so it does not depend on who sums.
///
/// # Errors
/// [`QuantError::NotFinite`] for NaN or infinity, [`QuantError::Size`] or [`QuantError::Shape`] when the data is not a matrix of that shape.
pub fn absmean(
    rows: usize,
    cols: usize,
    weights: &[f32],
    config: QuantConfig,
) -> Result<TernaryMatrix, QuantError> {
    let shape = QuantError::Shape { rows, cols };
    let expected = rows.checked_mul(cols).filter(|&n| n > 0).ok_or(shape.clone())?;
    if weights.len() != expected {
        return Err(QuantError::Size { what: "weights", rows, cols, expected, got: weights.len() });
    }
    if let Some(at) = weights.iter().position(|w| !w.is_finite()) {
        return Err(QuantError::NotFinite { row: at / cols, col: at % cols, value: weights[at] });
    }
    let group = match config.granularity {
        Granularity::Tensor | Granularity::Row => cols,
        Granularity::Group(0) => return Err(shape),
        Granularity::Group(size) => size,
    };
    let scales: Vec<f32> = match config.granularity {
        Granularity::Tensor => vec![mean_abs(weights, cols)],
        _ => {
            weights.chunks_exact(cols).flat_map(|row| row.chunks(group)).map(|g| mean_abs(g, cols)).collect()
        }
    };
    let mut codes = Vec::with_capacity(rows * cols.div_ceil(4));
    let groups = cols.div_ceil(group);
    for (r, row) in weights.chunks_exact(cols).enumerate() {
        let reciprocal = |j: usize| match config.granularity {
            Granularity::Tensor => 1.0 / scales[0],
            _ => 1.0 / scales[r * groups + j / group],
        };
        for (b, four) in row.chunks(4).enumerate() {
            let code = |c: usize| four.get(c).map_or(1, |&w| trit_code(w, reciprocal(4 * b + c)));
            codes.push(code(0) | code(1) << 2 | code(2) << 4 | code(3) << 6);
        }
    }
    let scales = match config.granularity {
        Granularity::Tensor => Scales::Tensor(scales[0]),
        Granularity::Row => Scales::Row(scales),
        Granularity::Group(size) => Scales::Group { size, scales },
    };
    TernaryMatrix::new(rows, cols, codes, scales)
}

/// The mean of absolute values, summed in f64 in runs of `cols` and rounded to f32 once; at least [`MIN_MEAN`].
pub fn mean_abs(weights: &[f32], cols: usize) -> f32 {
    let row_sum = |row: &[f32]| row.iter().map(|w| f64::from(w.abs())).sum::<f64>();
    let total: f64 = weights.chunks(cols.max(1)).map(row_sum).sum();
    ((total / weights.len().max(1) as f64) as f32).max(MIN_MEAN)
}

/// The trit of one weight, given the reciprocal of its mean: `clamp(round_to_even(weight * reciprocal), -1, 1)`.
///
/// Written as two comparisons, which every instruction set has for many weights at once: halves round to 0, all above to 1
/// or more. NaN becomes 0.
#[inline]
pub fn trit(weight: f32, reciprocal: f32) -> f32 {
    let ratio = weight * reciprocal;
    f32::from(u8::from(ratio > 0.5)) - f32::from(u8::from(ratio < -0.5))
}

/// The code (trit + 1) of one weight, given the reciprocal of its mean.
fn trit_code(weight: f32, reciprocal: f32) -> u8 {
    (trit(weight, reciprocal) + 1.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_and_the_mean_is_the_scale() {
        // mean|W| = 1, so the weights are their own ratios; 0.5 rounds to 0 and 1.5 to 2, clamped to 1.
        let m = absmean(1, 6, &[0.5, -0.5, 1.5, -1.5, 0.51, -1.49], QuantConfig::default()).unwrap();
        let mut trits = [0; 6];
        m.row_trits(0, &mut trits);
        assert_eq!((trits, m.scales()), ([0, 0, 1, -1, 1, -1], &Scales::Tensor(1.0)));
    }

    #[test]
    fn comparisons_are_the_rounding() {
        let near = |x: f32| [x.next_down(), x, x.next_up()];
        let ratios = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, f32::MAX].into_iter().flat_map(near);
        for ratio in ratios.flat_map(|r| [r, -r]) {
            let rounded = ratio.round_ties_even().clamp(-1.0, 1.0);
            assert_eq!(trit(ratio, 1.0), rounded, "{ratio}");
        }
    }

    #[test]
    fn granularities_have_their_own_means() {
        let w = [1.0, 1.0, 4.0, 4.0, 0.0, 0.0, 8.0, 8.0];
        let scales = |granularity| absmean(2, 4, &w, QuantConfig { granularity }).unwrap().scales().clone();
        assert_eq!(scales(Granularity::Tensor), Scales::Tensor(3.25));
        assert_eq!(scales(Granularity::Row), Scales::Row(vec![2.5, 4.0]));
        assert_eq!(
            scales(Granularity::Group(2)),
            Scales::Group { size: 2, scales: vec![1.0, 4.0, MIN_MEAN, 8.0] }
        );
    }

    #[test]
    fn every_row_and_group_is_rounded_by_its_own_mean() {
        let w = [1.0, 1.0, 4.0, 4.0, 0.3, 0.3, 1.0, 1.0];
        let trits = |granularity| {
            let m = absmean(2, 4, &w, QuantConfig { granularity }).unwrap();
            let mut trits = [[9; 4]; 2];
            trits.iter_mut().enumerate().for_each(|(row, out)| m.row_trits(row, out));
            trits
        };
        assert_eq!(trits(Granularity::Tensor), [[1, 1, 1, 1], [0, 0, 1, 1]]);
        assert_eq!(trits(Granularity::Row), [[0, 0, 1, 1], [0, 0, 1, 1]]);
        assert_eq!(trits(Granularity::Group(2)), [[1; 4]; 2]);
    }

    #[test]
    fn what_cannot_be_quantized_is_named() {
        let nan = absmean(2, 2, &[0.0, 1.0, 2.0, f32::NAN], QuantConfig::default()).unwrap_err();
        assert!(matches!(nan, QuantError::NotFinite { row: 1, col: 1, .. }), "{nan}");
        assert!(absmean(2, 2, &[0.0; 3], QuantConfig::default()).is_err());
        assert!(absmean(2, 0, &[], QuantConfig::default()).is_err());
    }
}
