//! One combination, measured: work and yardsticks in turns.

use bitnet_core::ThreadPool;
use bitnet_decoder::RunnerOptions;
use bitnet_device::{Output, PAGE, ScreenCounts, SequenceId, Span};

use crate::{
    BenchmarkError, BenchmarkPlan, Subject, Test, TimeShare, Watcher, Yardsticks, breakdown::empty_step,
    energy, load, plan::Case,
};

/// Tokens of a prompt that go through the model at once, as in a session of the engine.
pub(crate) const CHUNK: usize = bitnet_inference::PREFILL;
/// Repetitions that are made in any case, and the seconds after which no more than these are.
const LEAST: usize = 3;
const PATIENCE: f64 = 30.0;
/// Steps of generation that are looked at one operation at a time, and that are run beside a load.
const FEW_STEPS: usize = 16;

/// The model and the buffers of all measurements.
pub(crate) struct Bench<'a> {
    pub(crate) subject: &'a mut Subject,
    pub(crate) sequences: Vec<SequenceId>,
    pub(crate) watcher: &'a dyn Watcher,
}

/// What one repetition of a case gave.
pub(crate) struct Repetition {
    pub(crate) seconds: f64,
    pub(crate) tokens: usize,
    pub(crate) passes: usize,
    pub(crate) checksum: u64,
    pub(crate) finite: bool,
}

impl Repetition {
    fn speed(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// Tokens/s of a repetition, and the limits around it.
pub(crate) struct Sample {
    pub(crate) tokens_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) ops_per_s: f64,
}

/// How the head was computed, for each token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct HeadUse {
    /// Part of the tokens whose head was screened.
    pub(crate) screened: f64,
    /// Part of the tokens whose head was computed in full after it had been screened.
    pub(crate) full_after: f64,
    /// Rows of the head that were read beside the screen.
    pub(crate) rescored: f64,
}

impl HeadUse {
    fn between(before: ScreenCounts, after: ScreenCounts, tokens: usize) -> Self {
        let per_token = |a: u64, b: u64| (b - a) as f64 / tokens.max(1) as f64;
        Self {
            screened: per_token(before.screened, after.screened),
            full_after: per_token(before.full, after.full),
            rescored: per_token(before.rescored, after.rescored),
        }
    }
}

/// All that is known of one combination.
pub(crate) struct Measured {
    pub(crate) samples: Vec<Sample>,
    pub(crate) checksum: u64,
    pub(crate) head: HeadUse,
    pub(crate) joules_per_token: Option<f64>,
    pub(crate) breakdown: Vec<TimeShare>,
    pub(crate) empty_step_s: f64,
    /// Tokens per second beside busy threads.
    pub(crate) loaded: Option<f64>,
}

impl<'a> Bench<'a> {
    /// Takes all memory that `plan` needs and fills the sequences.
    pub(crate) fn new(
        subject: &'a mut Subject,
        plan: &BenchmarkPlan,
        watcher: &'a dyn Watcher,
    ) -> Result<Self, BenchmarkError> {
        let depth = plan.depths.iter().copied().max().unwrap_or(0);
        let batch = plan.batches.iter().copied().max().unwrap_or(1).max(1);
        let capacity = depth + plan.prompt.max(plan.generate).max(1);
        subject.runner.resize(RunnerOptions {
            tokens: CHUNK.max(batch),
            context: capacity,
            kv_bytes: None,
        })?;
        let mut bench = Self { subject, sequences: Vec::with_capacity(batch), watcher };
        bench.fill(depth, batch)?;
        Ok(bench)
    }

    /// Opens `batch` sequences that hold `depth` positions: the first one computes them, the others share them.
    fn fill(&mut self, depth: usize, batch: usize) -> Result<(), BenchmarkError> {
        let vocab = self.subject.model().config().vocab;
        let ids: Vec<u32> = (0..depth).map(|i| ((i * 7919 + 13) % vocab) as u32).collect();
        let sequence = self.subject.runner.sequences().open();
        for chunk in ids.chunks(CHUNK) {
            if self.watcher.stopped() {
                return Err(BenchmarkError::Stopped);
            }
            let span = Span { sequence, tokens: chunk.len(), output: Output::None };
            self.subject.runner.step(chunk, &[span], &mut |_: usize, _: &[f32]| {}, None)?;
        }
        self.sequences.push(sequence);
        for _ in 1..batch {
            let fork = self.subject.runner.sequences().fork(sequence, depth);
            self.sequences.push(fork.map_err(bitnet_decoder::DecoderError::from)?);
        }
        // So that a model with recurrent blocks can be rewound.
        for &sequence in &self.sequences {
            self.subject.runner.sequences().keep(sequence).map_err(bitnet_decoder::DecoderError::from)?;
        }
        Ok(())
    }

