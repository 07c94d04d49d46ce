//! Base 3 beside two bits: the same matrices, in turns.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_kernels::Kernel;
use bitnet_quant::{Activations, PackedBase3, PackedTernary};

use super::{LAYER, LAYERS, activations, wall, weights};

pub fn run(kernel: &'static Kernel) -> Result<(), Box<dyn Error>> {
    let pool = HybridMemoryPool::new();
    let mut pairs = Vec::new();
    for layer in 0..LAYERS {
        for (rows, cols) in LAYER {
            let strips = weights(&pool, rows, cols, (layer * rows + cols) as u64)?;
            let base3 = PackedBase3::new(&strips, &pool, &ThreadPool::new(2))?;
            pairs.push((strips, base3));
        }
    }
    for (threads, tokens) in [(1, 1), (2, 1), (1, 4), (1, 16), (1, 64)] {
        turns(kernel, &pairs, threads, tokens)?;
    }
    Ok(())
}

fn turns(
    kernel: &Kernel,
    pairs: &[(PackedTernary, PackedBase3)],
    threads: usize,
    tokens: usize,
) -> Result<(), Box<dyn Error>> {
    let (pool, team) = (HybridMemoryPool::new(), ThreadPool::new(threads));
    let x = [activations(&pool, tokens, 2560)?, activations(&pool, tokens, 6912)?];
    let mut out = vec![0.0; tokens * 13_824];
    let scratch = Mutex::new(vec![0; PackedTernary::byte_len(128, 6912).ok_or("too large")?]);
    let mut best = vec![[f64::MAX; 2]; pairs.len()];
    for _ in 0..if tokens == 1 { 12 } else { 3 } {
        for (best, (strips, base3)) in best.iter_mut().zip(pairs) {
            let x = &x[usize::from(strips.cols() == 6912)];
            let rows = strips.rows();
            let width = if tokens > 1 { 128 } else { rows.div_ceil(16).div_ceil(4 * threads) * 16 };
            best[0] = best[0].min(wall(&mut || {
                team.for_each_columns_mut(&mut out[..tokens * rows], rows, width, |_, mut out| {
                    let first = out.start();
                    kernel.matmul(strips, x, Activations::Int8PerToken, first, &mut out);
                });
            }));
            best[1] = best[1].min(wall(&mut || {
                team.for_each_columns_mut(&mut out[..tokens * rows], rows, width, |_, mut out| {
                    if tokens == 1 {
                        return kernel.matmul_base3(base3, x, &mut out);
                    }
                    let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
                    kernel.matmul_base3_tiled(base3, x, &mut scratch, &mut out);
                });
            }));
        }
    }
    let [two, three] = [0, 1].map(|i| best.iter().map(|best| best[i]).sum::<f64>());
    let weights: f64 = pairs.iter().map(|(strips, _)| (strips.rows() * strips.cols()) as f64).sum();
    let bytes: [usize; 2] =
        [pairs.iter().map(|p| p.0.bytes().len()).sum(), pairs.iter().map(|p| p.1.bytes().len()).sum()];
    println!(
        "{threads} threads, {tokens} tokens: 2 bits {:.1} GB/s, {:.0} Gweights/s; base 3 {:.1} GB/s, {:.0} Gweights/s; ratio {:.3}",
        1e-9 * bytes[0] as f64 / two,
        1e-9 * weights / two,
        1e-9 * bytes[1] as f64 / three,
        1e-9 * weights / three,
        two / three
    );
    Ok(())
}
