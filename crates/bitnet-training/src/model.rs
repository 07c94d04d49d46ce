//! The decoder of `bitnet-model`, trainable.

use std::sync::Arc;

use bitnet_kernels::Kernel;
use bitnet_model::{Config, Norm, Part, Projection};
use burn_tensor::Tensor;

use crate::{
    Parameters, TrainError,
    ops::{self, Heads, Quantization},
};

/// Sequences of one length and what should follow each of their tokens.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Sequences.
    pub sequences: usize,
    /// Ids, one sequence behind the other.
    pub ids: Arc<[u32]>,
    /// The id that should follow each id, or `None` where that does not count.
    pub targets: Arc<[Option<u32>]>,
}

impl Batch {
    /// Sequences of `positions + 1` ids, one behind the other: each id but the last of a sequence is followed by a target.
    ///
    /// # Panics
    /// When `tokens` is not whole sequences.
    pub fn shifted(tokens: &[u32], positions: usize) -> Self {
        assert!(tokens.len().is_multiple_of(positions + 1), "whole sequences of {} tokens", positions + 1);
        let sequences = || tokens.chunks_exact(positions + 1);
        Self {
            sequences: tokens.len() / (positions + 1),
            ids: sequences().flat_map(|s| &s[..positions]).copied().collect(),
            targets: sequences().flat_map(|s| &s[1..]).map(|&id| Some(id)).collect(),
        }
    }

    /// Positions of each sequence.
    pub fn positions(&self) -> usize {
        self.ids.len() / self.sequences
    }
}

/// A decoder-only transformer with quantized projections. It holds no parameters: a pass is given them.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: Config,
    quantization: Quantization,
    kernel: &'static Kernel,
    recomputes: bool,
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
}

impl Transformer {
    /// A model of `config`.
    ///
    /// # Errors
    /// When the configuration is impossible, or asks for what cannot be trained yet (norms of queries and keys, norms in
    /// front of every projection).
    pub fn new(
        config: Config,
        quantization: Quantization,
        kernel: &'static Kernel,
    ) -> Result<Self, TrainError> {
        let config = config.check()?;
        let unsupported =
            |what, expected, got: &str| Err(TrainError::Unsupported { what, expected, got: got.to_owned() });
        if config.qk_norms {
            return unsupported("the norm of queries and keys", "none", "there");
        }
        if config.input_norm_eps.is_some() {
            return unsupported("the norm in front of every projection", "none", "there");
        }
        // The angles of the engine, to the bit.
        let frequencies = config.rope.frequencies(config.head_dim);
        let angles: Vec<f64> = (0..config.context)
            .flat_map(|position| frequencies.iter().map(move |f| f64::from(position as f32 * f)))
            .collect();
        let cos = angles.iter().map(|&a| libm::cos(a) as f32).collect();
        let sin = angles.iter().map(|&a| libm::sin(a) as f32).collect();
        Ok(Self { config, quantization, kernel, recomputes: false, cos, sin })
    }

    /// The same, whose blocks keep their inputs only and run again in the backward pass (gradient checkpointing): the memory of
    /// activations falls to that of one block and the inputs of all, a step takes about a third longer, and the numbers
    /// are the same.
    #[must_use]
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is rounded.
    pub fn quantization(&self) -> Quantization {
        self.quantization
    }

    /// Rounds differently from now on.
    pub fn set_quantization(&mut self, quantization: Quantization) {
        self.quantization = quantization;
    }

    /// The mean loss of a batch in nats per target. `leaves` are the values of `parameters` in their order, as tensors of a
    /// graph.
    ///
    /// # Panics
    /// When an id is not in the vocabulary, or sequences are longer than the context.
    pub fn loss(&self, parameters: &Parameters, leaves: &[Tensor<2>], batch: &Batch) -> Tensor<1> {
        let hidden = self.hidden(parameters, leaves, batch);
        let head = self.head(parameters, leaves);
        ops::cross_entropy(self.kernel, hidden, head, batch.targets.clone())
    }

