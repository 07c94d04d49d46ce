//! The decoder of `bitnet-decoder`, trainable.

use std::sync::Arc;

use bitnet_kernels::Kernel;
use bitnet_model::{Config, Norm, Part, Projection};
use burn_tensor::Tensor;

use crate::{
    Parameter, Parameters, TrainError,
    ops::{self, FakeQuantization, Heads},
};

/// Sequences of one length and what should follow each of their tokens.
#[derive(Clone, Debug)]
pub struct Minibatch {
    /// Sequences of the minibatch.
    pub sequences: usize,
    /// Ids, one sequence behind the other.
    pub ids: Arc<[u32]>,
    /// The id that should follow each id, or `None` where that does not count.
    pub targets: Arc<[Option<u32>]>,
}

impl Minibatch {
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

    /// How many targets count in the loss.
    pub fn counted(&self) -> usize {
        self.targets.iter().flatten().count()
    }

    /// Positions up to the last target of each sequence: what lies behind only fills it up.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        let last = |row: &[Option<u32>]| row.iter().rposition(Option::is_some).map_or(0, |at| at + 1);
        self.targets.chunks(self.positions().max(1)).map(last)
    }

    /// The targets that count, in their order.
    pub(crate) fn counted_targets(&self) -> Arc<[Option<u32>]> {
        match self.counted() == self.targets.len() {
            true => self.targets.clone(),
            false => self.targets.iter().filter(|target| target.is_some()).copied().collect(),
        }
    }

    /// Positions of each sequence, padding included.
    pub fn positions(&self) -> usize {
        self.ids.len() / self.sequences
    }
}

/// A decoder-only transformer with quantized projections. It holds no parameters: a pass is given them.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: Config,
    quantization: FakeQuantization,
    kernel: &'static Kernel,
    recomputes: bool,
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
    /// What side paths are multiplied with.
    side_factor: f32,
}

/// The values of a pass, by what they are.
#[derive(Clone, Copy)]
struct Given<'a> {
    parameters: &'a Parameters,
    leaves: &'a [Tensor<2>],
}

impl Given<'_> {
    fn leaf(self, part: Part) -> Tensor<2> {
        match self.parameters.position(part) {
            Some(at) => self.leaves[at].clone(),
            None => missing(part),
        }
    }

    /// The matrices of a projection's side path.
    fn side_path(self, part: Part) -> Option<[Tensor<2>; 2]> {
        self.parameters.side_path(part).map(|places| places.map(|at| self.leaves[at].clone()))
    }
}

/// A block and the sizes of its attention.
#[derive(Clone, Debug)]
struct Place {
    layer: usize,
    heads: Heads,
}

