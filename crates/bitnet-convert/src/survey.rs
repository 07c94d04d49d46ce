//! What the matrices of a model hold, found before anything is written.

use bitnet_format::{Metadata, TensorType};
use bitnet_model::{Part, Projection};
use bitnet_quant::{Granularity, Scales, TernaryMatrix};
use bitnet_source::{Source, family::huggingface};
use half::{bf16, f16};

use crate::{
    ConvertError, Target, encode,
    matrix::{self, Matrix},
};

/// A matrix of the model and what it holds.
pub(crate) struct Surveyed {
    pub(crate) part: Part,
    /// Its name in the file that is read.
    pub(crate) name: String,
    pub(crate) shape: [usize; 2],
    pub(crate) held: Held,
}

/// What a matrix of the source turned out to hold.
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
    /// How many weights are -1 or +1.
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

    /// The trits of a head that is no copy of the embedding, if it is ternary.
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
    let matrix = matrix::read(source, part)?;
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
