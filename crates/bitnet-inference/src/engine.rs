//! A loaded model and what belongs to it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bitnet_core::{HybridMemoryPool, MemoryUse, Purpose, ThreadPool};
use bitnet_cpu::{Cpu, HeadChoice, KvType};
use bitnet_decoder::{Model, Runner, RunnerOptions};
use bitnet_device::{PageUse, ScreenCounts};
use bitnet_format::{Checkpoint, Metadata, OpenOptions};
use bitnet_kernels::Kernel;
use bitnet_model::{ActivationChoice, Config, Layout, PartSource, Sparsity, Wishes};
use bitnet_quant::Activations;
use bitnet_source::{Adapted, Adapter, Source};
use bitnet_text::{ChatTemplate, Tokenizer};

use crate::{
    EngineError, Runs, SamplingDefaults, SamplingMemory, Tuning, tuning::granted_threads, vocabulary,
};

/// Bytes of matrices read so far and in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Read so far.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// Who is told of progress.
pub type OnProgress = Arc<dyn Fn(LoadProgress) + Send + Sync>;

/// How a model is loaded. `LoadOptions::default()` is right for most.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// Threads, the caller's included; all that the machine grants when `None`.
    pub threads: Option<usize>,
    /// Name of the kernel to use; the variable `BITNET_KERNEL`, else the best one, when `None`.
    pub kernel: Option<String>,
    /// What projections are multiplied with.
    pub activations: ActivationChoice,
    /// In how many bits ternary projections are held. Two, when nobody says: where base 3 wins is for measurements to say.
    pub layout: Layout,
    /// Whether feed-forward layers of squared ReLU leave out what is exactly 0. When nobody says, those do whose
    /// `open_gates` are few enough; matrices of mapped `.bitnet` files stay as they are, since laying them out anew takes
    /// longer than a short answer.
    pub sparsity: Sparsity,
    /// The share of gates that are open in each block, as [`InferenceEngine::open_gates`] has measured it on this model.
    pub open_gates: Option<Arc<[f32]>>,
    /// Positions of a session; the model's own number, at most [`DEFAULT_CONTEXT`], when `None`.
    pub context: Option<usize>,
    /// Bytes of keys and values that all sessions together may hold; as many as memory has room for when `None`.
    pub kv_bytes: Option<usize>,
    /// How keys and values are kept. [`KvType::F32`] is what other software's logits are compared with.
    pub kv: KvType,
    /// What was measured to be fastest on this machine; see [`crate::tune`].
    pub tuning: Tuning,
    /// Whether the head is screened. Results do not depend on it.
    pub head: HeadChoice,
    /// A directory with side paths to put beside the model's projections ([`bitnet_source::Adapter`]).
    pub adapter: Option<PathBuf>,
    /// I2_S tensors are in the 64/16 layout of ARM builds of bitnet.cpp.
    pub i2s_64: bool,
    /// Told of progress.
    pub progress: Option<OnProgress>,
}

/// Positions of a session when nobody says: enough to talk, little enough to fit beside any model.
pub const DEFAULT_CONTEXT: usize = 4096;

/// What an engine runs and what it took.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    /// Full name of the kernel.
    pub kernel: &'static str,
    /// Threads, the caller's included.
    pub threads: usize,
    /// What ternary projections are multiplied with.
    pub activations: Activations,
    /// Whether any matrix of the model is multiplied with those; dense ones take floats.
    pub rounds_activations: bool,
    /// Positions of a session.
    pub context: usize,
    /// Bytes of matrices that the pool holds (mapped ones are not in it).
    pub weights: MemoryUse,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Blocks that leave out zeros.
    pub skipping_blocks: usize,
}

pub(crate) struct Inner {
    runs: Box<dyn Runs>,
    config: Config,
    kernel: &'static Kernel,
    memory: HybridMemoryPool,
    threads: usize,
    skipping_blocks: usize,
    rounds_activations: bool,
    /// Where tokens are chosen, for all sessions.
    pub(crate) sampling: Mutex<SamplingMemory>,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
    /// Names of templates where there are several and none is the default.
    template_names: Vec<String>,
    /// What ends a generation.
    stops: Vec<u32>,
    /// What the files suggest, or what is wrong with it, which matters to those who ask.
    sampling_defaults: Result<SamplingDefaults, String>,
    context: usize,
    pub(crate) prefill: usize,
    activations: Activations,
    file_bytes: u64,
}

