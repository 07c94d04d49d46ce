//! Ternary matrices: what they hold, how near they are to what they were made from, and what has changed.

use bitnet_format::{Metadata, TensorType, TensorView};
use bitnet_model::{ModelError, Part, Projection, Weight};
use bitnet_quant::{TernaryMatrix, TritCounts};
use bitnet_source::{
    Source,
    family::{LLAMA, gguf},
};

use crate::{
    error::{EvaluationError, MismatchError},
    noise::decibels,
};

/// One projection.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixQuality {
    /// Block and projection.
    pub layer: usize,
    /// Which of the block's.
    pub projection: Projection,
    /// Name in the file.
    pub name: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// How many trits are -1, 0, +1.
    pub counts: TritCounts,
    /// Smallest, mean and largest scale.
    pub scales: (f32, f64, f32),
    /// Rows that are zero throughout: outputs that say nothing.
    pub dead_rows: usize,
    /// Columns that are zero throughout: inputs that nobody reads.
    pub dead_columns: usize,
    /// Beside the masters.
    pub fit: Option<Fit>,
    /// Beside another model.
    pub change: Option<Change>,
}

impl MatrixQuality {
    /// Share of trits that are 0.
    pub fn zero_share(&self) -> f64 {
        let TritCounts { minus, zero, plus } = self.counts;
        zero as f64 / ((minus + zero + plus) as f64).max(1.0)
    }
}

/// How near trits times scales are to the floats they stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Signal to quantization noise, `10 log10(sum w^2 / sum (w - q)^2)`, dB; infinite where they are equal.
    pub sqnr: f64,
    /// `sum w q / sqrt(sum w^2 sum q^2)`; 0 where one of them is zero throughout.
    pub cosine: f64,
}

/// What is different in another model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Trits that differ.
    pub flipped: u64,
    /// Of them, those that are 0 here.
    pub to_zero: u64,
    /// Of them, those that are 0 there.
    pub from_zero: u64,
    /// Of them, those that have the other sign.
    pub sign: u64,
    /// The mean scale here over the mean scale there, minus 1.
    pub scale_drift: f64,
}

/// Looks at every ternary projection of `model`, one at a time. `masters` are the floats that it was made from (masters of training,
/// or a dense original); `other` is a model of the same shape, such as an earlier checkpoint. Projections that are not ternary are
/// passed over. Calls `progress(done, total)` in matrices.
///
/// # Errors
/// For a part that cannot be read; [`MismatchError::Matrix`] where shapes differ; [`EvaluationError::NoMasters`] where the masters are
/// no floats; [`EvaluationError::NotTernary`] where `other` holds floats, or `model` holds no ternary matrix.
pub fn judge_matrices(
    model: &Source,
    masters: Option<&Source>,
    other: Option<&Source>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<MatrixQuality>, EvaluationError> {
    let parts: Vec<_> = model
        .matrices()
        .filter_map(|part| match part {
            Part::Weight(layer, projection) => Some((part, layer, projection)),
            _ => None,
        })
        .collect();
    let mut found = Vec::with_capacity(parts.len());
    for (done, &(part, layer, projection)) in parts.iter().enumerate() {
        if let Some(planes) = planes(model, part)? {
            let mut quality = alone(model, part, (layer, projection), &planes);
            if let Some(masters) = masters {
                quality.fit = Some(fit(&planes, &quality, masters, part)?);
            }
            if let Some(other) = other {
                quality.change = Some(change(&planes, &quality, other, part)?);
            }
            found.push(quality);
        }
        progress(done + 1, parts.len());
    }
    if found.is_empty() {
        return Err(EvaluationError::NotTernary { name: model.checkpoint().path().display().to_string() });
    }
    Ok(found)
}

/// The matrices of trits whose sum `part` is; `None` for floats.
fn planes(source: &Source, part: Part) -> Result<Option<Vec<TernaryMatrix>>, EvaluationError> {
    let weights = match source.weight(part)? {
        Weight::Planes(planes) => Vec::from(*planes),
        one => vec![one],
    };
    let mut planes = Vec::with_capacity(weights.len());
    for weight in weights {
        let trits = weight.trits().map_err(ModelError::quant(&source.name(part)))?;
        let Some(trits) = trits else { return Ok(None) };
        planes.push(trits);
    }
    Ok(Some(planes))
}

/// What a matrix says by itself.
fn alone(
    source: &Source,
    part: Part,
    (layer, projection): (usize, Projection),
    planes: &[TernaryMatrix],
) -> MatrixQuality {
    let (rows, cols) = (planes[0].rows(), planes[0].cols());
    let mut counts = TritCounts::default();
    for c in planes.iter().map(TernaryMatrix::counts) {
        counts.minus += c.minus;
        counts.zero += c.zero;
        counts.plus += c.plus;
    }
    let mut values = Rows::new(planes);
    let (mut live_columns, mut dead_rows) = (vec![false; cols], 0);
    for r in 0..rows {
        let row = values.row(r);
        let mut live = false;
        for (alive, &w) in live_columns.iter_mut().zip(row) {
            *alive |= w != 0.0;
            live |= w != 0.0;
        }
        dead_rows += usize::from(!live);
    }
    let scales = planes.iter().flat_map(|p| p.scales().values());
    let (low, high) =
        scales.clone().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &s| (lo.min(s), hi.max(s)));
    let number = scales.clone().count().max(1) as f64;
    let mean = scales.map(|&s| f64::from(s)).sum::<f64>() / number;
    MatrixQuality {
        layer,
        projection,
        name: source.name(part),
        shape: [rows, cols],
        counts,
        scales: (low, mean, high),
        dead_rows,
        dead_columns: live_columns.iter().filter(|&&alive| !alive).count(),
        fit: None,
        change: None,
    }
}

