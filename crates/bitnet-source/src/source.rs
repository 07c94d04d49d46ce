//! A model's parts, read from a checkpoint through its family's table of names.

use bitnet_format::{Checkpoint, Metadata, TensorInfo, TensorType, recognize_ternary};
use bitnet_model::{Config, ModelError, Part, PartSource, Projection, Weight};
use bitnet_quant::{Scales, ScreenTable};

use crate::{
    error::SourceError,
    family::{
        LLAMA,
        bitnet_file::{self, Entry, Form},
        gguf,
        hadamard::{self, Contract},
        huggingface::{self, Quantization, ScaleMeaning},
    },
    table::table,
};

mod accounts;
mod arrangement;
mod biases;
mod finite;
pub(crate) mod learned;
mod names;
mod projection;
mod shapes;

/// A checkpoint, its configuration, and how its tensors are named and meant.
pub struct Source {
    checkpoint: Checkpoint,
    config: Config,
    convention: Convention,
    /// What stands before every name, where a wrapper has left its own there.
    prefix: String,
    /// Whether the class has biases of attention's inputs, of its output, of the feed-forward layer. GGUF has no word for them
    /// but the tensors themselves.
    biases: [bool; 3],
    /// Which matrices are in the basis of the configuration's fold, where it has one.
    contract: Option<Contract>,
    /// Blocks behind those of the decoder, which draft tokens.
    drafting: usize,
}

/// How tensors are named and meant.
enum Convention {
    /// `transformers`, with what `quantization_config` says.
    HuggingFace(Option<Quantization>),
    /// llama.cpp; `interleaved` when the converter has permuted queries and keys.
    Gguf { interleaved: bool },
    /// Our own file.
    Bitnet,
}

impl Source {
    /// Reads the configuration and checks that every part is there with its shape, and that nothing else is there that would
    /// change what the model computes.
    ///
    /// # Errors
    /// When the model is of no known family, a value is impossible, a tensor is missing or misshapen, or one is left over
    /// ([`SourceError::Unread`]).
    pub fn new(checkpoint: Checkpoint) -> Result<Self, SourceError> {
        let source = Self::to_look_at(checkpoint)?;
        match source.refused() {
            Some(error) => Err(error),
            None => Ok(source),
        }
    }

    /// The same without the last of these checks, to tell what a file holds that will not run: [`Source::refused`] is the
    /// error, and [`Source::unread`] lists the tensors.
    ///
    /// # Errors
    /// As [`Source::new`], what is left over excepted.
    pub fn to_look_at(checkpoint: Checkpoint) -> Result<Self, SourceError> {
        let mut contract = None;
        let (mut config, convention) = match checkpoint.metadata() {
            Metadata::HuggingFace(m) => {
                hadamard::refuse_beside(checkpoint.files())?;
                let (config, quantization) = huggingface::config(&m.config, m.generation_config.as_ref())?;
                (config, Convention::HuggingFace(quantization))
            }
            Metadata::Bitnet(m) => {
                let (mut config, _) = huggingface::config(&m.hf.config, m.hf.generation_config.as_ref())?;
                config.trained_int8 = bitnet_file::trained_int8(m)?.unwrap_or(config.trained_int8);
                (config, Convention::Bitnet)
            }
            Metadata::Gguf(m) => {
                gguf::known(m)?;
                contract = Contract::of_gguf(m, |name| checkpoint.info(name).map(TensorInfo::cols))?;
                let config = Self::gguf_config(&checkpoint, m)?;
                let interleaved = config.family == LLAMA;
                (config, Convention::Gguf { interleaved })
            }
            other => {
                return Err(SourceError::config(
                    "metadata",
                    "GGUF, Hugging Face or .bitnet",
                    format!("{other:?}"),
                ));
            }
        };
        let prefix = match convention {
            Convention::HuggingFace(_) => names::prefix(&checkpoint)?,
            _ => String::new(),
        };
        let biases = match checkpoint.metadata() {
            Metadata::HuggingFace(m) => huggingface::biases(&m.config)?,
            Metadata::Bitnet(m) => huggingface::biases(&m.hf.config)?,
            _ => [true; 3],
        };
        let drafting = match checkpoint.metadata() {
            Metadata::Gguf(m) => gguf::drafting_blocks(m)?,
            _ => 0,
        };
        config.fold = contract.as_ref().map(|contract| contract.fold().clone());
        let mut source = Self { checkpoint, config, convention, prefix, biases, contract, drafting };
        source.check_parts_are_here()?;
        source.tie()?;
        source.check_shapes()?;
        source.check_biases()?;
        source.check_scales_are_here()?;
        source.check_fold()?;
        Ok(source)
    }

