//! Speed of the ternary kernels beside the machine's limits, measured in the same run.
//!
//! `cargo run --release -p bitnet-kernels --example speed -- [decode|prefill|head|base3|pieces|lines|blocks|float|attention] [KERNEL]`
//!
//! Shapes are those of one BitNet b1.58 2B-4T layer (30 copies for decode, so that nothing stays in cache), weights are
//! random trits. Work and limit are timed in turns, in parts of well under a millisecond, and each part's best time over the
//! rounds counts: that holds still on a machine that others use too.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};
use bitnet_kernels::{Kernel, select};
use bitnet_quant::{Activations, PackedTernary, QuantizedRows, Scales};
use cpu_time::ThreadTime;

mod base3;
mod blocks;
mod floats;
mod head;
mod lines;
mod pieces;
mod recurrent;

/// Output rows and input columns of a layer's projections: q, k and v together, o, gate and up together, down.
const LAYER: [(usize, usize); 4] = [(3840, 2560), (2560, 2560), (13_824, 2560), (2560, 6912)];
const LAYERS: usize = 30;
/// Rows that are timed at once in prefill.
const PART: usize = 384;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("all", String::as_str);
    let kernel = select(arguments.get(1).map(String::as_str))?;
    println!("kernel {}", kernel.name());
    if matches!(what, "all" | "decode") {
        for threads in [1, 2] {
            decode(kernel, threads)?;
        }
    }
    if matches!(what, "all" | "prefill") {
        for tokens in [4, 16, 128, 512] {
            prefill(kernel, tokens)?;
        }
    }
    if matches!(what, "all" | "base3") {
        base3::run(kernel)?;
    }
    if matches!(what, "all" | "pieces") {
        pieces::run(kernel)?;
    }
    if matches!(what, "all" | "lines") {
        lines::run(kernel)?;
    }
    if matches!(what, "all" | "blocks") {
        blocks::run(kernel)?;
    }
    if matches!(what, "all" | "head") {
        head::run(kernel)?;
    }
    if matches!(what, "all" | "float" | "attention") {
        floats::run(kernel, what == "attention")?;
    }
    Ok(())
}

