//! The model that is measured.

use std::{path::Path, sync::Arc, time::Instant};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_cpu::{Cpu, HeadChoice, KvType};
use bitnet_decoder::{Model, Runner, RunnerOptions};
use bitnet_device::Watched;
use bitnet_format::OpenOptions;
use bitnet_kernels::Kernel;
use bitnet_model::{ActivationChoice, Layout, Sparsity, Wishes};
use bitnet_source::Source;

use crate::{BenchmarkError, ModelShape, Synthetic, breakdown::Clock};

/// What runs the model: the CPU, with a clock that looks when it is told to.
pub(crate) type Device = Watched<Cpu, Clock>;

/// How the model of a benchmark is loaded.
#[derive(Clone, Debug, Default)]
pub struct SubjectOptions {
    /// Name of the kernel; the variable `BITNET_KERNEL`, else the best one, when `None`.
    pub kernel: Option<String>,
    /// What projections are multiplied with.
    pub activations: ActivationChoice,
    /// In how many bits ternary projections are held; two when nobody says.
    pub layout: Layout,
    /// Whether and when the head is screened.
    pub head: HeadChoice,
    /// Whether feed-forward layers of squared ReLU leave out what is exactly 0.
    pub sparsity: Sparsity,
    /// The type that keys and values are kept in.
    pub kv: KvType,
    /// Threads that load and pack the model.
    pub threads: usize,
    /// I2_S tensors are in the 64/16 layout of ARM builds.
    pub i2s_64: bool,
}

/// A model, the memory it lies in, and what it is called.
pub struct Subject {
    pub(crate) name: String,
    pub(crate) synthetic: bool,
    pub(crate) kernel: &'static Kernel,
    pub(crate) pool: HybridMemoryPool,
    pub(crate) runner: Runner<Device>,
    pub(crate) file_bytes: u64,
    pub(crate) load_seconds: f64,
}

/// Room before anything is measured.
const SMALLEST: RunnerOptions = RunnerOptions { tokens: 1, context: 1, kv_bytes: None };

/// Told of the bytes read so far and in all.
pub type OnBytes<'a> = &'a (dyn Fn(u64, u64) + Sync);

impl Subject {
    /// The model in the files at `path`.
    ///
    /// # Errors
    /// When it is not a model that this engine runs.
    pub fn open(
        path: &Path,
        options: &SubjectOptions,
        progress: OnBytes<'_>,
    ) -> Result<Self, BenchmarkError> {
        let source = Source::new(bitnet_source::open(path, &OpenOptions::default().i2s_64(options.i2s_64))?)?;
        Self::from_source(source, options, progress)
    }

    /// The model of a source that somebody has opened already.
    ///
    /// # Errors
    /// As [`Subject::open`].
    pub fn from_source(
        source: Source,
        options: &SubjectOptions,
        progress: OnBytes<'_>,
    ) -> Result<Self, BenchmarkError> {
        let started = Instant::now();
        let path = source.checkpoint().path();
        let (device, threads) = device(options)?;
        let (kernel, pool) = (device.inner().kernel(), device.inner().pool().clone());
        let model = Model::load(&source, device, &threads, options.activations, &wishes(options), progress)?;
        let runner = Runner::new(model, SMALLEST)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let load_seconds = started.elapsed().as_secs_f64();
        let file_bytes = source.checkpoint().file_bytes();
        Ok(Self { name, synthetic: false, kernel, pool, runner, file_bytes, load_seconds })
    }

    /// A model of a published shape with random trits.
    ///
    /// # Errors
    /// When memory is short.
    pub fn synthetic(
        shape: ModelShape,
        options: &SubjectOptions,
        progress: OnBytes<'_>,
    ) -> Result<Self, BenchmarkError> {
        let started = Instant::now();
        let (device, threads) = device(options)?;
        let (kernel, pool) = (device.inner().kernel(), device.inner().pool().clone());
        let source = Synthetic::new(shape, pool.clone(), &threads);
        let model = Model::load(&source, device, &threads, options.activations, &wishes(options), progress)?;
        let runner = Runner::new(model, SMALLEST)?;
        let name = shape.name.to_owned();
        let load_seconds = started.elapsed().as_secs_f64();
        Ok(Self { name, synthetic: true, kernel, pool, runner, file_bytes: 0, load_seconds })
    }

    /// The model that is measured.
    pub(crate) fn model(&self) -> &Model<Device> {
        self.runner.model()
    }

    /// The model's name in rows and tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes `name` the model's name in every row.
    pub fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Whether the model's trits are random.
    pub fn is_synthetic(&self) -> bool {
        self.synthetic
    }

    /// The kernel that the model runs on.
    pub fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// Seconds that opening or making it took.
    pub fn load_seconds(&self) -> f64 {
        self.load_seconds
    }

    /// Gives the model `threads` threads.
    pub(crate) fn with_threads(&mut self, threads: usize) -> Result<Arc<ThreadPool>, BenchmarkError> {
        let team = Arc::new(ThreadPool::new(threads));
        if team.threads() != threads {
            return Err(BenchmarkError::Threads { asked: threads, granted: team.threads() });
        }
        let cpu = self.model().device().inner().with_threads(team.clone());
        self.runner.set_device(Watched::new(cpu, Clock::default()));
        Ok(team)
    }
}

fn device(options: &SubjectOptions) -> Result<(Device, Arc<ThreadPool>), BenchmarkError> {
    let kernel = bitnet_kernels::select(options.kernel.as_deref())?;
    let threads = Arc::new(ThreadPool::new(options.threads));
    let cpu = Cpu::new(kernel, threads.clone(), HybridMemoryPool::new())
        .with_head(options.head)
        .with_kv(options.kv);
    Ok((Watched::new(cpu, Clock::default()), threads))
}

/// Two bits and no zeros left out unless that is asked for: what is measured must not depend on a machine's tuning.
fn wishes(options: &SubjectOptions) -> Wishes {
    Wishes { layout: options.layout, sparsity: options.sparsity, ..Wishes::default() }
}
