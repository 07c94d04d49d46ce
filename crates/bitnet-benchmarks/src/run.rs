//! Every combination of a plan.

use std::{collections::BTreeMap, fmt};

use bitnet_model::{Backend, Cpu, Logits, Sequence, Span, State};
use serde::{Deserialize, Serialize};

use crate::{
    BenchmarkError, Bytes, Limits, Memory, Process, Row, Setting, Subject, Summary, Yardsticks, cpu_name,
    huge_pages, median,
};

/// Tokens of a prompt that go through the model at once, as in a session of the engine.
pub(crate) const CHUNK: usize = bitnet_inference::PREFILL;
/// Repetitions that are made in any case, and the seconds after which no more than these are.
const LEAST: usize = 3;
const PATIENCE: f64 = 30.0;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Test {
    /// A prompt.
    #[serde(rename = "pp")]
    Prompt,
    /// Generation.
    #[serde(rename = "tg")]
    Generation,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prompt => "pp",
            Self::Generation => "tg",
        })
    }
}

/// What to measure: every combination of threads, depths and batches.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Tokens of a prompt, over all sequences; 0 for no prompts.
    pub prompt: usize,
    /// Tokens that each sequence generates; 0 for no generation.
    pub generate: usize,
    /// Positions that every sequence holds before.
    pub depths: Vec<usize>,
    /// Sequences that are run together.
    pub batches: Vec<usize>,
    /// How often each is measured; fewer, but at least three times, when it takes long.
    pub repetitions: usize,
}

/// Hears of progress and may stop a run.
pub trait Watcher {
    /// Measuring of `what` begins, as number `done` of `total`.
    fn begins(&self, what: &str, done: usize, total: usize);

    /// Whether the run shall end before the next step.
    fn stopped(&self) -> bool {
        false
    }
}

type Kv = <Cpu as Backend>::Kv;

/// The buffers of all measurements.
pub(crate) struct Bench<'a> {
    pub(crate) subject: &'a mut Subject,
    pub(crate) state: State<Cpu>,
    pub(crate) sequences: Vec<Sequence<Kv>>,
    pub(crate) watcher: &'a dyn Watcher,
}

/// What one repetition gave.
pub(crate) struct Repetition {
    pub(crate) seconds: f64,
    pub(crate) checksum: u64,
    pub(crate) finite: bool,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    test: Test,
    threads: usize,
    depth: usize,
    batch: usize,
}

/// Measures everything in `plan`. Rows are ordered by test, batch, depth and threads.
///
/// # Errors
/// When memory is short, a result is wrong, or `watcher` stops the run; `done` has seen the rows until then.
pub fn run(
    subject: &mut Subject,
    plan: &Plan,
    watcher: &dyn Watcher,
    mut done: impl FnMut(&Row),
) -> Result<Vec<Row>, BenchmarkError> {
    let most = |list: &[usize], what| list.iter().copied().max().ok_or(BenchmarkError::Empty { what });
    let threads = most(&plan.threads, "number of threads")?;
    let (depth, batch) = (most(&plan.depths, "depth")?, most(&plan.batches, "batch")?.max(1));
    let cases = cases(plan);
    if cases.is_empty() {
        return Err(BenchmarkError::Empty { what: "prompt and no generation" });
    }
    let capacity = depth + plan.prompt.max(plan.generate).max(1);
    watcher.begins("preparing", 0, cases.len());
    let mut team = subject.with_threads(threads)?;
    let model = &subject.model;
    let mut bench = Bench {
        state: model.state(CHUNK.max(batch), batch, capacity)?,
        sequences: (0..batch).map(|_| model.sequence(capacity)).collect::<Result<_, _>>()?,
        subject,
        watcher,
    };
    bench.fill(depth)?;
    let peak = Process::now().peak;
    let traffic = bench.subject.model.traffic();
    let yardsticks = Yardsticks::new(bench.subject.kernel, traffic.ternary + traffic.dense + traffic.head)?;
    let mut checksums = BTreeMap::new();
    let mut rows = Vec::with_capacity(cases.len());
    for (number, &case) in cases.iter().enumerate() {
        watcher.begins(&case.to_string(), number, cases.len());
        if team.threads() != case.threads {
            team = bench.subject.with_threads(case.threads)?;
        }
        let (samples, checksum) = bench.measure(plan, case, &yardsticks, &team)?;
        let same = *checksums.entry((case.test, case.depth, case.batch)).or_insert(checksum);
        if same != checksum {
            let Case { test, threads, depth, batch } = case;
            let (test, expected, got) = (test.to_string(), same, checksum);
            return Err(BenchmarkError::Checksum { test, threads, depth, batch, expected, got });
        }
        let row = bench.row(plan, case, &samples, checksum, peak);
        done(&row);
        rows.push(row);
    }
    rows.sort_by_key(|r| (r.test, r.batch, r.depth, r.threads));
    Ok(rows)
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { test, threads, depth, batch } = self;
        write!(f, "{test}, threads {threads}, depth {depth}, batch {batch}")
    }
}

