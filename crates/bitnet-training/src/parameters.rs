//! The f32 masters of a model.

use bitnet_model::{Config, Norm, Part, Projection};
use burn_tensor::{Device, Tensor, TensorData};

use crate::{TrainError, random::Random};

/// What a parameter is, which decides how it begins and whether it decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A matrix that takes part as trits.
    Ternary,
    /// The embedding or the head, which stay floats.
    Table,
    /// The factors of a norm, which begin as 1.
    Norm,
    /// The first matrix of a side path, `[rank, inputs]`, which begins at random.
    SideDown,
    /// The second, `[outputs, rank]`, which begins as 0: the side path begins as nothing.
    SideUp,
}

/// One master: `[rows, cols]`, a norm's being `[1, width]`.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Which of the model's parts it is.
    pub part: Part,
    /// The role that the parameter has.
    pub kind: Kind,
    /// Its values, which training changes.
    pub values: Tensor<2>,
    /// Whether it takes part without being trained: it has no gradient, no means, and no place in checkpoints.
    pub frozen: bool,
}

impl Parameter {
    /// The name in a Hugging Face directory; in an adapter's, for a side path.
    pub fn name(&self) -> String {
        let part = name(self.part);
        let side = |tail: &str| format!("{}.{tail}.weight", part.trim_end_matches(".weight"));
        match self.kind {
            Kind::SideDown => format!("base_model.model.{}", side("lora_A")),
            Kind::SideUp => format!("base_model.model.{}", side("lora_B")),
            _ => part,
        }
    }
}

/// The name of a part in a Hugging Face directory.
pub(crate) fn name(part: Part) -> String {
    bitnet_source::family::huggingface::names(part).swap_remove(0)
}

/// Matrices beside frozen projections (LoRA, arXiv:2106.09685): `y + factor B (A x)`, with the input as it is before it is
/// rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct SidePathOptions {
    /// The rank: outputs of `A`, inputs of `B`.
    pub rank: usize,
    /// `alpha / rank` is what a side path is multiplied with.
    pub alpha: f32,
    /// The projections that have one, in every block.
    pub projections: Vec<Projection>,
}

impl SidePathOptions {
    /// What a side path is multiplied with.
    pub fn factor(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}

/// All masters of a model, in the order in which a token meets them.
#[derive(Clone, Debug)]
pub struct Parameters {
    list: Vec<Parameter>,
}

/// Every parameter of a model of `config`, and its shape.
pub(crate) fn shapes(config: &Config) -> Vec<(Part, Kind, [usize; 2])> {
    let hidden = config.hidden;
    let mut all = vec![(Part::Embedding, Kind::Table, [config.vocab, hidden])];
    for layer in 0..config.layers {
        let weight = |p: Projection| (Part::Weight(layer, p), Kind::Ternary, p.shape(config));
        let norm = |n: Norm| (Part::Norm(layer, n), Kind::Norm, [1, n.len(config)]);
        all.extend(Projection::PLAIN.map(weight));
        all.extend(Norm::of(config, layer).map(norm));
    }
    all.push((Part::FinalNorm, Kind::Norm, [1, hidden]));
    if !config.tied_head {
        all.push((Part::Head, Kind::Table, [config.vocab, hidden]));
    }
    all
}

impl Parameters {
    /// Fresh masters: normal with standard deviation `deviation`, norms 1. One seed gives one model.
    pub fn random(config: &Config, seed: u64, deviation: f32, device: &Device) -> Self {
        let mut random = Random::new(seed);
        let list = shapes(config).into_iter().map(|(part, kind, shape)| {
            let count = shape[0] * shape[1];
            let values = match kind {
                Kind::Norm => vec![1.0; count],
                _ => (0..count).map(|_| random.normal() * deviation).collect(),
            };
            let values = Tensor::from_data(TensorData::new(values, shape), device);
            Parameter { part, kind, values, frozen: false }
        });
        Self { list: list.collect() }
    }