    /// The logits of every position, `[sequences * positions, vocab]`.
    ///
    /// # Panics
    /// As [`Transformer::loss`].
    pub fn logits(&self, parameters: &Parameters, leaves: &[Tensor<2>], batch: &Batch) -> Tensor<2> {
        let hidden = self.hidden(parameters, leaves, batch);
        hidden.matmul(self.head(parameters, leaves).transpose())
    }

    fn head(&self, parameters: &Parameters, leaves: &[Tensor<2>]) -> Tensor<2> {
        let part = if self.config.tied_head { Part::Embedding } else { Part::Head };
        leaf(parameters, leaves, part)
    }

    fn hidden(&self, parameters: &Parameters, leaves: &[Tensor<2>], batch: &Batch) -> Tensor<2> {
        let positions = batch.positions();
        assert!(
            positions <= self.config.context,
            "{positions} positions in a context of {}",
            self.config.context
        );
        let heads = Heads {
            batch: batch.sequences,
            positions,
            kv: self.config.kv_heads,
            group: self.config.group(),
            dim: self.config.head_dim,
            cos: self.cos.clone(),
            sin: self.sin.clone(),
        };
        let leaf = |part| leaf(parameters, leaves, part);
        let mut x = ops::embedding(leaf(Part::Embedding), batch.ids.clone());
        for layer in 0..self.config.layers {
            x = match self.recomputes {
                true => self.block_again(layer, x, &heads, parameters, leaves),
                false => self.block(layer, x, &heads, &leaf),
            };
        }
        ops::rms_norm(self.kernel, x, leaf(Part::FinalNorm), self.config.norm_eps)
    }

    /// [`Transformer::block`] that is computed again for its backward.
    fn block_again(
        &self,
        layer: usize,
        x: Tensor<2>,
        heads: &Heads,
        parameters: &Parameters,
        leaves: &[Tensor<2>],
    ) -> Tensor<2> {
        let parts: Vec<Part> = Projection::ALL
            .map(|p| Part::Weight(layer, p))
            .into_iter()
            .chain(Norm::of(&self.config).map(|n| Part::Norm(layer, n)))
            .collect();
        let mut inputs = vec![x];
        inputs.extend(parts.iter().map(|&part| leaf(parameters, leaves, part)));
        let (model, heads) = (self.clone(), heads.clone());
        let block = move |inputs: &[Tensor<2>]| {
            let at = |part| 1 + parts.iter().position(|&p| p == part).unwrap_or_else(|| missing(part));
            model.block(layer, inputs[0].clone(), &heads, &|part| inputs[at(part)].clone())
        };
        ops::recompute(Arc::new(block), &inputs)
    }

    fn block(
        &self,
        layer: usize,
        x: Tensor<2>,
        heads: &Heads,
        leaf: &impl Fn(Part) -> Tensor<2>,
    ) -> Tensor<2> {
        let weights = |list: &[Projection]| -> Vec<Tensor<2>> {
            list.iter().map(|&p| leaf(Part::Weight(layer, p))).collect()
        };
        let linear = |x, list: &[Projection]| ops::linear(self.kernel, x, &weights(list), self.quantization);
        let norm =
            |x, which| ops::rms_norm(self.kernel, x, leaf(Part::Norm(layer, which)), self.config.norm_eps);
        let sub_norm = |x, which| if self.config.sub_norms { norm(x, which) } else { x };
        let normed = norm(x.clone(), Norm::Attention);
        let qkv = linear(normed, &[Projection::Query, Projection::Key, Projection::Value]);
        let attended = sub_norm(ops::attention(self.kernel, qkv, heads), Norm::AttentionSub);
        let x = x + linear(attended, &[Projection::Output]);
        let normed = norm(x.clone(), Norm::Ffn);
        let gated = ops::gate(linear(normed, &[Projection::Gate, Projection::Up]), self.config.activation);
        x + linear(sub_norm(gated, Norm::FfnSub), &[Projection::Down])
    }
}

fn leaf(parameters: &Parameters, leaves: &[Tensor<2>], part: Part) -> Tensor<2> {
    match parameters.position(part) {
        Some(at) => leaves[at].clone(),
        None => missing(part),
    }
}

fn missing(part: Part) -> ! {
    panic!("the parameters are those of another configuration: {part:?} is missing")
}