/// A loaded model. Cloning shares it; sessions are opened from it.
///
/// ```no_run
/// use bitnet_inference::{GenerateOptions, InferenceEngine, LoadOptions};
///
/// # fn main() -> Result<(), bitnet_inference::EngineError> {
/// let engine = InferenceEngine::load("path/to/model", &LoadOptions::default())?;
/// let mut session = engine.session()?;
/// for piece in session.generate("First Citizen:", &GenerateOptions::default())? {
///     print!("{}", piece?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InferenceEngine {
    pub(crate) inner: Arc<Inner>,
}

impl InferenceEngine {
    /// Loads a model from a directory or a file of any known form.
    ///
    /// # Errors
    /// When the file is not a ternary model that this engine runs, says so with the cure; when memory is short.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, EngineError> {
        let checkpoint = bitnet_source::open(path, &OpenOptions::default().i2s_64(options.i2s_64))?;
        Self::from_checkpoint(checkpoint, options)
    }

    /// Loads a model from an opened checkpoint.
    ///
    /// # Errors
    /// As [`InferenceEngine::load`].
    pub fn from_checkpoint(checkpoint: Checkpoint, options: &LoadOptions) -> Result<Self, EngineError> {
        Self::from_source(Source::new(checkpoint)?, options)
    }

    /// Loads a model whose configuration somebody has looked at already (to find its tuning, for instance).
    ///
    /// # Errors
    /// As [`InferenceEngine::load`].
    pub fn from_source(source: Source, options: &LoadOptions) -> Result<Self, EngineError> {
        let kernel = bitnet_kernels::select(options.kernel.as_deref())?;
        let tuning = options.tuning;
        let threads =
            Arc::new(ThreadPool::new(options.threads.or(tuning.threads).unwrap_or_else(granted_threads)));
        let tokenizer = vocabulary::tokenizer(source.checkpoint())?;
        let template = vocabulary::chat_template(source.checkpoint(), tokenizer.as_ref())?;
        let template_names = vocabulary::template_names(source.checkpoint()).to_vec();
        let stops = vocabulary::stop_tokens(source.checkpoint(), source.config(), tokenizer.as_ref());
        let sampling_defaults = SamplingDefaults::of(source.checkpoint()).map_err(|e| e.to_string());
        let memory = HybridMemoryPool::new();
        let device = Cpu::new(kernel, threads.clone(), memory.clone())
            .with_kv(options.kv)
            .rows_per_chunk(tuning.rows_per_chunk)
            .copying_mapped(tuning.huge_pages)
            .with_head(options.head);
        let progress = |done, total| {
            if let Some(report) = &options.progress {
                report(LoadProgress { done, total });
            }
        };
        let activations = source.config().activations(options.activations);
        let file_bytes = source.checkpoint().file_bytes();
        let wishes = wishes(&source, options);
        let load = |parts: &dyn PartSource| {
            Model::load(parts, device, &threads, options.activations, &wishes, &progress)
        };
        let model = match &options.adapter {
            Some(path) => {
                let adapter = Adapter::open(path, source.config())?;
                load(&Adapted::new(&source, &adapter))?
            }
            None => load(&source)?,
        };
        let context = options.context.unwrap_or(model.config().context.min(DEFAULT_CONTEXT)).max(1);
        let prefill = tuning.prefill.clamp(1, context);
        let (config, skipping_blocks) = (model.config().clone(), model.skipping_blocks());
        let rounds_activations = model.rounds_activations();
        let room = RunnerOptions { tokens: prefill, context, kv_bytes: options.kv_bytes };
        let engine = Self {
            inner: Arc::new(Inner {
                runs: Box::new(Mutex::new(Runner::new(model, room)?)),
                kernel,
                memory,
                threads: threads.threads(),
                skipping_blocks,
                rounds_activations,
                sampling: Mutex::new(SamplingMemory::new(config.vocab)),
                config,
                tokenizer,
                template,
                template_names,
                stops,
                sampling_defaults,
                context,
                prefill,
                activations,
                file_bytes,
            }),
        };
        let EngineInfo { kernel, threads, weights, skipping_blocks, .. } = engine.info();
        let bytes = weights.current;
        tracing::info!(kernel, threads, bytes, skipping_blocks, "model loaded");
        Ok(engine)
    }

    /// Sizes and constants of the model.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The model's tokenizer, if it came with one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.inner.tokenizer.as_ref()
    }

    /// The model's chat template, if it came with one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.inner.template.as_ref()
    }

    /// The model's chat template and tokenizer, for a conversation.
    ///
    /// # Errors
    /// [`EngineError::NoTokenizer`], [`EngineError::NoChatTemplate`], and [`EngineError::NamedTemplates`] where there are several
    /// and none is the default.
    pub fn chat(&self) -> Result<(&Tokenizer, &ChatTemplate), EngineError> {
        let tokenizer = self.tokenizer().ok_or(EngineError::NoTokenizer)?;
        let names = &self.inner.template_names;
        let missing = || match &names[..] {
            [] => EngineError::NoChatTemplate,
            names => EngineError::NamedTemplates { names: names.join(", ") },
        };
        Ok((tokenizer, self.chat_template().ok_or_else(missing)?))
    }

    /// The tokens that end a generation, ascending; see [`vocabulary::stop_tokens`].
    pub fn stop_tokens(&self) -> &[u32] {
        &self.inner.stops
    }

    /// How the model's files suggest that its next token be chosen.
    ///
    /// # Errors
    /// [`EngineError::Sampling`] where they suggest what cannot be.
    pub fn sampling_defaults(&self) -> Result<SamplingDefaults, EngineError> {
        self.inner.sampling_defaults.clone().map_err(EngineError::Sampling)
    }

    /// The kernel in use.
    pub fn kernel(&self) -> &'static Kernel {
        self.inner.kernel
    }

    /// What runs, and what it took.
    pub fn info(&self) -> EngineInfo {
        let inner = &self.inner;
        EngineInfo {
            kernel: inner.kernel.name(),
            threads: inner.threads,
            activations: inner.activations,
            context: inner.context,
            weights: inner.memory.usage(Purpose::Weights),
            file_bytes: inner.file_bytes,
            skipping_blocks: inner.skipping_blocks,
            rounds_activations: inner.rounds_activations,
        }
    }

    /// The pool that holds weights, state and caches.
    pub fn memory(&self) -> &HybridMemoryPool {
        &self.inner.memory
    }

    /// What the pages of keys and values are used for, over all sessions.
    pub fn pages(&self) -> PageUse {
        self.inner.runs.pages()
    }

    /// How often the head was screened, and how often that was not enough, over all sessions.
    pub fn screen_counts(&self) -> ScreenCounts {
        self.inner.runs.screen_counts()
    }

    /// What runs the model, for those who make steps of several sequences themselves.
    pub fn runs(&self) -> &dyn Runs {
        &*self.inner.runs
    }

    /// Positions of a session.
    pub fn context(&self) -> usize {
        self.inner.context
    }

    /// Ids of a text, with the token that begins a text when the model wants one. Control tokens in it stay text.
    ///
    /// # Errors
    /// [`EngineError::NoTokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let tokenizer = self.tokenizer().ok_or(EngineError::NoTokenizer)?;
        let options = bitnet_text::EncodeOptions { add_special: true, parse_special: false };
        Ok(tokenizer.encode(text, options)?)
    }
}

/// What the options and the tuning ask of the plan of layouts.
fn wishes(source: &Source, options: &LoadOptions) -> Wishes {
    Wishes {
        layout: options.layout,
        base3_is_faster: options.tuning.base3,
        sparsity: options.sparsity,
        open_gates: options.open_gates.clone(),
        mapped: matches!(source.checkpoint().metadata(), Metadata::Bitnet(_)),
    }
}
