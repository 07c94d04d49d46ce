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
}

/// One master: `[rows, cols]`, a norm's being `[1, width]`.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Which of the model's parts it is.
    pub part: Part,
    /// What it is.
    pub kind: Kind,
    /// Its values.
    pub values: Tensor<2>,
}

impl Parameter {
    /// The name in a Hugging Face directory.
    pub fn name(&self) -> String {
        name(self.part)
    }
}

/// The name of a part in a Hugging Face directory.
pub(crate) fn name(part: Part) -> String {
    bitnet_model::family::huggingface::names(part).swap_remove(0)
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
        all.extend(Projection::ALL.map(weight));
        all.extend(Norm::of(config).map(norm));
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
            Parameter { part, kind, values: Tensor::from_data(TensorData::new(values, shape), device) }
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
            list.push(Parameter { part, kind, values });
        }
        Ok(Self { list })
    }

    /// All parameters.
    pub fn list(&self) -> &[Parameter] {
        &self.list
    }

    /// The values as leaves of a new graph, in the same order: their gradients can be asked for after its backward pass.
    pub fn leaves(&self) -> Vec<Tensor<2>> {
        self.list.iter().map(|p| Tensor::from_inner(p.values.clone()).require_grad()).collect()
    }

    /// All parameters, to be changed.
    pub fn list_mut(&mut self) -> &mut [Parameter] {
        &mut self.list
    }

    /// The place of a part in the list.
    pub fn position(&self, part: Part) -> Option<usize> {
        self.list.iter().position(|p| p.part == part)
    }

    /// Numbers that are trained.
    pub fn count(&self) -> usize {
        self.list.iter().map(|p| p.values.shape().num_elements()).sum()
    }
}