    /// Makes every sequence hold `depth` positions again.
    pub(crate) fn rewind(&mut self, depth: usize) -> Result<(), BenchmarkError> {
        for &sequence in &self.sequences {
            let rewound = self.subject.runner.sequences().truncate(sequence, depth);
            rewound.map_err(bitnet_decoder::DecoderError::from)?;
        }
        Ok(())
    }

    /// Bytes of matrices that a generated token reads.
    pub(crate) fn bytes_of_a_token(&self) -> usize {
        let traffic = self.subject.model().traffic();
        let head = if traffic.screen > 0 { traffic.screen } else { traffic.head };
        traffic.ternary + traffic.dense + head
    }

    /// Bytes of keys and values that a position takes in every block together.
    pub(crate) fn kv_bytes(&self) -> usize {
        self.subject.runner.pages().page_bytes / PAGE
    }

    pub(crate) fn measure(
        &mut self,
        plan: &BenchmarkPlan,
        case: Case,
        yardsticks: &Yardsticks,
        team: &ThreadPool,
    ) -> Result<Measured, BenchmarkError> {
        let (mut samples, mut expected, mut seconds) = (Vec::new(), None, 0.0);
        let (mut joules, mut tokens) = (Some(0.0), 0);
        // The first steps after a change of threads or depth are not like the others.
        match case.test {
            Test::Prompt => self.prompt(plan.prompt.min(CHUNK), case.depth, case.batch.min(CHUNK))?,
            Test::Generation => self.generate(plan.generate.min(2), case.depth, case.batch)?,
        };
        let counts = self.subject.runner.screen_counts();
        let mut before = (yardsticks.read(team), yardsticks.multiply(team));
        while samples.len() < plan.repetitions.max(1) && (samples.len() < LEAST || seconds < PATIENCE) {
            let meter = energy::Meter::start();
            let repetition = self.repeat(plan, case, plan.generate)?;
            joules = joules.zip(meter.and_then(|m| m.joules())).map(|(sum, j)| sum + j);
            let first = *expected.get_or_insert(repetition.checksum);
            if first != repetition.checksum {
                return Err(case.mismatch(first, repetition.checksum));
            }
            let after = (yardsticks.read(team), yardsticks.multiply(team));
            samples.push(Sample {
                tokens_per_s: repetition.speed(),
                bytes_per_s: (before.0 + after.0) / 2.0,
                ops_per_s: (before.1 + after.1) / 2.0,
            });
            before = after;
            tokens += repetition.tokens;
            seconds += repetition.seconds;
        }
        let head = HeadUse::between(counts, self.subject.runner.screen_counts(), tokens);
        let breakdown = if plan.breakdown { self.look(plan, case)? } else { Vec::new() };
        Ok(Measured {
            samples,
            checksum: expected.unwrap_or_default(),
            head,
            joules_per_token: joules.map(|j| j / tokens.max(1) as f64),
            breakdown,
            empty_step_s: empty_step(team),
            loaded: if plan.load > 0 { Some(self.beside(plan, case)?) } else { None },
        })
    }

    /// Once through, up to `steps` steps of generation.
    fn repeat(
        &mut self,
        plan: &BenchmarkPlan,
        case: Case,
        steps: usize,
    ) -> Result<Repetition, BenchmarkError> {
        let repetition = match case.test {
            Test::Prompt => self.prompt(plan.prompt, case.depth, case.batch)?,
            Test::Generation => self.generate(steps.min(plan.generate), case.depth, case.batch)?,
        };
        let Case { test, threads, depth, batch } = case;
        if !repetition.finite {
            return Err(BenchmarkError::NotFinite { test: test.to_string(), threads, depth, batch });
        }
        Ok(repetition)
    }

    /// A few more steps, with the time of each operation.
    fn look(&mut self, plan: &BenchmarkPlan, case: Case) -> Result<Vec<TimeShare>, BenchmarkError> {
        self.subject.model().device().watch().look(true);
        let repetition = self.repeat(plan, case, FEW_STEPS);
        let clock = self.subject.model().device().watch();
        clock.look(false);
        let Repetition { seconds, passes, .. } = repetition?;
        let seen = case.depth + FEW_STEPS.min(plan.generate).div_ceil(2);
        // How often a pass over a prompt reads keys and values is the kernel's affair.
        let kv = if case.test == Test::Generation { seen * case.batch * self.kv_bytes() } else { 0 };
        Ok(clock.shares(passes, seconds, kv as f64))
    }

    /// Tokens per second while other threads are busy.
    fn beside(&mut self, plan: &BenchmarkPlan, case: Case) -> Result<f64, BenchmarkError> {
        let _busy = load::Busy::start(plan.load);
        let mut speeds = Vec::new();
        for _ in 0..LEAST {
            speeds.push(self.repeat(plan, case, FEW_STEPS)?.speed());
        }
        Ok(crate::median(&speeds))
    }
}
