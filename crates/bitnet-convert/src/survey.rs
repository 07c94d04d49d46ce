//! What the matrices of a model hold, found before anything is written.

use bitnet_format::{Metadata, TensorType};
use bitnet_model::{ModelError, Part, Projection, Source, Table, Weight, family::huggingface};
use bitnet_quant::{Granularity, Scales, TernaryMatrix};
use half::{bf16, f16};

use crate::{ConvertError, Target, encode};

/// A matrix in its exact form.
pub(crate) enum Matrix {
    /// Trits; no scale is negative.
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

    /// `[rows, cols]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        match self {
            Self::Trits(m) => [m.rows(), m.cols()],
            Self::Planes(planes) => [planes[0].rows(), planes[0].cols()],
            Self::Table(t) => [t.rows(), t.cols()],
        }
    }
}

/// Reads a matrix.
pub(crate) fn read(source: &Source, part: Part) -> Result<Matrix, ModelError> {
    let quant = |e| ModelError::quant(&source.name(part))(e);
    let trits = |weight: Weight| match weight {
        Weight::Ternary(trits) => Ok(trits),
        Weight::Packed(packed) => packed.unpack().map_err(quant),
        Weight::Table(_) | Weight::Planes(_) => Err(ModelError::Unsupported {
            what: "a plane of no trits".into(),
            cure: "take the original".into(),
        }),
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

/// A matrix of the model and what it holds.
pub(crate) struct Surveyed {
    pub(crate) part: Part,
    /// Its name in the file that is read.
    pub(crate) name: String,
    pub(crate) shape: [usize; 2],
    pub(crate) held: Held,
}

/// What a matrix holds.
pub(crate) enum Held {
    Trits(Trits),
    /// Floats, or blocks that stand for floats, of this type in the file.
    Table(TensorType),
}

/// What there is to know of trits before they are written.
#[derive(Clone, Copy)]
pub(crate) struct Trits {
    pub(crate) granularity: Granularity,
    /// The scale of the whole matrix, where it has only one; 1 when all trits are 0.
    pub(crate) one: Option<f32>,
    /// Weights other than 0.
    pub(crate) nonzero: u64,
    /// The narrowest float type that holds every scale.
    pub(crate) width: TensorType,
    /// The smallest and the largest scale.
    pub(crate) range: (f32, f32),
    /// The type of float tensor that the file holds them as, if any: exact weights, or masters.
    pub(crate) stored: Option<TensorType>,
    /// Whether that tensor holds masters.
    pub(crate) master: bool,
    /// The largest relative error of a scale in the target's encoding; `None` when it does not fit.
    pub(crate) loss: Option<f32>,
}

impl Surveyed {
    /// The projection, for weights of one.
    pub(crate) fn projection(&self) -> Option<(usize, Projection)> {
        match self.part {
            Part::Weight(layer, projection) => Some((layer, projection)),
            _ => None,
        }
    }

    pub(crate) fn trits(&self) -> Option<&Trits> {
        match &self.held {
            Held::Trits(trits) => Some(trits),
            Held::Table(_) => None,
        }
    }
}

/// Everything that is known of a model before it is written.
pub(crate) struct Survey {
    pub(crate) matrices: Vec<Surveyed>,
    /// Its float projections are masters, quantized anew at every use.
    pub(crate) online: bool,
}

impl Survey {
    /// Reads every matrix once; refuses projections that `target` cannot encode.
    pub(crate) fn new(
        source: &Source,
        target: Target,
        mut progress: impl FnMut(Part),
    ) -> Result<Self, ConvertError> {
        let online = match source.checkpoint().metadata() {
            Metadata::HuggingFace(m) => {
                let (_, quantization) = huggingface::config(&m.config, m.generation_config.as_ref())?;
                quantization.is_some_and(|q| q.online)
            }
            _ => false,
        };
        let mut matrices = Vec::new();
        for part in source.matrices() {
            matrices.push(survey(source, target, part, online)?);
            progress(part);
        }
        Ok(Self { matrices, online })
    }

    /// The projections with what they hold.
    pub(crate) fn projections(&self) -> impl Iterator<Item = (&Surveyed, usize, Projection)> {
        self.matrices.iter().filter_map(|m| m.projection().map(|(layer, p)| (m, layer, p)))
    }

    /// The one scale of a projection's trits.
    pub(crate) fn scale_of(&self, layer: usize, projection: Projection) -> Option<f32> {
        let found = self.projections().find(|&(_, l, p)| (l, p) == (layer, projection));
        found.and_then(|(m, ..)| m.trits()?.one)
    }

    /// The trits of an untied head.
    pub(crate) fn head(&self) -> Option<(&Surveyed, &Trits)> {
        let head = self.matrices.iter().find(|m| m.part == Part::Head)?;
        Some((head, head.trits()?))
    }

    /// Modules (without `.weight`) of projections that stay dense.
    pub(crate) fn dense_modules(&self) -> Vec<String> {
        let dense = self.projections().filter(|(m, ..)| m.trits().is_none());
        dense.map(|(_, layer, p)| huggingface::module(layer, p)).collect()
    }
}

fn survey(source: &Source, target: Target, part: Part, online: bool) -> Result<Surveyed, ConvertError> {
    let name = source.name(part);
    let matrix = read(source, part)?;
    let ty = source.checkpoint().info(&name).map(|info| info.ty());
    let held = match &matrix {
        Matrix::Table(_) | Matrix::Planes(_) => Held::Table(ty.unwrap_or(TensorType::F32)),
        Matrix::Trits(trits) => {
            let fit = encode::loss(trits, target);
            if let (Err(error), Part::Weight(..)) = (&fit, part) {
                return Err(ConvertError::encode(&name)(error.clone()));
            }
            let stored = ty.filter(|ty| ty.is_float());
            Held::Trits(Trits { stored, master: online && stored.is_some(), ..look_at(trits, fit.ok()) })
        }
    };
    Ok(Surveyed { part, name, shape: matrix.shape(), held })
}

fn look_at(trits: &TernaryMatrix, loss: Option<f32>) -> Trits {
    let counts = trits.counts();
    let nonzero = counts.minus + counts.plus;
    let scales = trits.scales().values();
    let one = match trits.scales().clone().coarsest(trits.cols()) {
        _ if nonzero == 0 => Some(1.0),
        Scales::Tensor(scale) => Some(scale),
        _ => None,
    };
    let width = if scales.iter().all(|&s| f16::from_f32(s).to_f32() == s) {
        TensorType::F16
    } else if scales.iter().all(|&s| bf16::from_f32(s).to_f32() == s) {
        TensorType::Bf16
    } else {
        TensorType::F32
    };
    let used = scales.iter().copied().filter(|&s| s != 0.0);
    let range = used.fold((f32::INFINITY, 0.0f32), |(low, high), s| (low.min(s), high.max(s)));
    let granularity = trits.scales().granularity();
    Trits { granularity, one, nonzero, width, range, stored: None, master: false, loss }
}
