//! How fast memory can be read, which bounds how fast a model can write: every token reads all its weights once.

use std::{hint::black_box, sync::Barrier, thread, time::Instant};

use serde::Serialize;

/// Larger than any cache that a token's weights could stay in, if memory allows.
const MOST: usize = 512 << 20;
/// Smaller than this would measure a cache.
const LEAST: usize = 64 << 20;
/// Passes that count, after one to warm up. With the buffers above they take half a second on a common machine.
const PASSES: usize = 9;

/// How fast memory was read, in bytes per second.
#[derive(Debug, Serialize)]
pub struct Bandwidth {
    pub threads: usize,
    pub buffer_bytes: usize,
    /// The best of several passes: everything that disturbs a measurement makes it slower.
    pub best: f64,
    pub median: f64,
}

/// Reads a buffer again and again with `threads` threads; `free` bytes of memory may be used at most in part.
pub fn measure(threads: usize, free: Option<u64>) -> Bandwidth {
    let most = free.map_or(MOST, |free| usize::try_from(free / 8).unwrap_or(MOST));
    let words = most.clamp(LEAST, MOST) / 8;
    // Not zero, since untouched zero pages are all one page.
    let buffer: Vec<u64> = (0..words as u64).collect();
    let mut passes = run(&buffer, threads.max(1));
    passes.sort_by(f64::total_cmp);
    let best = passes.last().copied().unwrap_or(0.0);
    Bandwidth {
        threads,
        buffer_bytes: words * 8,
        best,
        median: passes.get(passes.len() / 2).copied().unwrap_or(0.0),
    }
}

/// Bytes per second of each pass, all threads together.
fn run(buffer: &[u64], threads: usize) -> Vec<f64> {
    let parts: Vec<_> = buffer.chunks(buffer.len().div_ceil(threads)).collect();
    let barrier = Barrier::new(parts.len());
    let one = |mine: &[u64]| {
        let mut passes = Vec::with_capacity(PASSES);
        black_box(sum(mine));
        for _ in 0..PASSES {
            barrier.wait();
            let start = Instant::now();
            black_box(sum(mine));
            barrier.wait();
            passes.push(size_of_val(buffer) as f64 / start.elapsed().as_secs_f64().max(1e-9));
        }
        passes
    };
    thread::scope(|scope| {
        let Some((&first, others)) = parts.split_first() else { return Vec::new() };
        for &mine in others {
            scope.spawn(|| one(mine));
        }
        one(first)
    })
}

/// Sixteen sums, so that additions do not wait for each other and reading is what takes the time.
fn sum(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<16>();
    let mut sums = [0u64; 16];
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |a, &b| a.wrapping_add(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1003 * 1002 / 2);
    }

    #[test]
    fn every_pass_is_counted_for_any_number_of_threads() {
        for threads in [1, 3, 7] {
            let passes = run(&vec![1; 5000], threads);
            assert_eq!(passes.len(), PASSES);
            assert!(passes.iter().all(|&speed| speed > 0.0 && speed.is_finite()));
        }
    }
}
