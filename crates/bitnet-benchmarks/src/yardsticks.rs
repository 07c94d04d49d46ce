//! The machine's limits, measured on the same threads as the work and around it.

use std::{hint::black_box, time::Instant};

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};
use bitnet_kernels::Kernel;

use crate::{BenchmarkError, statistics::median};

/// More than any cache; a token of a large model reads no more than this at a time.
const MOST: usize = 1 << 30;
/// Parts of the buffer for each thread: enough that nobody waits long for the slower one.
const PARTS: usize = 16;
/// Passes of one reading, and the least time they take together.
const PASSES: usize = 3;
const LEAST_SECONDS: f64 = 0.02;
/// Rounds of the multiplier in one part of a reading; about a millisecond.
const ROUNDS: u64 = 20_000;

/// A buffer as large as what a token reads, and the kernel whose limits are wanted.
///
/// The buffer lies in huge pages where the system grants them, whatever the model lies in: a model that is mapped from a
/// file is measured against what the machine can do.
pub struct Yardsticks {
    kernel: &'static Kernel,
    buffer: Buffer<u8>,
}

impl Yardsticks {
    /// Yardsticks for work that reads `bytes` for every token: a model that fits in a cache is compared with that cache.
    ///
    /// # Errors
    /// When memory is short.
    pub fn new(kernel: &'static Kernel, bytes: usize) -> Result<Self, BenchmarkError> {
        let len = bytes.clamp(1 << 16, MOST).next_multiple_of(64);
        let mut buffer: Buffer<u8> = HybridMemoryPool::new().allocate(Purpose::State, len)?;
        // Untouched pages would all be the same page.
        buffer.iter_mut().enumerate().for_each(|(i, b)| *b = i as u8);
        Ok(Self { kernel, buffer })
    }

    /// Bytes of the buffer that is read.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes per second that all threads together read.
    pub fn read(&self, threads: &ThreadPool) -> f64 {
        let part = self.buffer.len().div_ceil(threads.threads() * PARTS).next_multiple_of(64);
        let parts: Vec<&[u8]> = self.buffer.chunks(part).collect();
        rate(self.buffer.len() as f64, || {
            threads.for_each(parts.len(), |i| {
                black_box(self.kernel.read_yardstick(parts[i]));
            });
        })
    }

    /// int8 operations per second (a product and its sum are two) of all threads together.
    pub fn multiply(&self, threads: &ThreadPool) -> f64 {
        let parts = threads.threads() * PARTS;
        let products = black_box(self.kernel.multiply_yardstick(1)).0 as f64;
        rate(2.0 * products * ROUNDS as f64 * parts as f64, || {
            threads.for_each(parts, |_| {
                black_box(self.kernel.multiply_yardstick(ROUNDS));
            });
        })
    }
}

/// `amount` per second: the median of passes that take some time together.
fn rate(amount: f64, mut pass: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut rates = Vec::new();
    while rates.len() < PASSES || started.elapsed().as_secs_f64() < LEAST_SECONDS {
        let start = Instant::now();
        pass();
        rates.push(amount / start.elapsed().as_secs_f64().max(1e-9));
    }
    median(&rates)
}