    /// A transform mixes the inputs that a converter has put in another order, so they must stand in the model's before it.
    fn check_fold(&self) -> Result<(), SourceError> {
        let Some(contract) = &self.contract else { return Ok(()) };
        let outputs = self.projections().into_iter().filter(|(_, p)| *p == Projection::DeltaOutput);
        let mut parts = outputs.map(|(layer, p)| Part::Weight(layer, p));
        match parts.find(|&part| self.reorders_heads() && self.is_folded(part) != contract.gdn_v_grouped()) {
            None => Ok(()),
            Some(part) => Err(SourceError::config(
                "prism.hadamard.gdn_v_grouped",
                format!("true where '{}' is folded, and false where it is not", self.name(part)),
                contract.gdn_v_grouped(),
            )),
        }
    }

    /// A file without a head means the embedding, unless its configuration says that it does not.
    fn tie(&mut self) -> Result<(), SourceError> {
        if self.has(Part::Head) {
            return Ok(());
        }
        let key = "tie_word_embeddings";
        let said =
            |json: &serde_json::Value| huggingface::hybrid::text(json).get(key).or(json.get(key)).cloned();
        let said = self.config_json().and_then(said);
        if said == Some(serde_json::Value::Bool(false)) {
            return Err(SourceError::config(
                "head",
                format!(
                    "a tensor '{}', since config.json says that tie_word_embeddings is false",
                    self.name(Part::Head)
                ),
                "none; set tie_word_embeddings to true if the embedding is the head",
            ));
        }
        self.config.tied_head = true;
        Ok(())
    }

    /// The `config.json` of a file that has one.
    fn config_json(&self) -> Option<&serde_json::Value> {
        match self.checkpoint.metadata() {
            Metadata::HuggingFace(m) => Some(&m.config),
            Metadata::Bitnet(m) => Some(&m.hf.config),
            _ => None,
        }
    }

    fn gguf_config(
        checkpoint: &Checkpoint,
        metadata: &bitnet_format::GgufMetadata,
    ) -> Result<Config, SourceError> {
        gguf::known(metadata)?;
        let missing = |name: String| SourceError::missing(name);
        let embedding = gguf::name(Part::Embedding);
        let vocab = checkpoint.info(&embedding).ok_or_else(|| missing(embedding))?.rows();
        let divisors = match checkpoint.info("rope_freqs.weight") {
            Some(_) => Some(checkpoint.tensor("rope_freqs.weight")?.to_f32()?),
            None => None,
        };
        let first = gguf::name(Part::Weight(0, Projection::Query));
        let fine = match checkpoint.info(&first) {
            Some(info) if info.ty().is_ternary() => {
                !matches!(checkpoint.tensor(&first)?.to_ternary()?.scales(), Scales::Tensor(_))
            }
            // Dense projections come from no training with int8 activations.
            Some(info) if info.ty().is_float() => recognize_ternary(&checkpoint.tensor(&first)?)?.is_none(),
            Some(_) => true,
            None => false,
        };
        let head = checkpoint.info(&gguf::name(Part::Head)).is_some();
        let input_norms = checkpoint.info(&gguf::name(Part::InputNorm(0, Projection::Query))).is_some();
        gguf::config(metadata, vocab, head, input_norms, divisors, fine)
    }

    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Refuses a model that has more than plain attention in its blocks, for `task`, which knows nothing else.
    ///
    /// # Errors
    /// [`SourceError::OnlyRuns`].
    pub fn must_be_plain(&self, task: &'static str) -> Result<(), SourceError> {
        match self.config.peculiarity() {
            Some(what) => Err(SourceError::OnlyRuns { what, task }),
            None => Ok(()),
        }
    }

