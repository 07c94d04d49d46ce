//! Where the time of a step goes: every operation of the backend, timed.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bitnet_core::ThreadPool;
use bitnet_device::{Operation, Watch};
use serde::{Deserialize, Serialize};

use crate::median;

/// One operation's share of a pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeShare {
    /// The operation's name, as the model calls it.
    pub operation: String,
    /// How often the operation runs in a step.
    pub calls: f64,
    /// Seconds in a step, all calls together.
    pub seconds: f64,
    /// The operation's part of the step's time, from 0 to 1.
    pub part: f64,
    /// Bytes of matrices, keys and values that it reads in a step.
    pub bytes: f64,
    /// `bytes` by `seconds`, in bytes per second; 0 where there is nothing to read.
    pub bytes_per_s: f64,
}

/// A clock that looks at every operation while it is on.
#[derive(Default)]
pub(crate) struct Clock {
    on: AtomicBool,
    entries: Mutex<[Entry; Operation::ALL.len()]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    calls: usize,
    seconds: f64,
    bytes: usize,
}

impl Watch for Clock {
    fn run<R>(&self, operation: Operation, bytes: usize, work: impl FnOnce() -> R) -> R {
        if !self.on.load(Ordering::Relaxed) {
            return work();
        }
        let started = Instant::now();
        let result = work();
        let seconds = started.elapsed().as_secs_f64();
        let entry = &mut self.entries()[operation as usize];
        entry.calls += 1;
        entry.seconds += seconds;
        entry.bytes += bytes;
        result
    }
}

impl Clock {
    fn entries(&self) -> MutexGuard<'_, [Entry; Operation::ALL.len()]> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to time operations (`on`), or stops.
    pub(crate) fn look(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        if on {
            *self.entries() = Default::default();
        }
    }

    /// What was seen, for each of `steps` steps that took `seconds` together and read `kv` bytes of keys and values each.
    pub(crate) fn shares(&self, steps: usize, seconds: f64, kv: f64) -> Vec<TimeShare> {
        let entries = self.entries();
        let steps = steps.max(1) as f64;
        let mut known = 0.0;
        let mut shares = Vec::new();
        for operation in Operation::ALL {
            let entry = entries[operation as usize];
            if entry.calls == 0 {
                continue;
            }
            known += entry.seconds;
            let bytes = entry.bytes as f64 / steps + if operation == Operation::Attend { kv } else { 0.0 };
            let mine = entry.seconds / steps;
            shares.push(TimeShare {
                operation: name(operation).to_owned(),
                calls: entry.calls as f64 / steps,
                seconds: mine,
                part: entry.seconds / seconds,
                bytes,
                bytes_per_s: if bytes > 0.0 { bytes / mine } else { 0.0 },
            });
        }
        let rest = (seconds - known).max(0.0);
        shares.push(TimeShare {
            operation: "rest".to_owned(),
            calls: 1.0,
            seconds: rest / steps,
            part: rest / seconds,
            bytes: 0.0,
            bytes_per_s: 0.0,
        });
        shares
    }
}

/// Seconds of a step of the thread pool in which there is nothing to do: what it costs to share out work and to meet again.
pub(crate) fn empty_step(threads: &ThreadPool) -> f64 {
    const STEPS: usize = 200;
    let rounds: Vec<f64> = (0..9)
        .map(|_| {
            let started = Instant::now();
            (0..STEPS).for_each(|_| threads.for_each(2 * threads.threads(), |_| {}));
            started.elapsed().as_secs_f64() / STEPS as f64
        })
        .collect();
    median(&rounds)
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Embed => "embedding",
        Operation::Norm => "norms",
        Operation::Transform => "hadamard",
        Operation::Quantize => "quantize",
        Operation::Qkv => "qkv",
        Operation::Rope => "rope",
        Operation::Append => "kv append",
        Operation::Attend => "attention",
        Operation::Recur => "recurrence",
        Operation::Output => "o",
        Operation::GateUp => "gate/up",
        Operation::Gate => "gate activation",
        Operation::Down => "down",
        Operation::Add => "residual",
        Operation::Head => "head",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_step() {
        let clock = Clock::default();
        clock.run(Operation::Head, 10, || ());
        clock.look(true);
        let started = Instant::now();
        for _ in 0..4 {
            clock.run(Operation::Qkv, 100, || std::hint::black_box(()));
            clock.run(Operation::Attend, 0, || std::hint::black_box(()));
        }
        let seconds = started.elapsed().as_secs_f64();
        clock.look(false);
        clock.run(Operation::Qkv, 100, || ());
        let shares = clock.shares(2, seconds, 7.0);
        let names: Vec<_> = shares.iter().map(|s| s.operation.as_str()).collect();
        assert_eq!(names, ["qkv", "attention", "rest"], "what ran while nobody looked is not counted");
        assert_eq!((shares[0].calls, shares[0].bytes, shares[1].bytes), (2.0, 200.0, 7.0));
        assert!((shares.iter().map(|s| s.part).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
