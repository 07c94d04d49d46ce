//! Float weights that are exactly ternary: by tensor, by row, or by group.

use bitnet_quant::{QuantError, Scales, TernaryMatrix};

use crate::{FormatError, TensorView};

/// The smallest run of columns for which a scale is looked for.
const MIN_GROUP: usize = 32;
/// The most equal parts of a row that are tried: models trained in parallel shards have a scale for each shard.
const MAX_PARTS: usize = 16;

/// Trits and scales of an F32, F16 or BF16 matrix whose weights are exactly 0 or plus or minus one scale by tensor, else by
/// row, else by group (the largest that fits, of: equal parts of a row, and powers of two down to 32). `None` when
/// it is not ternary. Minus zero is zero.
///
/// # Errors
/// For other types, and when a weight is infinite or no number.
pub fn recognize_ternary(view: &TensorView<'_>) -> Result<Option<TernaryMatrix>, FormatError> {
    let info = view.info();
    if !info.ty().is_float() {
        return Err(view.unreadable("only F32, F16 and BF16 tensors can be looked at for exact trits"));
    }
    let (rows, cols) = (info.rows(), info.cols());
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let mut weights = vec![0.0; cols];
    let mut survey = Survey::new(cols);
    for row in 0..rows {
        view.dequantize_row(row, &mut weights)?;
        if let Some((col, &value)) = weights.iter().enumerate().find(|(_, w)| !w.is_finite()) {
            return Err(view.quant(QuantError::NotFinite { row, col, value }));
        }
        if !survey.see(&weights) {
            return Ok(None);
        }
    }
    let Some(grain) = survey.coarsest() else { return Ok(None) };
    let stride = cols.div_ceil(4);
    let mut codes = vec![0u8; rows * stride];
    let mut scales = Vec::new();
    for (row, codes) in codes.chunks_exact_mut(stride).enumerate() {
        view.dequantize_row(row, &mut weights)?;
        weights.chunks(4).zip(codes).for_each(|(four, code)| *code = code_of(four));
        // Of all nonzero weights of a group, which are equal up to their sign.
        let scale = |group: &[f32]| group.iter().find(|w| **w != 0.0).map_or(0.0, |w| w.abs());
        scales.extend(weights.chunks(grain.unwrap_or(cols)).map(scale));
    }
    let scales = match grain {
        None => Scales::Row(scales),
        Some(size) => Scales::Group { size, scales },
    };
    TernaryMatrix::new(rows, cols, codes, scales.coarsest(cols)).map(Some).map_err(|e| view.quant(e))
}

/// Up to four weights as codes; missing ones are trit 0.
fn code_of(four: &[f32]) -> u8 {
    let code = |p: usize| four.get(p).map_or(1, |w| 1 + u8::from(*w > 0.0) - u8::from(*w < 0.0));
    code(0) | code(1) << 2 | code(2) << 4 | code(3) << 6
}

/// Which granularities are still possible.
struct Survey {
    row: bool,
    /// Largest first.
    groups: Vec<usize>,
}

impl Survey {
    fn new(cols: usize) -> Self {
        let parts = (2..=MAX_PARTS).filter(|p| cols.is_multiple_of(*p)).map(|p| cols / p);
        let powers = (0..usize::BITS).map(|b| 1usize << b).take_while(|&size| size < cols);
        let mut groups: Vec<usize> = parts.chain(powers).filter(|&size| size >= MIN_GROUP).collect();
        groups.sort_unstable_by(|a, b| b.cmp(a));
        groups.dedup();
        Self { row: true, groups }
    }

    /// Crosses out what a row forbids: a change of magnitude from one nonzero weight to the next must be a
    /// change of group. Returns whether anything is left.
    fn see(&mut self, weights: &[f32]) -> bool {
        let mut last: Option<(usize, f32)> = None;
        for (col, &weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            if let Some((before, magnitude)) = last
                && magnitude != weight.abs()
            {
                self.row = false;
                self.groups.retain(|size| before / size != col / size);
                if self.groups.is_empty() {
                    return false;
                }
            }
            last = Some((col, weight.abs()));
        }
        true
    }

    /// `Some(None)` for rows, `Some(Some(size))` for groups.
    fn coarsest(&self) -> Option<Option<usize>> {
        if self.row { Some(None) } else { self.groups.first().map(|&size| Some(size)) }
    }
}
