//! What it costs to read only live rows and columns, beside reading everything as strips.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_kernels::Kernel;
use bitnet_quant::{Activations, Axis, PackedTernary, QuantizedRows, TernaryLines};

use super::{LAYERS, activations, wall, weights};

const FFN: usize = 6912;
const HIDDEN: usize = 2560;
/// Percentages of live rows and columns.
const SHARES: [usize; 7] = [5, 10, 20, 30, 50, 70, 100];

/// One projection of every layer in both forms.
struct Layers {
    strips: Vec<PackedTernary>,
    lines: Vec<TernaryLines>,
}

impl Layers {
    fn new(rows: usize, cols: usize, axis: Axis, team: &ThreadPool) -> Result<Self, Box<dyn Error>> {
        let pool = HybridMemoryPool::new();
        let strips: Vec<_> =
            (0..LAYERS).map(|i| weights(&pool, rows, cols, 77 + i as u64)).collect::<Result<_, _>>()?;
        let lines: Result<_, _> = strips.iter().map(|w| TernaryLines::new(w, axis, &pool, team)).collect();
        Ok(Self { strips, lines: lines? })
    }

    /// The best times of all layers as strips and as lines, added up, in turns.
    fn time(&self, mut strips: impl FnMut(&PackedTernary), mut lines: impl FnMut(&TernaryLines)) -> [f64; 2] {
        let mut best = vec![[f64::MAX; 2]; LAYERS];
        for _ in 0..9 {
            for (best, w) in best.iter_mut().zip(&self.strips) {
                best[0] = best[0].min(wall(&mut || strips(w)));
            }
            for (best, w) in best.iter_mut().zip(&self.lines) {
                best[1] = best[1].min(wall(&mut || lines(w)));
            }
        }
        [0, 1].map(|i| best.iter().map(|best| best[i]).sum())
    }
}

pub fn run(kernel: &'static Kernel) -> Result<(), Box<dyn Error>> {
    for threads in [1, 2] {
        let team = ThreadPool::new(threads);
        up(kernel, &team)?;
        down(kernel, &team)?;
    }
    tiled(kernel)
}

/// Columns of a piece of the strips' product.
fn width(rows: usize, threads: usize) -> usize {
    if threads == 1 { rows } else { rows.div_ceil(16).div_ceil(4 * threads) * 16 }
}

fn report(what: &str, threads: usize, percent: usize, [strips, lines]: [f64; 2]) {
    let bytes = (LAYERS * FFN * HIDDEN / 4) as f64;
    println!(
        "{what}, {threads} threads, {percent} % live: {:.2} of {:.2} ms, ratio {:.3}, {:.1} of {:.1} GB/s",
        1e3 * lines,
        1e3 * strips,
        lines / strips,
        1e-9 * bytes * percent as f64 / 100.0 / lines,
        1e-9 * bytes / strips
    );
}

/// A number below 100 that looks random.
fn percentile(i: usize) -> usize {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 100
}

fn up(kernel: &Kernel, team: &ThreadPool) -> Result<(), Box<dyn Error>> {
    let (pool, threads) = (HybridMemoryPool::new(), team.threads());
    let layers = Layers::new(FFN, HIDDEN, Axis::Rows, team)?;
    let x = activations(&pool, 1, HIDDEN)?;
    let mut out = vec![0.0; FFN];
    for percent in SHARES {
        let gate: Vec<f32> = (0..FFN).map(|i| if percentile(i) < percent { 1.0 } else { -1.0 }).collect();
        let mut live = gate.clone();
        let times = layers.time(
            |w| {
                team.for_each_columns_mut(&mut out, FFN, width(FFN, threads), |_, mut out| {
                    let first = out.start();
                    kernel.matmul(w, &x, Activations::Int8PerToken, first, &mut out);
                });
                live.copy_from_slice(&gate);
                kernel.relu2_mul(&mut live, &out);
            },
            |w| {
                let mut live = gate.clone();
                team.for_each_columns_mut(&mut live, FFN, FFN.div_ceil(threads), |_, mut gate| {
                    kernel.gate_live(w, &x, &mut gate);
                });
            },
        );
        report("up", threads, percent, times);
    }
    Ok(())
}

fn down(kernel: &Kernel, team: &ThreadPool) -> Result<(), Box<dyn Error>> {
    let (pool, threads) = (HybridMemoryPool::new(), team.threads());
    let layers = Layers::new(HIDDEN, FFN, Axis::Columns, team)?;
    let mut out = vec![0.0; HIDDEN];
    for percent in SHARES {
        let mut x = QuantizedRows::new(&pool, 1, FFN)?;
        let values: Vec<f32> =
            (0..FFN).map(|i| if percentile(i) < percent { (i % 200) as f32 - 299.5 } else { 0.0 }).collect();
        x.quantize_token(0, &values);
        let mut again = vec![0.0; HIDDEN];
        let times = layers.time(
            |w| {
                team.for_each_columns_mut(&mut out, HIDDEN, width(HIDDEN, threads), |_, mut out| {
                    let first = out.start();
                    kernel.matmul(w, &x, Activations::Int8PerToken, first, &mut out);
                });
            },
            |w| {
                let pieces =
                    HIDDEN.div_ceil(TernaryLines::BLOCK_LEN).div_ceil(threads) * TernaryLines::BLOCK_LEN;
                team.for_each_columns_mut(&mut again, HIDDEN, pieces, |_, mut out| {
                    kernel.matmul_live(w, &x, &mut out);
                });
            },
        );
        report("down", threads, percent, times);
    }
    Ok(())
}

/// Several tokens: strips made of lines against strips.
fn tiled(kernel: &Kernel) -> Result<(), Box<dyn Error>> {
    let (pool, team) = (HybridMemoryPool::new(), ThreadPool::new(1));
    for (rows, cols, axis, piece) in [(FFN, HIDDEN, Axis::Rows, 128), (HIDDEN, FFN, Axis::Columns, 256)] {
        let layers = Layers::new(rows, cols, axis, &team)?;
        let scratch = Mutex::new(vec![0; PackedTernary::byte_len(piece, cols).ok_or("too large")?]);
        for tokens in [2, 4, 8, 16, 64] {
            let x = activations(&pool, tokens, cols)?;
            let mut out = vec![0.0; tokens * rows];
            let mut again = out.clone();
            let best = layers.time(
                |w| {
                    team.for_each_columns_mut(&mut out, rows, 128, |_, mut out| {
                        let first = out.start();
                        kernel.matmul(w, &x, Activations::Int8PerToken, first, &mut out);
                    });
                },
                |w| {
                    team.for_each_columns_mut(&mut again, rows, piece, |_, mut out| {
                        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
                        kernel.matmul_lines(w, &x, &mut scratch, &mut out);
                    });
                },
            );
            let [strips, lines] = best.map(|s| 1e3 * s);
            println!("{axis:?}, {tokens} tokens: {lines:.2} of {strips:.2} ms, ratio {:.3}", lines / strips);
        }
    }
    Ok(())
}