/// A block, or a part of it: one result of its inputs.
type Piece = fn(&Transformer, &Place, &[Tensor<2>], Given<'_>) -> Tensor<2>;

/// What a forward pass leaves for losses to be made of.
pub(crate) struct Heard {
    /// The hidden vectors in front of the head that a target follows, `[targets, hidden]`. Nobody asks for the logits of the other
    /// positions, and the head is the largest matrix of small models.
    pub(crate) hidden: Tensor<2>,
    /// The head's weight, `[vocab, hidden]`.
    pub(crate) head: Tensor<2>,
    /// Queries, keys and values of every token as the projections (and the norms of heads) of one block give them, before they
    /// are rotated, if they were asked for.
    pub(crate) states: Option<Tensor<2>>,
}

impl Transformer {
    /// A model of `config`.
    ///
    /// # Errors
    /// When the configuration is impossible, or asks for what cannot be trained yet (norms in front of every projection).
    pub fn new(
        config: Config,
        quantization: FakeQuantization,
        kernel: &'static Kernel,
    ) -> Result<Self, TrainError> {
        let config = config.check()?;
        let unsupported =
            |what, expected, got: &str| Err(TrainError::Unsupported { what, expected, got: got.to_owned() });
        if config.input_norm_eps.is_some() {
            return unsupported("the norm in front of every projection", "none", "there");
        }
        // The angles of the engine, to the bit.
        let frequencies = config.rope.frequencies(config.head_dim);
        let angles: Vec<f64> = (0..config.context)
            .flat_map(|position| frequencies.iter().map(move |f| f64::from(position as f32 * f)))
            .collect();
        let factor = config.rope.attention_factor();
        let cos = angles.iter().map(|&a| libm::cos(a) as f32 * factor).collect();
        let sin = angles.iter().map(|&a| libm::sin(a) as f32 * factor).collect();
        Ok(Self { config, quantization, kernel, recomputes: false, cos, sin, side_factor: 1.0 })
    }

    /// The same, whose blocks keep their inputs only and run again in the backward pass (gradient checkpointing): the memory of
    /// activations falls to that of one block and the inputs of all, a step takes about a third longer, and the numbers
    /// are the same.
    #[must_use]
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// Whether blocks are computed again for their backward.
    pub fn recomputes(&self) -> bool {
        self.recomputes
    }

    /// The same, whose side paths are multiplied with `factor`.
    #[must_use]
    pub fn with_side_factor(self, factor: f32) -> Self {
        Self { side_factor: factor, ..self }
    }

    /// What side paths are multiplied with.
    pub fn side_factor(&self) -> f32 {
        self.side_factor
    }

    /// Sizes and constants of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kernel that computes its operations on a CPU.
    pub(crate) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// What a forward pass rounds.
    pub fn quantization(&self) -> FakeQuantization {
        self.quantization
    }

    /// Rounds differently from now on.
    pub fn set_quantization(&mut self, quantization: FakeQuantization) {
        self.quantization = quantization;
    }

    /// The mean loss of a batch in nats per target. `leaves` are the values of `parameters` in their order, as tensors of a
    /// graph.
    ///
    /// # Panics
    /// When an id is not in the vocabulary, or sequences are longer than the context.
    pub fn loss(&self, parameters: &Parameters, leaves: &[Tensor<2>], batch: &Minibatch) -> Tensor<1> {
        let Heard { hidden, head, .. } = self.heard(parameters, leaves, batch, None);
        ops::cross_entropy(self.kernel, hidden, head, batch.counted_targets())
    }

    /// A pass of a batch, as losses ask for it; `tapped` is a block whose states are wanted.
    pub(crate) fn heard(
        &self,
        parameters: &Parameters,
        leaves: &[Tensor<2>],
        batch: &Minibatch,
        tapped: Option<usize>,
    ) -> Heard {
        let given = Given { parameters, leaves };
        let (hidden, states) = self.hidden(given, batch, tapped);
        let hidden = match batch.counted() == batch.targets.len() {
            true => hidden,
            false => {
                let counted = (0..).zip(batch.targets.iter()).filter(|(_, target)| target.is_some());
                ops::embedding(hidden, counted.map(|(row, _)| row).collect())
            }
        };
        Heard { hidden, head: self.head(given), states }
    }

    /// The logits of every position, `[sequences * positions, vocab]`.
    ///
    /// # Panics
    /// As [`Transformer::loss`].
    pub fn logits(&self, parameters: &Parameters, leaves: &[Tensor<2>], batch: &Minibatch) -> Tensor<2> {
        let given = Given { parameters, leaves };
        self.hidden(given, batch, None).0.matmul(self.head(given).transpose())
    }

    fn head(&self, given: Given<'_>) -> Tensor<2> {
        given.leaf(if self.config.tied_head { Part::Embedding } else { Part::Head })
    }

    /// The vectors in front of the head, and the states of the `tapped` block.
    fn hidden(
        &self,
        given: Given<'_>,
        batch: &Minibatch,
        tapped: Option<usize>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
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
        let mut x = ops::embedding(given.leaf(Part::Embedding), batch.ids.clone());
        let mut states = None;
        for layer in 0..self.config.layers {
            let place = Place { layer, heads: heads.clone() };
            x = if tapped == Some(layer) {
                let qkv = self.run(Self::attended_to, &place, vec![x.clone()], given);
                states = Some(qkv.clone());
                self.run(Self::rest, &place, vec![x, qkv], given)
            } else {
                self.run(Self::block, &place, vec![x], given)
            };
        }
        (ops::rms_norm(self.kernel, x, given.leaf(Part::FinalNorm), self.config.norm_eps), states)
    }

    /// `piece(inputs)`; where blocks are computed again for their backward, so that this one is.
    fn run(&self, piece: Piece, place: &Place, mut inputs: Vec<Tensor<2>>, given: Given<'_>) -> Tensor<2> {
        if !self.recomputes {
            return piece(self, place, &inputs, given);
        }
        let layer = place.layer;
        let here = |p: &Parameter| matches!(p.part, Part::Weight(l, _) | Part::Norm(l, _) if l == layer);
        let list = given.parameters.list().iter().enumerate();
        let places: Vec<usize> = list.filter(|(_, p)| here(p)).map(|(at, _)| at).collect();
        let own = inputs.len();
        inputs.extend(places.iter().map(|&at| given.leaves[at].clone()));
        // The block looks at its own parameters only: the others' places are held by their values.
        let (model, place, parameters) = (self.clone(), place.clone(), given.parameters.clone());
        let others: Vec<Tensor<2>> =
            parameters.list().iter().map(|p| Tensor::from_inner(p.values.clone())).collect();
        let again = move |inputs: &[Tensor<2>]| {
            let mut leaves = others.clone();
            places.iter().zip(&inputs[own..]).for_each(|(&at, input)| leaves[at] = input.clone());
            let given = Given { parameters: &parameters, leaves: &leaves };
            piece(&model, &place, &inputs[..own], given)
        };
        ops::recompute(Arc::new(again), &inputs)
    }

    /// A block of its input.
    fn block(&self, place: &Place, inputs: &[Tensor<2>], given: Given<'_>) -> Tensor<2> {
        let qkv = self.attended_to(place, inputs, given);
        self.rest(place, &[inputs[0].clone(), qkv], given)
    }

    /// Queries, keys and values of a block's input.
    fn attended_to(&self, &Place { layer, .. }: &Place, inputs: &[Tensor<2>], given: Given<'_>) -> Tensor<2> {
        let normed = self.norm(layer, inputs[0].clone(), Norm::Attention, given);
        let qkv = self.linear(layer, normed, &[Projection::Query, Projection::Key, Projection::Value], given);
        if self.config.qk_norms { self.qk_norms(layer, qkv, given) } else { qkv }
    }

    /// What a block makes of its input and its queries, keys and values.
    fn rest(&self, place: &Place, inputs: &[Tensor<2>], given: Given<'_>) -> Tensor<2> {
        let (x, qkv, layer) = (inputs[0].clone(), inputs[1].clone(), place.layer);
        let linear = |x, list: &[Projection]| self.linear(layer, x, list, given);
        let sub_norm = |x, which| if self.config.sub_norms { self.norm(layer, x, which, given) } else { x };
        let attended = sub_norm(ops::attention(self.kernel, qkv, &place.heads), Norm::AttentionSub);
        let x = x + linear(attended, &[Projection::Output]);
        let normed = self.norm(layer, x.clone(), Norm::Ffn, given);
        let gated = ops::gate(linear(normed, &[Projection::Gate, Projection::Up]), self.config.activation);
        x + linear(sub_norm(gated, Norm::FfnSub), &[Projection::Down])
    }

    fn norm(&self, layer: usize, x: Tensor<2>, which: Norm, given: Given<'_>) -> Tensor<2> {
        ops::rms_norm(self.kernel, x, given.leaf(Part::Norm(layer, which)), self.config.norm_eps)
    }

    /// Projections of one input, side by side, each with its side path if it has one.
    fn linear(&self, layer: usize, x: Tensor<2>, list: &[Projection], given: Given<'_>) -> Tensor<2> {
        let part = |p: &Projection| Part::Weight(layer, *p);
        let weights: Vec<Tensor<2>> = list.iter().map(|p| given.leaf(part(p))).collect();
        let y = ops::linear(self.kernel, x.clone(), &weights, self.quantization);
        if list.iter().all(|p| given.side_path(part(p)).is_none()) {
            return y;
        }
        let sides = list.iter().zip(&weights).map(|(p, w)| match given.side_path(part(p)) {
            Some([down, up]) => ops::side_path(x.clone(), down, up, self.side_factor),
            None => Tensor::zeros([x.dims()[0], w.dims()[0]], &x.device()),
        });
        y + Tensor::cat(sides.collect(), 1)
    }

    /// The norms of every query and key head.
    fn qk_norms(&self, layer: usize, qkv: Tensor<2>, given: Given<'_>) -> Tensor<2> {
        let c = &self.config;
        let tokens = qkv.dims()[0];
        let (q_width, kv_width) = (c.q_width(), c.kv_width());
        let normed = |first: usize, width: usize, which| {
            let heads =
                qkv.clone().narrow(1, first, width).reshape([tokens * width / c.head_dim, c.head_dim]);
            let weight = given.leaf(Part::Norm(layer, which));
            ops::rms_norm(self.kernel, heads, weight, c.norm_eps).reshape([tokens, width])
        };
        let (q, k) = (normed(0, q_width, Norm::Query), normed(q_width, kv_width, Norm::Key));
        Tensor::cat(vec![q, k, qkv.clone().narrow(1, q_width + kv_width, kv_width)], 1)
    }
}

fn missing(part: Part) -> ! {
    panic!("the parameters are those of another configuration: {part:?} is missing")
}
