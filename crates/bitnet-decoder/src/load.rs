//! From a source to a model on a device.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bitnet_core::ThreadPool;
use bitnet_quant::Activations;

use crate::{
    BitLinear, Block, DecoderError, Model, Weights,
    attention::Attention,
    decoder::{Ends, Mixer},
    delta_net::DeltaNet,
    feed_forward::FeedForward,
    linear::SidePath,
};
use bitnet_device::{Device, Screening};
use bitnet_model::{
    self as model, ActivationChoice, Facts, LayoutPlan, MatrixForm, ModelError, Norm, Part, PartSource,
    Projection, Weight, Wishes,
};

/// Called with the bytes read so far and in all.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Where a thread leaves the matrix that it has read.
type Slot<M> = Mutex<Option<Result<M, DecoderError>>>;

impl<D: Device> Model<D> {
    /// Reads every part of `source` and puts it on `device`, matrices on all of `threads`, each in the form that `wishes` lead to.
    ///
    /// # Errors
    /// The first part that cannot be read, or that the device cannot hold or multiply.
    pub fn load(
        source: &dyn PartSource,
        device: D,
        threads: &ThreadPool,
        choice: ActivationChoice,
        wishes: &Wishes,
        progress: Progress<'_>,
    ) -> Result<Self, DecoderError> {
        let config = source.config().clone();
        let form = config.activations(choice);
        let plan = LayoutPlan::new(&config, form, wishes);
        let parts: Vec<Part> = Part::matrices(&config).collect();
        if let Some(&part) = parts.iter().find(|&&part| config.fold.is_none() && source.is_folded(part)) {
            let name = source.name(part);
            return Err(ModelError::config(
                name,
                "the model's own basis, since it has no fold",
                "a folded matrix",
            )
            .into());
        }
        let loaded: Vec<Slot<D::Matrix>> = parts.iter().map(|_| Mutex::new(None)).collect();
        let size = |part: Part| source.byte_len(part);
        let total = parts.iter().map(|&part| size(part)).sum();
        let done = AtomicU64::new(0);
        threads.for_each(parts.len(), |i| {
            let matrix = source.weight(parts[i]).map_err(DecoderError::from).and_then(|weight| {
                let form = planned(&plan, source, parts[i], &weight)?;
                Ok(device.matrix(parts[i], &source.name(parts[i]), weight, form)?)
            });
            *loaded[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(matrix);
            progress(done.fetch_add(size(parts[i]), Ordering::Relaxed) + size(parts[i]), total);
        });
        let mut matrices = loaded.into_iter().zip(&parts);
        let mut matrix = |part: Part| -> Result<D::Matrix, DecoderError> {
            // `Part::matrices` lists parts in the order in which they are taken here.
            let missing = || ModelError::MissingTensor { name: source.name(part) };
            let (slot, &found) = matrices.next().ok_or_else(missing)?;
            debug_assert_eq!(found, part);
            slot.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or_else(missing)?
        };
        let embedding = matrix(Part::Embedding)?;
        let reader = Reader { source, device: &device, form };
        let blocks = reader.blocks(&mut matrix)?;
        let head = if config.tied_head { None } else { Some(matrix(Part::Head)?) };
        let head_form = reader.form_of(head.as_ref().unwrap_or(&embedding));
        let head_part = if config.tied_head { Part::Embedding } else { Part::Head };
        let folded = Ends { embedding: source.is_folded(Part::Embedding), head: source.is_folded(head_part) };
        // A screen reads the rows as they are.
        let screen = match folded.head {
            true => None,
            false => D::Screen::of(&device, head.as_ref().unwrap_or(&embedding), source.screen()?)?,
        };
        let weights = Weights {
            side_rank: source.side_rank(),
            screen,
            head_form,
            final_norm: reader.vector(Part::FinalNorm)?,
            frequencies: device.vector(&config.rope.frequencies(config.rotary_dim))?,
            folded,
            embedding,
            blocks,
            head,
        };
        Ok(Self { config, device, weights })
    }
}

/// The form that `plan` names for `part`, whose matrix is `weight`.
fn planned(
    plan: &LayoutPlan,
    source: &dyn PartSource,
    part: Part,
    weight: &Weight,
) -> Result<MatrixForm, ModelError> {
    let Part::Weight(layer, projection) = part else { return Ok(MatrixForm::default()) };
    let added = source.side_path(layer, projection).is_some()
        || source.vector(Part::Bias(layer, projection))?.is_some();
    let facts =
        Facts { scales: weight.granularity(), added, input_norm: source.config().input_norm_eps.is_some() };
    Ok(plan.form(layer, projection, facts))
}

/// Reads the small parts and puts blocks together.
struct Reader<'a, D> {
    source: &'a dyn PartSource,
    device: &'a D,
    form: Activations,
}

