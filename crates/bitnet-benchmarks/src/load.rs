//! Other work on the same machine: threads that never rest.

use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Busy threads, until it is dropped.
///
/// The system schedules threads, not processes: a thread that never rests takes as much from us as a process that never rests.
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Starts `count` threads that do nothing but compute.
    pub(crate) fn start(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let stop = stop.clone();
            thread::Builder::new()
                .spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        spin_loop();
                    }
                })
                .ok()
        };
        let threads = (0..count).filter_map(spin).collect();
        Self { stop, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It only spins: there is no panic to report.
            let _ = thread.join();
        }
    }
}

/// The part of its speed alone that work on `threads` threads may expect on `cores` cores beside `busy` threads: every thread
/// gets the same time.
pub fn fair_share(threads: usize, busy: usize, cores: usize) -> f64 {
    let alone = (cores as f64 / threads as f64).min(1.0);
    let together = (cores as f64 / (threads + busy) as f64).min(1.0);
    together / alone
}

#[cfg(test)]
mod tests {
    use super::fair_share;

    #[test]
    fn time_is_shared_by_threads() {
        assert_eq!(fair_share(2, 2, 2), 0.5);
        assert_eq!(fair_share(1, 1, 2), 1.0, "there is a core for each");
        assert_eq!(fair_share(1, 3, 2), 0.5);
        assert_eq!(fair_share(4, 4, 2), 0.5, "alone they had half a core each");
    }
}