/// Rows of a sum of ternary matrices as floats.
struct Rows<'a> {
    planes: &'a [TernaryMatrix],
    sum: Vec<f32>,
    one: Vec<f32>,
}

impl<'a> Rows<'a> {
    fn new(planes: &'a [TernaryMatrix]) -> Self {
        let cols = planes[0].cols();
        Self { planes, sum: vec![0.0; cols], one: vec![0.0; cols] }
    }

    fn row(&mut self, row: usize) -> &[f32] {
        self.planes[0].row_to_f32(row, &mut self.sum);
        for plane in &self.planes[1..] {
            plane.row_to_f32(row, &mut self.one);
            self.sum.iter_mut().zip(&self.one).for_each(|(sum, one)| *sum += one);
        }
        &self.sum
    }
}

fn fit(
    planes: &[TernaryMatrix],
    quality: &MatrixQuality,
    masters: &Source,
    part: Part,
) -> Result<Fit, EvaluationError> {
    let name = masters.name(part);
    let view = masters.checkpoint().tensor(&name)?;
    let stored = view.info().ty();
    if stored == TensorType::U8 || stored.is_ternary() {
        return Err(EvaluationError::NoMasters { name, stored: masters.stored_as(part) });
    }
    same_shape(quality, &name, [view.info().rows(), view.info().cols()])?;
    let order = file_order(masters, quality.projection);
    let mut values = Rows::new(planes);
    let mut master = vec![0.0; quality.shape[1]];
    let (mut ww, mut qq, mut wq, mut noise) = (0.0, 0.0, 0.0, 0.0);
    for row in 0..quality.shape[0] {
        read_row(&view, order.as_ref().map_or(row, |order| order[row]), &mut master)?;
        for (&w, &q) in master.iter().zip(values.row(row)) {
            let (w, q) = (f64::from(w), f64::from(q));
            ww += w * w;
            qq += q * q;
            wq += w * q;
            noise += (w - q) * (w - q);
        }
    }
    let lengths = (ww * qq).sqrt();
    Ok(Fit { sqnr: decibels(ww, noise), cosine: if lengths > 0.0 { wq / lengths } else { 0.0 } })
}

fn read_row(view: &TensorView<'_>, row: usize, out: &mut [f32]) -> Result<(), EvaluationError> {
    Ok(view.dequantize_row(row, out)?)
}

/// Where a file keeps the rows of a projection, if its converter has moved them.
fn file_order(source: &Source, projection: Projection) -> Option<Vec<usize>> {
    let config = source.config();
    let moved = config.family == LLAMA && matches!(source.checkpoint().metadata(), Metadata::Gguf(_));
    match projection {
        Projection::Query if moved => Some(gguf::half_split_order(config.heads, config.head_dim)),
        Projection::Key if moved => Some(gguf::half_split_order(config.kv_heads, config.head_dim)),
        _ => None,
    }
}

fn change(
    ours: &[TernaryMatrix],
    quality: &MatrixQuality,
    other: &Source,
    part: Part,
) -> Result<Change, EvaluationError> {
    let name = other.name(part);
    if other.config().layers <= quality.layer {
        return Err(MismatchError::Matrix { name, ours: quality.shape, theirs: [0, 0] }.into());
    }
    let Some(theirs) = planes(other, part)?.filter(|theirs| theirs.len() == ours.len()) else {
        return Err(EvaluationError::NotTernary { name });
    };
    same_shape(quality, &name, [theirs[0].rows(), theirs[0].cols()])?;
    let mut change = Change { flipped: 0, to_zero: 0, from_zero: 0, sign: 0, scale_drift: 0.0 };
    let cols = quality.shape[1];
    let (mut here, mut there) = (vec![0; cols], vec![0; cols]);
    for (a, b) in ours.iter().zip(&theirs) {
        for row in 0..quality.shape[0] {
            a.row_trits(row, &mut here);
            b.row_trits(row, &mut there);
            for (&a, &b) in here.iter().zip(&there).filter(|(a, b)| a != b) {
                change.flipped += 1;
                change.to_zero += u64::from(a == 0);
                change.from_zero += u64::from(b == 0);
                change.sign += u64::from(a == -b);
            }
        }
    }
    let before = alone(other, part, (quality.layer, quality.projection), &theirs).scales.1;
    change.scale_drift = quality.scales.1 / before - 1.0;
    Ok(change)
}

fn same_shape(quality: &MatrixQuality, name: &str, theirs: [usize; 2]) -> Result<(), EvaluationError> {
    if theirs == quality.shape {
        return Ok(());
    }
    Err(MismatchError::Matrix { name: name.to_owned(), ours: quality.shape, theirs }.into())
}