    /// The files underneath.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The name of `part` in the file, or the name that it should have.
    pub fn name(&self, part: Part) -> String {
        let mut names = self.names(part);
        let present = names.iter().position(|name| self.holds(name));
        names.swap_remove(present.unwrap_or(0))
    }

    /// The names that `part` may have, most usual first.
    fn names(&self, part: Part) -> Vec<String> {
        match self.convention {
            Convention::HuggingFace(_) | Convention::Bitnet => names::with(&self.prefix, part),
            Convention::Gguf { .. } => vec![gguf::name_in(self.config.family, part)],
        }
    }

    /// Whether the file has `part`.
    pub fn has(&self, part: Part) -> bool {
        self.holds(&self.name(part))
    }

    fn holds(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some() || matches!(self.entry(name), Ok(Some(_)) | Err(_))
    }

    /// Bytes of `part` in the file.
    pub fn byte_len(&self, part: Part) -> u64 {
        let name = self.name(part);
        let stored = match self.entry(&name) {
            Ok(Some(entry)) => entry.tensors(&name),
            _ => vec![name],
        };
        let len = |name: &String| self.checkpoint.info(name).map_or(0, |info| info.byte_len() as u64);
        stored.iter().map(len).sum()
    }

    /// How `part` is stored, in words.
    pub fn stored_as(&self, part: Part) -> String {
        let name = self.name(part);
        match self.checkpoint.info(&name) {
            Some(info) if info.ty() == TensorType::U8 => "packed U8".into(),
            Some(info) => info.ty().to_string(),
            None => match self.entry(&name) {
                Ok(Some(Entry { form: Form::Blocks(ty), .. })) => ty.to_string(),
                Ok(Some(Entry { form: Form::Planes(_), .. })) => "t2 strips, two planes".into(),
                _ => "t2 strips".into(),
            },
        }
    }

    /// Every matrix of the model, in the order in which a token meets them.
    pub fn matrices(&self) -> impl Iterator<Item = Part> + use<> {
        Part::matrices(&self.config)
    }

    /// Every vector that a model of this configuration must or may have.
    pub fn vectors(&self) -> Vec<Part> {
        let optional = |part: &Part| matches!(part, Part::Bias(..) | Part::InputNorm(..));
        self.possible_vectors().filter(|part| !optional(part) || self.has(*part)).collect()
    }

    /// The same, whether or not the file has those that it may have.
    fn possible_vectors(&self) -> impl Iterator<Item = Part> {
        let projections = self.projections();
        let biases = projections.iter().filter(|(_, p)| self.biases[biases::group(*p)]);
        let inputs = projections.iter().filter(|_| self.config.input_norm_eps.is_some());
        let biases: Vec<Part> = biases.map(|&(l, p)| Part::Bias(l, p)).collect();
        let inputs: Vec<Part> = inputs.map(|&(l, p)| Part::InputNorm(l, p)).collect();
        Part::vectors(&self.config).into_iter().chain(biases).chain(inputs)
    }

    /// Every projection, and the block that it belongs to.
    fn projections(&self) -> Vec<(usize, Projection)> {
        let of =
            |layer| Projection::of(&self.config, layer).iter().map(move |&projection| (layer, projection));
        (0..self.config.layers).flat_map(of).collect()
    }

    fn entry(&self, name: &str) -> Result<Option<Entry>, SourceError> {
        match self.checkpoint.metadata() {
            Metadata::Bitnet(m) => bitnet_file::entry(m, name),
            _ => Ok(None),
        }
    }