/// Wall seconds that `work` takes.
fn wall(work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Seconds of this thread's CPU time that `work` takes.
fn cpu(work: &mut dyn FnMut()) -> f64 {
    let start = ThreadTime::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Random trits as strips, in memory that may have huge pages.
fn weights(
    pool: &HybridMemoryPool,
    rows: usize,
    cols: usize,
    seed: u64,
) -> Result<PackedTernary, Box<dyn std::error::Error>> {
    let len = PackedTernary::byte_len(rows, cols).ok_or("too large")?;
    let mut bytes: Buffer<u8> = pool.allocate(Purpose::Weights, len)?;
    let mut state = seed | 1;
    for byte in bytes.iter_mut() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Two random bits a field, 3 made 1: no code of 3.
        let random = (state >> 56) as u8;
        *byte = random ^ (random & (random >> 1) & 0x55) << 1;
    }
    Ok(PackedTernary::from_strips(rows, cols, bytes.into(), Scales::Tensor(0.01))?)
}

fn activations(
    pool: &HybridMemoryPool,
    tokens: usize,
    cols: usize,
) -> Result<QuantizedRows, Box<dyn std::error::Error>> {
    let mut rows = QuantizedRows::new(pool, tokens, cols)?;
    for token in 0..tokens {
        let x: Vec<f32> = (0..cols).map(|i| ((i * 7919 + token * 104_729) % 255) as f32 - 127.0).collect();
        rows.quantize_token(token, &x);
    }
    Ok(rows)
}

/// One token through all layers' matrices against reading the same bytes.
fn decode(kernel: &'static Kernel, threads: usize) -> Result<(), Box<dyn std::error::Error>> {
    let pool = HybridMemoryPool::new();
    let team = ThreadPool::new(threads);
    let mut matrices = Vec::new();
    for layer in 0..LAYERS {
        for (rows, cols) in LAYER {
            matrices.push(weights(&pool, rows, cols, (layer * rows + cols) as u64)?);
        }
    }
    let x = [activations(&pool, 1, 2560)?, activations(&pool, 1, 6912)?];
    let mut out = vec![0.0; 13_824];
    let time: fn(&mut dyn FnMut()) -> f64 = if threads == 1 { cpu } else { wall };
    let mut read = vec![f64::MAX; matrices.len()];
    let mut product = read.clone();
    for _ in 0..15 {
        for (m, best) in matrices.iter().zip(&mut read) {
            let (bytes, part) = (m.bytes(), m.bytes().len().div_ceil(threads).next_multiple_of(64));
            *best = best.min(time(&mut || {
                team.for_each(threads, |i| {
                    let part = &bytes[(i * part).min(bytes.len())..((i + 1) * part).min(bytes.len())];
                    std::hint::black_box(kernel.read_yardstick(part));
                });
            }));
        }
        for (m, best) in matrices.iter().zip(&mut product) {
            let x = &x[usize::from(m.cols() == 6912)];
            let width = if threads == 1 { m.rows() } else { m.strips().div_ceil(4 * threads) * 16 };
            *best = best.min(time(&mut || {
                team.for_each_columns_mut(&mut out[..m.rows()], m.rows(), width, |_, mut out| {
                    let first = out.start();
                    kernel.matmul(m, x, Activations::Int8PerToken, first, &mut out);
                });
            }));
        }
    }
    let (read, product): (f64, f64) = (read.iter().sum(), product.iter().sum());
    let bytes = matrices.iter().map(|m| m.bytes().len()).sum::<usize>() as f64;
    println!(
        "decode, {threads} threads, {:.0} MB: {:.1} GB/s, limit {:.1}, {:.1} %",
        1e-6 * bytes,
        1e-9 * bytes / product,
        1e-9 * bytes / read,
        100.0 * read / product
    );
    Ok(())
}

/// A layer's matrices for many tokens against the multiplier.
fn prefill(kernel: &'static Kernel, tokens: usize) -> Result<(), Box<dyn std::error::Error>> {
    let pool = HybridMemoryPool::new();
    let mut matrices = Vec::new();
    for (rows, cols) in LAYER {
        matrices.push(weights(&pool, rows, cols, (rows + cols) as u64)?);
    }
    let x = [activations(&pool, tokens, 2560)?, activations(&pool, tokens, 6912)?];
    let mut out = vec![0.0; 13_824 * tokens];
    let team = ThreadPool::new(1);
    let other = weights(&pool, 200_000, 2560, 3)?;
    let multiply = || {
        let mut products = 0;
        let seconds = cpu(&mut || products = std::hint::black_box(kernel.multiply_yardstick(50_000)).0);
        seconds / (2.0 * products as f64)
    };
    let rounds = if tokens > 100 { 12 } else { 60 };
    let (mut limit, mut total, mut count) = (f64::MAX, 0.0, 0.0);
    for m in &matrices {
        let x = &x[usize::from(m.cols() == 6912)];
        // Each part's best time over the rounds: parts are short enough that some run is not interrupted.
        let best = Mutex::new(vec![f64::MAX; m.rows().div_ceil(PART)]);
        for _ in 0..rounds {
            // In a model, weights come from memory: others have taken their place in the caches since the last time.
            std::hint::black_box(kernel.read_yardstick(other.bytes()));
            team.for_each_columns_mut(&mut out[..m.rows() * tokens], m.rows(), PART, |i, mut out| {
                let first = out.start();
                let seconds = cpu(&mut || kernel.matmul(m, x, Activations::Int8PerToken, first, &mut out));
                let mut parts = best.lock().unwrap_or_else(PoisonError::into_inner);
                parts[i] = parts[i].min(seconds);
            });
            limit = limit.min(multiply());
        }
        let seconds: f64 = best.into_inner().unwrap_or_else(PoisonError::into_inner).iter().sum();
        let operations = 2.0 * (m.rows() * m.cols() * tokens) as f64;
        println!(
            "  [{}, {}]: {:.1} GOPS, {:.1} % of the limit",
            m.rows(),
            m.cols(),
            1e-9 * operations / seconds,
            100.0 * limit * operations / seconds
        );
        (total, count) = (total + seconds, count + operations);
    }
    println!(
        "prefill {tokens} tokens: {:.1} GOPS, limit {:.1}, {:.1} %",
        1e-9 * count / total,
        1e-9 / limit,
        100.0 * limit * count / total
    );
    Ok(())
}