impl<D: Device> Reader<'_, D> {
    fn vector(&self, part: Part) -> Result<D::Vector, DecoderError> {
        let missing = || ModelError::MissingTensor { name: self.source.name(part) };
        Ok(self.device.vector(&self.source.vector(part)?.ok_or_else(missing)?)?)
    }

    fn optional(&self, part: Part) -> Result<Option<D::Vector>, DecoderError> {
        Ok(self.source.vector(part)?.map(|values| self.device.vector(&values)).transpose()?)
    }

    /// Dense matrices take floats whatever trits take.
    fn form_of(&self, matrix: &D::Matrix) -> Activations {
        if self.device.is_ternary(matrix) { self.form } else { Activations::Float }
    }

    /// All blocks; `matrix` gives their matrices in the order of `Part::matrices`.
    fn blocks(
        &self,
        matrix: &mut impl FnMut(Part) -> Result<D::Matrix, DecoderError>,
    ) -> Result<Vec<Block<D>>, DecoderError> {
        let config = self.source.config();
        let (mut attention, mut recurrent) = (0, 0);
        let block = |layer| {
            let mut linear =
                |projection| self.linear(matrix(Part::Weight(layer, projection))?, layer, projection);
            let mixer = match config.mixer(layer) {
                model::Mixer::Attention => {
                    attention += 1;
                    Mixer::Attention(self.attention(attention - 1, layer, &mut linear)?)
                }
                model::Mixer::DeltaNet(_) => {
                    recurrent += 1;
                    Mixer::DeltaNet(self.delta_net(recurrent - 1, layer, &mut linear)?)
                }
            };
            Ok(Block {
                mixer,
                mixer_norm: self.vector(Part::Norm(layer, Norm::Attention))?,
                ffn_norm: self.vector(Part::Norm(layer, Norm::Ffn))?,
                ffn: FeedForward {
                    gate: linear(Projection::Gate)?,
                    up: linear(Projection::Up)?,
                    sub_norm: self.norm_if(config.sub_norms, layer, Norm::FfnSub)?,
                    down: linear(Projection::Down)?,
                },
            })
        };
        (0..config.layers).map(block).collect()
    }

    fn norm_if(&self, there: bool, layer: usize, norm: Norm) -> Result<Option<D::Vector>, DecoderError> {
        there.then(|| self.vector(Part::Norm(layer, norm))).transpose()
    }

    /// The attention of block `layer`, the one number `index`.
    fn attention(
        &self,
        index: usize,
        layer: usize,
        linear: &mut impl FnMut(Projection) -> Result<BitLinear<D>, DecoderError>,
    ) -> Result<Attention<D>, DecoderError> {
        let c = self.source.config();
        let qk_norms = match c.qk_norms {
            true => {
                let norm = |norm| self.vector(Part::Norm(layer, norm));
                Some((norm(Norm::Query)?, norm(Norm::Key)?))
            }
            false => None,
        };
        Ok(Attention {
            index,
            query: linear(Projection::Query)?,
            key: linear(Projection::Key)?,
            value: linear(Projection::Value)?,
            gate: c.gated_attention.then(|| linear(Projection::AttentionGate)).transpose()?,
            qk_norms,
            sub_norm: self.norm_if(c.sub_norms, layer, Norm::AttentionSub)?,
            output: linear(Projection::Output)?,
        })
    }

    /// The Gated DeltaNet of block `layer`, the one number `index`.
    fn delta_net(
        &self,
        index: usize,
        layer: usize,
        linear: &mut impl FnMut(Projection) -> Result<BitLinear<D>, DecoderError>,
    ) -> Result<DeltaNet<D>, DecoderError> {
        Ok(DeltaNet {
            index,
            input: linear(Projection::DeltaInput)?,
            gate: linear(Projection::DeltaGate)?,
            beta: linear(Projection::DeltaBeta)?,
            decay: linear(Projection::DeltaDecay)?,
            convolution: self.vector(Part::Convolution(layer))?,
            rate: self.vector(Part::DecayRate(layer))?,
            bias: self.vector(Part::DecayBias(layer))?,
            norm: self.vector(Part::Norm(layer, Norm::DeltaOutput))?,
            output: linear(Projection::DeltaOutput)?,
        })
    }

    /// The projection of which `weight` is the matrix.
    fn linear(
        &self,
        weight: D::Matrix,
        layer: usize,
        projection: Projection,
    ) -> Result<BitLinear<D>, DecoderError> {
        let config = self.source.config();
        let part = Part::Weight(layer, projection);
        let input_norm = match config.input_norm_eps {
            Some(_) => Some(self.vector(Part::InputNorm(layer, projection))?),
            None => None,
        };
        let side = match self.source.side_path(layer, projection) {
            Some([down, up]) => {
                let outputs = up.shape()[0];
                let place =
                    |weight| self.device.matrix(part, &self.source.name(part), weight, MatrixForm::default());
                Some(SidePath { down: place(down)?, up: place(up)?, outputs })
            }
            None => None,
        };
        Ok(BitLinear {
            side,
            form: self.form_of(&weight),
            folded: self.source.is_folded(part),
            bias: self.optional(Part::Bias(layer, projection))?,
            input_norm,
            input_norm_eps: config.input_norm_eps.unwrap_or(0.0),
            weight,
        })
    }
}
