//! Which way of running a model is fastest on this machine: measured, not guessed.
//!
//! [`tune`] runs a sample of the model (a few of its blocks, enough to be larger than any cache, with random trits) through
//! the real decoder in every way that is to be compared, in turns, and keeps the medians. It takes a second or
//! two. No result of the engine depends on what it finds.

use std::{sync::Arc, time::Instant};

use bitnet_core::{HybridMemoryPool, Pages, ThreadPool};
use bitnet_cpu::Cpu;
use bitnet_decoder::{Model, Runner, RunnerOptions};
use bitnet_device::{Output, Span};
use bitnet_kernels::Kernel;
use bitnet_model::{ActivationChoice, Config, Layout, Wishes};
use bitnet_quant::Activations;

use crate::{EngineError, PREFILL, Tuning, tuning::granted_threads};

mod sample;

use sample::Sample;

/// Turns over which a median is taken.
const TURNS: usize = 7;
/// What a change must gain to be worth leaving the default: less may be noise.
const WORTHWHILE: f64 = 1.03;
/// Candidates. Larger prefills than 128 gain nothing that could be seen (1 % at 256 on Zen 5, 2026-11-21), and their
/// buffers exceed what a session may take beside the weights.
const ROWS_PER_CHUNK: [usize; 3] = [64, 128, 256];
const PREFILLS: [usize; 2] = [64, PREFILL];

/// What is to be compared.
#[derive(Clone, Copy, Debug)]
pub struct TuneOptions {
    /// The kernel that will run the model.
    pub kernel: &'static Kernel,
    /// The number of threads, when it is not to be chosen.
    pub threads: Option<usize>,
    /// How activations will be rounded.
    pub activations: ActivationChoice,
}

/// One way of running the sample, and how fast it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What was varied: "threads", "layout", "rows per chunk", "prefill", "pages".
    pub knob: &'static str,
    /// Its value.
    pub value: String,
    /// Median of tokens per second (of the sample, not of the model).
    pub tokens_per_second: f64,
    /// Whether it was chosen.
    pub chosen: bool,
}

/// What was found, and from what.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The choice.
    pub tuning: Tuning,
    /// Every comparison behind it.
    pub trials: Vec<Trial>,
    /// Blocks of the sample.
    pub layers: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Finds the fastest way to run models of `config` here. Models with blocks of more than 1 GiB are run in the usual way: no
/// sample of them is small.
///
/// # Errors
/// When memory for the sample is short, or the sizes cannot be.
pub fn tune(config: &Config, options: &TuneOptions) -> Result<Tuned, EngineError> {
    let started = Instant::now();
    if Sample::is_too_large(config) {
        return Ok(Tuned { tuning: Tuning::default(), trials: Vec::new(), layers: 0, seconds: 0.0 });
    }
    let most = options.threads.unwrap_or_else(granted_threads);
    let mut bench = Bench::new(config, options, most)?;
    let mut tuning = Tuning::default();
    let mut trials = Vec::new();

    if options.threads.is_none() {
        let threads = candidates(most);
        let ways = threads.iter().map(|&n| Way { threads: n, ..bench.way(tuning) });
        let best = choose("threads", &threads, most, bench.compare(ways.collect())?, &mut trials);
        tuning.threads = Some(best);
    }
    if config.activations(options.activations) == Activations::Int8PerToken {
        let way = bench.way(tuning);
        let rates = bench.compare(vec![way, Way { base3: true, ..way }])?;
        tuning.base3 = choose("layout", &["2 bits", "base 3"], "2 bits", rates, &mut trials) == "base 3";
    }
    let ways = ROWS_PER_CHUNK.map(|rows_per_chunk| Way { rows_per_chunk, ..bench.way(tuning) });
    let rates = bench.compare(ways.to_vec())?;
    tuning.rows_per_chunk =
        choose("rows per chunk", &ROWS_PER_CHUNK, tuning.rows_per_chunk, rates, &mut trials);

    let ways = PREFILLS.map(|tokens| Way { tokens, ..bench.way(tuning) });
    let rates = bench.compare(ways.to_vec())?;
    tuning.prefill = choose("prefill", &PREFILLS, tuning.prefill, rates, &mut trials);

    // Mapped files hold two bits a weight.
    let way = Way { base3: false, ..bench.way(tuning) };
    let ways = [Way { pages: Pages::Small, ..way }, way];
    let rates = bench.compare(ways.to_vec())?;
    tuning.huge_pages = choose("pages", &["small", "huge"], "small", rates, &mut trials) == "huge";

    let layers = bench.layers;
    Ok(Tuned { tuning, trials, layers, seconds: started.elapsed().as_secs_f64() })
}

