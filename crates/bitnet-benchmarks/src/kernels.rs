//! Vector kernels against the scalar reference, on one thread and in cache.

use std::{hint::black_box, time::Instant};

use bitnet_core::{HybridMemoryPool, Purpose};
use bitnet_kernels::{ColumnsMut, Kernel, available};
use bitnet_quant::{Activations, PackedTernary, QuantizedRows, Scales};
use serde::{Deserialize, Serialize};

use crate::{BenchmarkError, Summary, Watcher, synthetic::strips};

/// Columns of the matrices: those of the published 2B-4T.
const COLS: usize = 2560;
/// Rows: what a second-level cache holds.
const ROWS: usize = 512;
/// Turns over which a median is taken, and the least seconds that a kernel works in one.
const TURNS: usize = 7;
const TURN_SECONDS: f64 = 0.004;
/// The reference's short name.
const SCALAR: &str = "scalar";

/// What one kernel made of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// Its name.
    pub kernel: String,
    /// What it did.
    pub operation: String,
    /// Work per second: the median.
    pub rate: f64,
    /// "bytes/s" or "operations/s".
    pub unit: String,
    /// Distance between the quartiles, as a part of the median.
    pub spread: f64,
    /// How many times faster than the scalar reference.
    pub speedup: f64,
}

/// One operation and what it works on.
struct Task<'a> {
    operation: &'static str,
    unit: &'static str,
    amount: f64,
    work: Box<dyn FnMut(&Kernel) + 'a>,
}

/// Every kernel that this processor can run, on every operation; the reference last.
///
/// # Errors
/// When memory is short, or `watcher` stops it.
pub fn kernels(watcher: &dyn Watcher) -> Result<Vec<KernelRow>, BenchmarkError> {
    let pool = HybridMemoryPool::new();
    let weights = weights(&pool)?;
    let (one, many) = (activations(&pool, 1)?, activations(&pool, 64)?);
    let row: Vec<f32> = (0..COLS).map(|i| (i % 97) as f32 - 48.0).collect();
    let ones = vec![1.0; COLS];
    let (mut normed, mut codes) = (vec![0.0; COLS], vec![0; COLS]);
    let tasks = [
        Task {
            operation: "ternary product, 1 token",
            unit: "bytes/s",
            amount: weights.bytes().len() as f64,
            work: Box::new(product(&weights, &one, 1)),
        },
        Task {
            operation: "ternary product, 64 tokens",
            unit: "operations/s",
            amount: 2.0 * (ROWS * COLS * 64) as f64,
            work: Box::new(product(&weights, &many, 64)),
        },
        Task {
            operation: "norm and quantize",
            unit: "bytes/s",
            amount: 4.0 * COLS as f64,
            work: Box::new(|kernel: &Kernel| {
                // As the engine calls them: the floats are written, since a side path may read them.
                kernel.rmsnorm(&row, &ones, 1e-5, &mut normed);
                black_box(kernel.quantize_into(&normed, &mut codes));
            }),
        },
    ];
    let kernels: Vec<&Kernel> = available().collect();
    let total = tasks.len();
    let mut rows = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        watcher.begins(task.operation, number, total);
        rows.extend(compare(&kernels, task, watcher)?);
    }
    Ok(rows)
}

/// A product of `tokens` tokens.
fn product<'a>(
    weights: &'a PackedTernary,
    x: &'a QuantizedRows,
    tokens: usize,
) -> impl FnMut(&Kernel) + use<'a> {
    let mut out = vec![0.0; ROWS * tokens];
    move |kernel| {
        let mut out = ColumnsMut::whole(&mut out, ROWS);
        kernel.matmul(weights, x, Activations::Int8PerToken, 0, &mut out);
    }
}

/// All kernels on one operation, in turns.
fn compare(
    kernels: &[&Kernel],
    mut task: Task<'_>,
    watcher: &dyn Watcher,
) -> Result<Vec<KernelRow>, BenchmarkError> {
    let mut rates = vec![Vec::new(); kernels.len()];
    for _ in 0..TURNS {
        for (kernel, rates) in kernels.iter().zip(&mut rates) {
            if watcher.stopped() {
                return Err(BenchmarkError::Stopped);
            }
            (task.work)(kernel);
            let (started, mut calls) = (Instant::now(), 0);
            let seconds = loop {
                (task.work)(kernel);
                calls += 1;
                let seconds = started.elapsed().as_secs_f64();
                if seconds > TURN_SECONDS {
                    break seconds;
                }
            };
            rates.push(task.amount * f64::from(calls) / seconds);
        }
    }
    let summaries: Vec<Summary> = rates.iter().map(|rates| Summary::of(rates)).collect();
    let reference =
        kernels.iter().position(|k| k.short_name() == SCALAR).map_or(0.0, |at| summaries[at].median);
    let row = |(kernel, summary): (&&Kernel, Summary)| KernelRow {
        kernel: kernel.name().to_owned(),
        operation: task.operation.to_owned(),
        rate: summary.median,
        unit: task.unit.to_owned(),
        spread: summary.spread,
        speedup: if reference > 0.0 { summary.median / reference } else { 0.0 },
    };
    Ok(kernels.iter().zip(summaries).map(row).collect())
}

fn weights(pool: &HybridMemoryPool) -> Result<PackedTernary, BenchmarkError> {
    let len = ROWS * COLS / 4;
    let mut bytes = pool.allocate::<u8>(Purpose::Weights, len)?;
    bytes.copy_from_slice(&strips(len));
    let quant = bitnet_model::ModelError::quant("a synthetic matrix");
    Ok(PackedTernary::from_strips(ROWS, COLS, bytes.into(), Scales::Tensor(0.01)).map_err(quant)?)
}

fn activations(pool: &HybridMemoryPool, tokens: usize) -> Result<QuantizedRows, BenchmarkError> {
    let mut rows = QuantizedRows::new(pool, tokens, COLS)?;
    for token in 0..tokens {
        let x: Vec<f32> = (0..COLS).map(|i| ((i * 7919 + token * 104_729) % 255) as f32 - 127.0).collect();
        rows.quantize_token(token, &x);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Watcher for Nobody {
        fn begins(&self, _: &str, _: usize, _: usize) {}
    }

    #[test]
    fn every_kernel_has_a_row_for_every_operation() {
        let rows = kernels(&Nobody).unwrap();
        assert_eq!(rows.len(), 3 * available().count());
        assert!(rows.iter().all(|r| r.rate > 0.0 && r.rate.is_finite()), "{rows:?}");
        let scalar = rows.iter().filter(|r| r.kernel.ends_with(SCALAR));
        assert!(scalar.clone().count() == 3 && scalar.clone().all(|r| r.speedup == 1.0), "{rows:?}");
    }
}