    /// Masters read from elsewhere: `read` gives the values of a part, row by row.
    ///
    /// # Errors
    /// What `read` returns; [`TrainError::Size`] and [`TrainError::NotFinite`] for what cannot be the part.
    pub fn from_parts(
        config: &Config,
        device: &Device,
        mut read: impl FnMut(Part) -> Result<Vec<f32>, TrainError>,
    ) -> Result<Self, TrainError> {
        let mut list = Vec::new();
        for (part, kind, shape) in shapes(config) {
            let values = read(part)?;
            let expected = shape[0] * shape[1];
            if values.len() != expected {
                return Err(TrainError::Size { name: name(part), expected, got: values.len() });
            }
            if values.iter().any(|v| !v.is_finite()) {
                return Err(TrainError::NotFinite { name: name(part) });
            }
            let values = Tensor::from_data(TensorData::new(values, shape), device);
            list.push(Parameter { part, kind, values, frozen: false });
        }
        Ok(Self { list })
    }

    /// The same, frozen, with fresh side paths: `A` uniform within one over the root of its inputs, as PEFT begins it, `B` 0.
    #[must_use]
    pub fn with_side_paths(mut self, config: &Config, side: &SidePathOptions, seed: u64) -> Self {
        self.list.iter_mut().for_each(|p| p.frozen = true);
        let (mut random, device) = (Random::new(seed ^ 0x51de_9a78), self.list[0].values.device());
        for layer in 0..config.layers {
            for &projection in Projection::PLAIN.iter().filter(|p| side.projections.contains(p)) {
                let [outputs, inputs] = projection.shape(config);
                let bound = 1.0 / (inputs as f32).sqrt();
                let down = (0..side.rank * inputs).map(|_| (2.0 * random.unit() as f32 - 1.0) * bound);
                let matrices = [
                    (Kind::SideDown, down.collect(), [side.rank, inputs]),
                    (Kind::SideUp, vec![0.0; outputs * side.rank], [outputs, side.rank]),
                ];
                self.list.extend(matrices.map(|(kind, values, shape)| Parameter {
                    part: Part::Weight(layer, projection),
                    kind,
                    values: Tensor::from_data(TensorData::new(values, shape), &device),
                    frozen: false,
                }));
            }
        }
        self
    }

    /// The same parameters but for those of side paths.
    pub(crate) fn without_side_paths(&self) -> Self {
        let side = |kind| matches!(kind, Kind::SideDown | Kind::SideUp);
        Self { list: self.list.iter().filter(|p| !side(p.kind)).cloned().collect() }
    }

    /// All parameters, in a fixed order.
    pub fn list(&self) -> &[Parameter] {
        &self.list
    }

    /// The values as leaves of a new graph, in the same order: after its backward pass the gradients of those that are not
    /// frozen can be asked for.
    pub fn leaves(&self) -> Vec<Tensor<2>> {
        let leaf = |p: &Parameter| match Tensor::from_inner(p.values.clone()) {
            frozen if p.frozen => frozen,
            trained => trained.require_grad(),
        };
        self.list.iter().map(leaf).collect()
    }

    /// Those that are trained, in their order.
    pub fn trained(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter().filter(|p| !p.frozen)
    }

    /// All parameters, in the same order, to be changed.
    pub fn list_mut(&mut self) -> &mut [Parameter] {
        &mut self.list
    }

    /// The place of a part in the list.
    pub fn position(&self, part: Part) -> Option<usize> {
        self.list.iter().position(|p| p.part == part)
    }

    /// The places of a projection's side path, `A` and `B`.
    pub fn side_path(&self, part: Part) -> Option<[usize; 2]> {
        let of = |kind| self.list.iter().position(|p| p.part == part && p.kind == kind);
        Some([of(Kind::SideDown)?, of(Kind::SideUp)?])
    }

    /// A number that other values would hardly have.
    pub(crate) fn digest(&self) -> u64 {
        self.list.iter().fold(self.list.len() as u64, |sum, p| {
            let data = p.values.clone().into_data();
            let values = data.as_slice::<f32>().unwrap_or_default();
            values.iter().fold(sum, |sum, v| {
                (sum.rotate_left(29) ^ u64::from(v.to_bits())).wrapping_mul(0x9fb2_1c65_1e98_df25)
            })
        })
    }

    /// How many numbers are trained.
    pub fn count(&self) -> usize {
        self.trained().map(|p| p.values.shape().num_elements()).sum()
    }
}