/// Deep ones first: what they hold is then overwritten by shallower ones.
fn cases(plan: &Plan) -> Vec<Case> {
    let mut depths = plan.depths.clone();
    depths.sort_unstable_by(|a, b| b.cmp(a));
    depths.dedup();
    let mut cases = Vec::new();
    for depth in depths {
        for &batch in &plan.batches {
            for (test, tokens) in [(Test::Prompt, plan.prompt), (Test::Generation, plan.generate)] {
                let threads = if tokens == 0 { &[][..] } else { &plan.threads[..] };
                cases.extend(threads.iter().map(|&threads| Case {
                    test,
                    threads,
                    depth,
                    batch: batch.max(1),
                }));
            }
        }
    }
    cases
}

/// Tokens/s of a repetition, and the limits around it.
struct Sample {
    tokens_per_s: f64,
    bytes_per_s: f64,
    ops_per_s: f64,
}

impl Bench<'_> {
    /// Makes every sequence hold `depth` positions: the first one computes them, the others copy.
    fn fill(&mut self, depth: usize) -> Result<(), BenchmarkError> {
        let vocab = self.subject.model.config().vocab;
        let ids: Vec<u32> = (0..depth).map(|i| ((i * 7919 + 13) % vocab) as u32).collect();
        let Some((first, others)) = self.sequences.split_first_mut() else { return Ok(()) };
        for chunk in ids.chunks(CHUNK) {
            if self.watcher.stopped() {
                return Err(BenchmarkError::Stopped);
            }
            let mut spans = [Span { sequence: first, tokens: chunk.len() }];
            self.subject.model.forward(&mut self.state, chunk, &mut spans, Logits::None, |_, _| {})?;
        }
        for other in others {
            self.subject.model.copy(first, other)?;
        }
        Ok(())
    }

    fn measure(
        &mut self,
        plan: &Plan,
        case: Case,
        yardsticks: &Yardsticks,
        team: &bitnet_core::ThreadPool,
    ) -> Result<(Vec<Sample>, u64), BenchmarkError> {
        let (mut samples, mut expected, mut seconds) = (Vec::new(), None, 0.0);
        let mut before = (yardsticks.read(team), yardsticks.multiply(team));
        while samples.len() < plan.repetitions.max(1) && (samples.len() < LEAST || seconds < PATIENCE) {
            let repetition = match case.test {
                Test::Prompt => self.prompt(plan.prompt, case.depth, case.batch)?,
                Test::Generation => self.generate(plan.generate, case.depth, case.batch)?,
            };
            let Case { test, threads, depth, batch } = case;
            if !repetition.finite {
                return Err(BenchmarkError::NotFinite { test: test.to_string(), threads, depth, batch });
            }
            let (expected, got) = (*expected.get_or_insert(repetition.checksum), repetition.checksum);
            if expected != got {
                let test = test.to_string();
                return Err(BenchmarkError::Checksum { test, threads, depth, batch, expected, got });
            }
            let after = (yardsticks.read(team), yardsticks.multiply(team));
            samples.push(Sample {
                tokens_per_s: tokens(plan, case) as f64 / repetition.seconds,
                bytes_per_s: (before.0 + after.0) / 2.0,
                ops_per_s: (before.1 + after.1) / 2.0,
            });
            before = after;
            seconds += repetition.seconds;
        }
        Ok((samples, expected.unwrap_or_default()))
    }

    fn row(&self, plan: &Plan, case: Case, samples: &[Sample], checksum: u64, peak: Option<u64>) -> Row {
        let bytes = self.bytes(plan, case);
        let (bytes_per_token, ops_per_token) = (bytes.total(), self.operations(case.test));
        let of = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
        let speeds: Vec<f64> = samples.iter().map(|s| s.tokens_per_s).collect();
        let summary = Summary::of(&speeds);
        let (bytes_per_s, ops_per_s) = (of(|s| s.bytes_per_s), of(|s| s.ops_per_s));
        let limits = Limits {
            bytes_per_s,
            ops_per_s,
            tokens_per_s_by_bytes: bytes_per_s / bytes_per_token,
            tokens_per_s_by_ops: ops_per_s / ops_per_token,
        };
        let by_bytes = limits.tokens_per_s_by_bytes < limits.tokens_per_s_by_ops;
        let per_token = if by_bytes { bytes_per_token } else { ops_per_token };
        let parts: Vec<f64> = samples
            .iter()
            .map(|s| s.tokens_per_s * per_token / if by_bytes { s.bytes_per_s } else { s.ops_per_s })
            .collect();
        let (rate, of_limit) = (summary.median * per_token, median(&parts));
        let measured = if by_bytes { bytes_per_s } else { ops_per_s };
        let mut notes = Vec::new();
        if of_limit > 1.0 {
            notes.push(format!(
                "unreliable: the work reached {:.1} % of the limit measured around it, so that limit was too low",
                100.0 * of_limit
            ));
        }
        Row {
            test: case.test,
            threads: case.threads,
            depth: case.depth,
            batch: case.batch,
            tokens: tokens(plan, case),
            tokens_per_s: summary.median,
            samples: speeds,
            summary,
            bytes_per_token,
            ops_per_token,
            rate,
            // Nothing is faster than its limit: the work itself has shown a higher one.
            limit: if of_limit > 1.0 { measured.max(rate) } else { measured },
            limit_unit: if by_bytes { "bytes/s" } else { "operations/s" }.to_owned(),
            of_limit: of_limit.min(1.0),
            limits,
            reliable: notes.is_empty(),
            notes,
            checksum: format!("{checksum:016x}"),
            bytes,
            memory: self.memory(case, plan, peak),
            setting: self.setting(),
        }
    }

    /// Bytes that a token reads, on average.
    fn bytes(&self, plan: &Plan, case: Case) -> Bytes {
        let traffic = self.subject.model.traffic();
        let per_position = self.kv_bytes() as f64;
        let (shared, head, seen) = match case.test {
            Test::Generation => {
                let each = case.batch as f64;
                (each, traffic.head as f64 / each, case.depth as f64 + (plan.generate as f64 + 1.0) / 2.0)
            }
            // A chunk of a prompt reads keys and values once for several tokens; how often is the kernel's affair.
            Test::Prompt => (CHUNK.min(plan.prompt) as f64, traffic.head as f64 / plan.prompt as f64, 0.0),
        };
        Bytes {
            ternary: traffic.ternary as f64 / shared,
            dense: traffic.dense as f64 / shared,
            head,
            kv: seen * per_position,
        }
    }

    fn kv_bytes(&self) -> usize {
        self.sequences.first().map_or(0, |s| self.subject.model.backend().kv_bytes(&s.kv))
    }

    fn operations(&self, test: Test) -> f64 {
        let config = self.subject.model.config();
        let block: usize =
            bitnet_model::Projection::ALL.iter().map(|p| p.shape(config).iter().product::<usize>()).sum();
        let head = if test == Test::Generation { config.vocab * config.hidden } else { 0 };
        2.0 * (block * config.layers + head) as f64
    }

    fn memory(&self, case: Case, plan: &Plan, peak: Option<u64>) -> Memory {
        use bitnet_core::Purpose;
        let usage = |purpose| self.subject.pool.usage(purpose).current as u64;
        let per_sequence = case.depth + tokens(plan, case) / case.batch;
        let (weights, kv_used) =
            (usage(Purpose::Weights), (case.batch * per_sequence * self.kv_bytes()) as u64);
        // At the time of the peak, sequences were filled to the greatest depth and not beyond.
        let deepest = plan.depths.iter().copied().max().unwrap_or(0) * self.kv_bytes() * self.sequences.len();
        let model = weights.max(self.subject.file_bytes);
        let above = peak.map(|peak| peak.saturating_sub(model + deepest as u64) as f64 / model.max(1) as f64);
        Memory {
            weights,
            file: self.subject.file_bytes,
            kv: usage(Purpose::KvCache),
            kv_used,
            state: usage(Purpose::State),
            peak,
            above,
        }
    }

    fn setting(&self) -> Setting {
        let (mode, huge_page_bytes) = huge_pages();
        Setting {
            model: self.subject.name.clone(),
            synthetic: self.subject.synthetic,
            kernel: self.subject.kernel.name().to_owned(),
            cpu: cpu_name(),
            huge_pages: mode.unwrap_or_else(|| "unknown".to_owned()),
            huge_page_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Tokens of one repetition, over all sequences.
fn tokens(plan: &Plan, case: Case) -> usize {
    match case.test {
        Test::Prompt => (plan.prompt / case.batch).max(1) * case.batch,
        Test::Generation => plan.generate * case.batch,
    }
}
