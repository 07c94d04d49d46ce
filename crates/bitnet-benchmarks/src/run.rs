//! Every combination of a plan.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{BenchmarkError, Process, Row, Subject, Yardsticks, measure::Bench};

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
    /// Whether every row says where the time of a step goes; that takes one more run, which is not counted.
    pub breakdown: bool,
    /// Busy threads beside which every row is measured once more; 0 for none.
    pub load: usize,
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

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) test: Test,
    pub(crate) threads: usize,
    pub(crate) depth: usize,
    pub(crate) batch: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { test, threads, depth, batch } = self;
        write!(f, "{test}, threads {threads}, depth {depth}, batch {batch}")
    }
}

impl Case {
    /// Tokens of one repetition, over all sequences.
    pub(crate) fn tokens(self, plan: &Plan) -> usize {
        match self.test {
            Test::Prompt => (plan.prompt / self.batch).max(1) * self.batch,
            Test::Generation => plan.generate * self.batch,
        }
    }

    pub(crate) fn mismatch(self, expected: u64, got: u64) -> BenchmarkError {
        let Self { threads, depth, batch, .. } = self;
        BenchmarkError::Checksum { test: self.test.to_string(), threads, depth, batch, expected, got }
    }
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
    let cases = cases(plan)?;
    watcher.begins("preparing", 0, cases.len());
    let most = cases.iter().map(|c| c.threads).max().unwrap_or(1);
    let mut team = subject.with_threads(most)?;
    let mut bench = Bench::new(subject, plan, watcher)?;
    let peak = Process::now().peak;
    let yardsticks = Yardsticks::new(bench.subject.kernel(), bench.bytes_of_a_token())?;
    let mut checksums = BTreeMap::new();
    let mut rows = Vec::with_capacity(cases.len());
    for (number, &case) in cases.iter().enumerate() {
        watcher.begins(&case.to_string(), number, cases.len());
        if team.threads() != case.threads {
            team = bench.subject.with_threads(case.threads)?;
        }
        let measured = bench.measure(plan, case, &yardsticks, &team)?;
        let same = *checksums.entry((case.test, case.depth, case.batch)).or_insert(measured.checksum);
        if same != measured.checksum {
            return Err(case.mismatch(same, measured.checksum));
        }
        let row = bench.row(plan, case, measured, peak);
        done(&row);
        rows.push(row);
    }
    rows.sort_by_key(|r| (r.test, r.batch, r.depth, r.threads));
    Ok(rows)
}

/// Deep ones first: what they hold is then overwritten by shallower ones.
fn cases(plan: &Plan) -> Result<Vec<Case>, BenchmarkError> {
    let lists = [
        (&plan.threads, "number of threads"),
        (&plan.depths, "depth"),
        (&plan.batches, "number of sequences"),
    ];
    if let Some(&(_, what)) = lists.iter().find(|(list, _)| list.is_empty()) {
        return Err(BenchmarkError::Empty { what });
    }
    if plan.prompt + plan.generate == 0 {
        return Err(BenchmarkError::Empty { what: "prompt and no generation" });
    }
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
    Ok(cases)
}
