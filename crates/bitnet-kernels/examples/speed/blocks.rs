//! One token's products of ggml's blocks, and rows that are widened, in GB/s of what they read.

use bitnet_core::{HybridMemoryPool, Purpose, tensor::Values, threads::ColumnsMut};
use bitnet_kernels::{BlockType, Blocks, Kernel};
use half::f16;

use super::cpu;

const COLS: usize = 2560;
/// Some 16 MB of weights of four bits: more than a second-level cache holds.
const ROWS: usize = 12_288;
/// Rows of a piece of work.
const PART: usize = 128;

pub(super) fn run(kernel: &'static Kernel) -> Result<(), Box<dyn std::error::Error>> {
    let pool = HybridMemoryPool::new();
    let x: Vec<f32> = (0..COLS).map(|i| (i % 31) as f32 * 0.25 - 3.0).collect();
    let mut bytes = pool.allocate::<u8>(Purpose::Weights, 2 * ROWS * COLS)?;
    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = ((i * 131) >> 3) as u8 & 0xbf);
    let mut out = vec![0.0; ROWS];
    let mut wide = vec![0.0; PART * COLS];
    let halves: &[f16] = bytemuck::cast_slice(&bytes);
    report("f16", 2 * ROWS * COLS, kernel, &bytes, || {
        for (part, out) in out.chunks_mut(PART).enumerate() {
            let mut out = ColumnsMut::whole(out, PART);
            kernel.dense_matmul(Values::F16(halves), COLS, &x, part * PART, &mut out);
        }
    });
    for ty in BlockType::ALL {
        let (weights, size) = ty.size();
        let len = ROWS * COLS / weights * size;
        let w = Blocks { ty, cols: COLS, bytes: &bytes[..len] };
        report(&format!("{ty:?}"), len, kernel, w.bytes, || {
            for (part, out) in out.chunks_mut(PART).enumerate() {
                kernel.block_vector(w, &x, part * PART, &mut ColumnsMut::whole(out, PART));
            }
        });
        let part = &w.bytes[..len / ROWS * PART];
        report(&format!("{ty:?} widened"), part.len(), kernel, part, || {
            kernel.widen_blocks(ty, part, &mut wide)
        });
    }
    Ok(())
}

/// The best of some runs, beside a bare reading loop over the same bytes.
fn report(what: &str, len: usize, kernel: &Kernel, bytes: &[u8], mut work: impl FnMut()) {
    let (mut best, mut read) = (f64::MAX, f64::MAX);
    for _ in 0..12 {
        best = best.min(cpu(&mut work));
        read = read.min(cpu(&mut || {
            std::hint::black_box(kernel.read_yardstick(&bytes[..len]));
        }));
    }
    println!(
        "{what}: {:.2} GB/s, {:.1} % of a bare read, {:.1} us",
        1e-9 * len as f64 / best,
        100.0 * read / best,
        1e6 * best
    );
}
