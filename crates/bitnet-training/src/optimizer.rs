//! AdamW (Loshchilov and Hutter, arXiv:1711.05101), as PyTorch computes it.

use burn_flex::{Flex, FlexTensor};
use burn_tensor::Tensor;
use rayon::prelude::*;

use crate::{
    Kind, Parameters,
    ops::fused::{floats, from_floats},
    schedule::Rates,
};

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// Every constant of the optimizer but the rates of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of their squares.
    pub beta2: f32,
    /// Added to the root of that mean.
    pub eps: f32,
    /// Gradients are scaled so that their length, over all parameters, is at most this; 0 leaves them.
    pub clip: f32,
}

impl Default for AdamWOptions {
    /// The constants that BitNet b1.58 models were trained with.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, clip: 1.0 }
    }
}

/// The optimizer's state: two means per parameter, and the number of steps.
#[derive(Clone, Debug)]
pub struct AdamW {
    options: AdamWOptions,
    step: u64,
    /// Means of gradients and of their squares, `[rows, cols]` each.
    means: Vec<[Tensor<2>; 2]>,
}

impl AdamW {
    /// A fresh state for `parameters`.
    pub fn new(parameters: &Parameters, options: AdamWOptions) -> Self {
        let zeros = |p: &crate::Parameter| [p.values.zeros_like(), p.values.zeros_like()];
        Self { options, step: 0, means: parameters.trained().map(zeros).collect() }
    }

    /// A state that was saved: `step` steps done, and two means per parameter.
    pub fn from_state(options: AdamWOptions, step: u64, means: Vec<[Tensor<2>; 2]>) -> Self {
        Self { options, step, means }
    }

    /// Steps that the optimizer has done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// The means of gradients and of their squares, in the order of the trained parameters.
    pub fn means(&self) -> &[[Tensor<2>; 2]] {
        &self.means
    }

    /// One step. Returns the length of the gradients before they were clipped. Norms do not decay.
    ///
    /// When that length is not finite nothing is changed: the caller decides what to do.
    ///
    /// # Panics
    /// When there is not one gradient per trained parameter, of its shape.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: Vec<Tensor<2>>, rates: Rates) -> f64 {
        assert_eq!(parameters.trained().count(), gradients.len(), "one gradient per trained parameter");
        let length = gradients.iter().map(sum_of_squares).sum::<f64>().sqrt();
        if !length.is_finite() {
            return length;
        }
        let clip = f64::from(self.options.clip);
        let factor = if clip > 0.0 && length > clip { (clip / length) as f32 } else { 1.0 };
        self.step += 1;
        let t = self.step as i32;
        let bias = |beta: f32| 1.0 - f64::from(beta).powi(t);
        let update = Update {
            options: self.options,
            factor,
            keep: 1.0,
            rate: (rates.learning_rate / bias(self.options.beta1)) as f32,
            root: bias(self.options.beta2).sqrt() as f32,
        };
        let slots =
            parameters.list_mut().iter_mut().filter(|p| !p.frozen).zip(gradients).zip(&mut self.means);
        for ((parameter, gradient), means) in slots {
            let decays = parameter.kind != Kind::Norm;
            let decay = if decays { rates.learning_rate * rates.weight_decay } else { 0.0 };
            let update = Update { keep: (1.0 - decay) as f32, ..update };
            update.apply(&mut parameter.values, gradient, means);
        }
        length
    }
}

/// What one step multiplies and adds, the same for all parameters.
#[derive(Clone, Copy)]
struct Update {
    options: AdamWOptions,
    /// What gradients are multiplied with.
    factor: f32,
    /// What is kept of a parameter by the decay.
    keep: f32,
    /// The learning rate over the first mean's bias.
    rate: f32,
    /// The root of the second mean's bias.
    root: f32,
}

impl Update {
    fn apply(self, values: &mut Tensor<2>, gradient: Tensor<2>, means: &mut [Tensor<2>; 2]) {
        let [first, second] = means;
        match (take(values), take(first), take(second), flex(gradient.clone())) {
            (Some(mut v), Some(mut m), Some(mut s), Some(g)) => {
                self.slices(v.storage_mut(), m.storage_mut(), s.storage_mut(), floats(&g.to_contiguous()));
                [*values, *first, *second] = [v, m, s].map(Tensor::from_primitive::<Flex>);
            }
            _ => self.composed(values, gradient, first, second),
        }
    }

    fn slices(self, values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let AdamWOptions { beta1, beta2, eps, .. } = self.options;
        let chunks = values.par_chunks_mut(CHUNK).zip(first.par_chunks_mut(CHUNK));
        let chunks = chunks.zip(second.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
        chunks.for_each(|(((values, first), second), gradient)| {
            let slots = values.iter_mut().zip(first).zip(second).zip(gradient);
            for (((v, m), s), g) in slots {
                let g = g * self.factor;
                *m = beta1 * *m + (1.0 - beta1) * g;
                *s = beta2 * *s + (1.0 - beta2) * g * g;
                *v = *v * self.keep - self.rate * *m / (s.sqrt() / self.root + eps);
            }
        });
    }

    fn composed(self, values: &mut Tensor<2>, g: Tensor<2>, first: &mut Tensor<2>, second: &mut Tensor<2>) {
        let AdamWOptions { beta1, beta2, eps, .. } = self.options;
        let g = g * self.factor;
        *first = first.clone() * beta1 + g.clone() * (1.0 - beta1);
        *second = second.clone() * beta2 + g.clone() * g * (1.0 - beta2);
        let step = first.clone() * self.rate / (second.clone().sqrt() / self.root + eps);
        *values = values.clone() * self.keep - step;
    }
}

fn flex(tensor: Tensor<2>) -> Option<FlexTensor> {
    tensor.try_into_primitive::<Flex>().ok()
}

/// The tensor's memory, when it is the CPU's; an empty tensor stays behind, so that nobody shares the memory.
fn take(tensor: &mut Tensor<2>) -> Option<FlexTensor> {
    flex(tensor.clone())?;
    let empty = Tensor::from_primitive::<Flex>(from_floats(Vec::new(), [0, 0]));
    flex(std::mem::replace(tensor, empty)).map(|t| t.to_contiguous())
}

/// The sum of the squares of all elements, in f64, the same for any number of threads.
fn sum_of_squares(tensor: &Tensor<2>) -> f64 {
    let Some(tensor) = flex(tensor.clone()) else {
        return f64::from((tensor.clone() * tensor.clone()).sum().into_scalar::<f32>());
    };
    let tensor = tensor.to_contiguous();
    let square = |chunk: &[f32]| chunk.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
    let sums: Vec<f64> = floats(&tensor).par_chunks(CHUNK).map(square).collect();
    sums.iter().sum()
}
