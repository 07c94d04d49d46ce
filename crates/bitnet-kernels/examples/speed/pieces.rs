//! Scales by groups of 128 and steps by blocks of 32, beside one scale and one step.

use std::error::Error;

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_kernels::Kernel;
use bitnet_quant::{Activations, PackedTernary, QuantizedRows, Scales};

use super::{LAYERS, wall, weights};

const ROWS: usize = 6912;
const COLS: usize = 2560;

pub fn run(kernel: &'static Kernel) -> Result<(), Box<dyn Error>> {
    let pool = HybridMemoryPool::new();
    let mut pairs = Vec::new();
    for layer in 0..LAYERS {
        let plain = weights(&pool, ROWS, COLS, layer as u64)?;
        let scales = Scales::Group { size: 128, scales: vec![0.01; ROWS * COLS / 128] };
        let grouped = PackedTernary::from_strips(ROWS, COLS, plain.bytes().clone(), scales)?;
        pairs.push((plain, grouped));
    }
    for (threads, tokens) in [(1, 1), (2, 1), (1, 4), (1, 16), (1, 128)] {
        let team = ThreadPool::new(threads);
        let mut x = [QuantizedRows::new(&pool, tokens, COLS)?, QuantizedRows::new(&pool, tokens, COLS)?];
        for token in 0..tokens {
            let row: Vec<f32> = (0..COLS).map(|i| ((i * 7919 + token) % 255) as f32 - 127.0).collect();
            x[0].quantize_token(token, &row);
            x[1].quantize_blocks(token, &row);
        }
        let mut out = vec![0.0; tokens * ROWS];
        let mut best = vec![[f64::MAX; 2]; LAYERS];
        for _ in 0..if tokens == 1 { 12 } else { 3 } {
            for (best, (plain, grouped)) in best.iter_mut().zip(&pairs) {
                let runs =
                    [(plain, &x[0], Activations::Int8PerToken), (grouped, &x[1], Activations::Int8PerBlock)];
                for (best, (w, x, form)) in best.iter_mut().zip(runs) {
                    *best = best.min(wall(&mut || {
                        team.for_each_columns_mut(&mut out, ROWS, 128, |_, mut out| {
                            let first = out.start();
                            kernel.matmul(w, x, form, first, &mut out);
                        });
                    }));
                }
            }
        }
        let seconds = [0, 1].map(|i| best.iter().map(|best| best[i]).sum::<f64>());
        let bytes = (LAYERS * ROWS * COLS / 4) as f64;
        let [plain, grouped] = seconds.map(|s| (1e-9 * bytes / s, 1e-9 * 8.0 * bytes * tokens as f64 / s));
        println!(
            "{threads} threads, {tokens} tokens: plain {:.1} GB/s, {:.0} GOPS; in pieces {:.1} GB/s, {:.0} GOPS",
            plain.0, plain.1, grouped.0, grouped.1
        );
    }
    Ok(())
}
