//! What is measured: the combinations of a plan, and who hears of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::BenchmarkError;

/// The kind of work that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Test {
    /// Reading a prompt: many tokens a step, no logits but the last.
    #[serde(rename = "pp")]
    Prompt,
    /// Generation: one token of each sequence a step.
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
pub struct BenchmarkPlan {
    /// The numbers of threads to measure with.
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

/// One combination of a plan.
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
    pub(crate) fn tokens(self, plan: &BenchmarkPlan) -> usize {
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