/// Numbers of threads worth comparing: all, and halves of it (hardware threads often come in pairs).
fn candidates(most: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> =
        std::iter::successors(Some(most), |&n| (n > 1).then_some(n / 2)).take(3).collect();
    numbers.reverse();
    numbers
}

/// The value of the fastest way; `default` unless another is faster by what is worthwhile.
fn choose<T: Copy + PartialEq + ToString>(
    knob: &'static str,
    values: &[T],
    default: T,
    rates: Vec<f64>,
    trials: &mut Vec<Trial>,
) -> T {
    let rate_of = |value: T| values.iter().position(|&v| v == value).map_or(0.0, |i| rates[i]);
    let fastest = values.iter().copied().zip(&rates).max_by(|a, b| a.1.total_cmp(b.1));
    let best = match fastest {
        Some((value, &rate)) if rate > WORTHWHILE * rate_of(default) => value,
        _ => default,
    };
    trials.extend(values.iter().zip(&rates).map(|(&value, &tokens_per_second)| Trial {
        knob,
        value: value.to_string(),
        tokens_per_second,
        chosen: value == best,
    }));
    best
}

/// One way to run the sample.
#[derive(Clone, Copy)]
struct Way {
    threads: usize,
    rows_per_chunk: usize,
    base3: bool,
    pages: Pages,
    /// Tokens of a pass: 1 is decode.
    tokens: usize,
}

/// The sample in memory, once for each kind of pages and layout that has been asked for.
struct Bench<'a> {
    sample: Sample,
    options: &'a TuneOptions,
    most: usize,
    layers: usize,
    models: Vec<(Pages, bool, Model<Cpu>)>,
}

impl<'a> Bench<'a> {
    fn new(config: &Config, options: &'a TuneOptions, most: usize) -> Result<Self, EngineError> {
        let sample = Sample::of(config)?;
        Ok(Self { layers: sample.layers(), sample, options, most, models: Vec::new() })
    }

    fn way(&self, tuning: Tuning) -> Way {
        let threads = tuning.threads.unwrap_or(self.most);
        let Tuning { rows_per_chunk, base3, .. } = tuning;
        Way { threads, rows_per_chunk, base3, pages: Pages::Huge, tokens: 1 }
    }

    fn model(&mut self, pages: Pages, base3: bool) -> Result<Model<Cpu>, EngineError> {
        if let Some(at) = self.models.iter().position(|(p, b, _)| (*p, *b) == (pages, base3)) {
            return Ok(self.models.swap_remove(at).2);
        }
        let threads = Arc::new(ThreadPool::new(self.most));
        let backend = Cpu::new(self.options.kernel, threads.clone(), HybridMemoryPool::of(pages));
        let layout = if base3 { Layout::Base3 } else { Layout::TwoBit };
        let wishes = Wishes { layout, ..Wishes::default() };
        Ok(Model::load(&self.sample, backend, &threads, self.options.activations, &wishes, &|_, _| {})?)
    }

    /// Tokens per second of each way: the median over turns, in each of which every way has one pass.
    fn compare(&mut self, ways: Vec<Way>) -> Result<Vec<f64>, EngineError> {
        let mut rates = vec![Vec::with_capacity(TURNS); ways.len()];
        let pools: Vec<_> = ways.iter().map(|way| Arc::new(ThreadPool::new(way.threads))).collect();
        // The first turn warms up.
        for turn in 0..=TURNS {
            for ((way, pool), rates) in ways.iter().zip(&pools).zip(&mut rates) {
                let rate = self.pass(*way, pool)?;
                if turn > 0 {
                    rates.push(rate);
                }
            }
        }
        Ok(rates.into_iter().map(median).collect())
    }

    fn pass(&mut self, way: Way, threads: &Arc<ThreadPool>) -> Result<f64, EngineError> {
        let mut model = self.model(way.pages, way.base3)?;
        let device = Cpu::new(self.options.kernel, threads.clone(), model.device().pool().clone());
        model.set_device(device.rows_per_chunk(way.rows_per_chunk));
        let room = RunnerOptions { tokens: way.tokens, context: way.tokens, kv_bytes: None };
        let mut runner = Runner::new(model, room)?;
        let ids: Vec<u32> = (0..way.tokens as u32).map(|i| i % sample::VOCABULARY as u32).collect();
        let sequence = runner.sequences().open();
        let span = Span { sequence, tokens: way.tokens, output: Output::None };
        let started = Instant::now();
        runner.step(&ids, &[span], &mut |_: usize, _: &[f32]| {}, None)?;
        let seconds = started.elapsed().as_secs_f64();
        self.models.push((way.pages, way.base3, runner.into_model()));
        Ok(way.tokens as f64 / seconds)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests;