    /// A vector as f32, or `None` when the file has none (biases are optional).
    ///
    /// # Errors
    /// When its bytes cannot be read as floats.
    pub fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, SourceError> {
        let name = self.name(part);
        if self.checkpoint.info(&name).is_none() {
            return Ok(None);
        }
        let values = self.checkpoint.tensor(&name)?.to_f32()?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(SourceError::NotFinite { name });
        }
        let mut values = self.arranged_vector(part, values)?;
        if let Part::Bias(layer, projection) = part {
            if let Some(order) = self.row_order(projection) {
                let rows = order.iter().map(|&row| values.get(row).copied()).collect::<Option<_>>();
                values =
                    rows.ok_or_else(|| SourceError::shape(name, &self.stored_shape(part), &[values.len()]))?;
            }
            // `autobitlinear` adds the bias before it multiplies with the weight's scale (transformers, AutoBitLinear).
            if self.meaning() == Some(ScaleMeaning::Multiply)
                && let Some(scale) = self.stored_scale(&self.name(Part::Weight(layer, projection)))?
            {
                values.iter_mut().for_each(|v| *v *= scale);
            }
        }
        Ok(Some(values))
    }

    /// The int8 copy of the head, if the file has one; without it, it is made when the model is loaded.
    ///
    /// # Errors
    /// When it is not the copy of a head of this shape.
    pub fn screen(&self) -> Result<Option<ScreenTable>, SourceError> {
        match self.convention {
            Convention::Bitnet => {
                let head = if self.config.tied_head { Part::Embedding } else { Part::Head };
                let shape = [self.config.vocab, self.config.hidden];
                bitnet_file::screen(&self.checkpoint, &self.name(head), shape)
            }
            _ => Ok(None),
        }
    }

    fn meaning(&self) -> Option<ScaleMeaning> {
        match &self.convention {
            Convention::HuggingFace(Some(q)) => Some(q.scale),
            _ => None,
        }
    }

    /// A matrix in its exact form.
    ///
    /// # Errors
    /// When the tensor cannot be read, holds numbers that are not finite, or holds no trits and nothing says that it should
    /// not.
    pub fn weight(&self, part: Part) -> Result<Weight, SourceError> {
        let weight = self.arranged(part, self.weight_as_stored(part)?)?;
        match &weight {
            Weight::Table(table) if !finite::is_finite(table) => {
                Err(SourceError::NotFinite { name: self.name(part) })
            }
            _ => Ok(weight),
        }
    }

    fn weight_as_stored(&self, part: Part) -> Result<Weight, SourceError> {
        let name = self.name(part);
        if let Some(entry) = self.entry(&name)? {
            return entry.read(&self.checkpoint, &name);
        }
        let view = self.checkpoint.tensor(&name)?;
        let ty = view.info().ty();
        let weight = match (&self.convention, part) {
            (Convention::HuggingFace(quantization), _) if ty == TensorType::U8 => {
                self.unpack(&view, &name, quantization.as_ref(), self.stored_shape(part)[0])?
            }
            (Convention::HuggingFace(q), Part::Weight(layer, p)) => {
                self.float_projection(&view, &name, q.as_ref(), &huggingface::module(layer, p))?
            }
            (Convention::HuggingFace(Some(q)), Part::Head) if q.online && q.head => {
                self.float_projection(&view, &name, Some(q), "lm_head")?
            }
            (Convention::Gguf { .. }, Part::Weight(layer, p)) => {
                self.gguf_projection(&view, &name, layer, p)?
            }
            (Convention::Bitnet, _) => Weight::Table(table(&view)?),
            _ if ty.is_ternary() => Weight::Ternary(view.to_ternary()?),
            // Models without a quantization of their own may be ternary throughout (Ternary-Bonsai's embedding is).
            _ if ty.is_float() && !self.config.trained_int8 => match recognize_ternary(&view)? {
                Some(trits) => Weight::Ternary(trits),
                None => Weight::Table(table(&view)?),
            },
            _ => Weight::Table(table(&view)?),
        };
        Ok(weight)
    }
}

impl PartSource for Source {
    fn config(&self) -> &Config {
        self.config()
    }

    fn name(&self, part: Part) -> String {
        self.name(part)
    }

    fn byte_len(&self, part: Part) -> u64 {
        self.byte_len(part)
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        Ok(self.weight(part)?)
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        Ok(self.vector(part)?)
    }

    fn is_folded(&self, part: Part) -> bool {
        let Some(contract) = &self.contract else { return false };
        let name = self.name(part);
        // A head that is the embedding takes transformed inputs where the embedding's rows are transformed back.
        if part == Part::Embedding { contract.inverts(&name) } else { contract.folds(&name) }
    }

    fn screen(&self) -> Result<Option<ScreenTable>, ModelError> {
        Ok(self.screen()?)
    }
}
