//! The head of 2B-4T: in full and screened, against reading as many bytes.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool, tensor::Values};
use bitnet_kernels::{Kernel, StripBounds, StripPeaks};
use bitnet_quant::{Probes, ScreenTable};
use half::f16;

use super::{cpu, wall};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ROWS: usize = 128_256;
const COLS: usize = 2560;
/// Rows that are timed at once: less than a millisecond, so that some run is not interrupted.
const PART: usize = 4096;

/// Sums of four uniform numbers: near enough to normal.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = (self.0 >> 32) as u32;
        bytes.to_le_bytes().iter().map(|&b| f32::from(b)).sum::<f32>() / 147.8 - 3.45
    }
}

pub(super) fn run(kernel: &'static Kernel) -> Outcome {
    let pool = HybridMemoryPool::new();
    let team = ThreadPool::new(2);
    let mut head: Buffer<f16> = pool.allocate(Purpose::Weights, ROWS * COLS)?;
    team.for_each_chunk_mut(&mut head, COLS, |row, weights| {
        let mut noise = Noise(row as u64 + 1);
        weights.iter_mut().for_each(|w| *w = f16::from_f32(0.02 * noise.next()));
    });
    let len = ScreenTable::byte_len(ROWS, COLS).ok_or("too large")?;
    let mut bytes: Buffer<u8> = pool.allocate(Purpose::Weights, len)?;
    let encode = wall(&mut || {
        team.for_each_chunk_mut(&mut bytes, ScreenTable::strip_len(COLS), |strip, bytes| {
            let rows = &head[strip * 16 * COLS..(strip + 1) * 16 * COLS];
            let mut weights = vec![0.0; rows.len()];
            kernel.widen(Values::F16(rows), &mut weights);
            // Noise is finite.
            let _ = kernel.encode_strip(&weights, COLS, bytes);
        });
    });
    println!("encoding, 2 threads: {:.0} ms", 1e3 * encode);
    let table = ScreenTable::from_bytes(ROWS, COLS, bytes.into())?;
    for threads in [1, 2] {
        for tokens in [1, 16] {
            screened(kernel, &pool, &table, threads, tokens)?;
        }
        full(kernel, &head, threads);
    }
    Ok(())
}

/// Best seconds of each part over some rounds, of reading and of working in turns; their sums.
fn parts(threads: usize, count: usize, read: impl Fn(usize), mut work: impl FnMut(usize)) -> [f64; 2] {
    let time: fn(&mut dyn FnMut()) -> f64 = if threads == 1 { cpu } else { wall };
    let mut best = vec![[f64::MAX; 2]; count];
    for _ in 0..8 {
        for (part, best) in best.iter_mut().enumerate() {
            best[0] = best[0].min(time(&mut || read(part)));
        }
        for (part, best) in best.iter_mut().enumerate() {
            best[1] = best[1].min(time(&mut || work(part)));
        }
    }
    best.iter().fold([0.0; 2], |sum, best| [sum[0] + best[0], sum[1] + best[1]])
}

fn report(what: &str, threads: usize, bytes: usize, [read, work]: [f64; 2]) {
    let bytes = bytes as f64;
    println!(
        "{what}, {threads} threads, {:.0} MB: {:.2} ms, {:.1} GB/s, limit {:.1}, {:.1} %",
        1e-6 * bytes,
        1e3 * work,
        1e-9 * bytes / work,
        1e-9 * bytes / read,
        100.0 * read / work
    );
}

fn yardstick(kernel: &Kernel, team: &ThreadPool, bytes: &[u8]) {
    let share = bytes.len().div_ceil(8 * team.threads()).next_multiple_of(64);
    team.for_each(bytes.len().div_ceil(share), |i| {
        std::hint::black_box(kernel.read_yardstick(&bytes[i * share..((i + 1) * share).min(bytes.len())]));
    });
}

fn screened(
    kernel: &'static Kernel,
    pool: &HybridMemoryPool,
    table: &ScreenTable,
    threads: usize,
    tokens: usize,
) -> Outcome {
    let team = ThreadPool::new(threads);
    let mut probes = Probes::new(pool, tokens, COLS)?;
    let mut noise = Noise(99);
    let h: Vec<f32> = (0..COLS).map(|_| noise.next()).collect();
    (0..tokens).for_each(|t| {
        probes.set(t, &h);
    });
    let mut set = f64::MAX;
    for _ in 0..50 {
        set = set.min(cpu(&mut || {
            std::hint::black_box(probes.set(0, &h));
        }));
    }
    let strips = PART / 16;
    let mut bounds: Vec<StripBounds> = vec![[0.0; 32]; strips * tokens];
    let mut peaks: Vec<StripPeaks> = vec![[0.0; 2]; strips * tokens];
    let part_bytes = strips * ScreenTable::strip_len(COLS);
    let read = |part: usize| {
        let bytes = &table.bytes()[part * part_bytes..];
        yardstick(kernel, &team, &bytes[..part_bytes.min(bytes.len())]);
    };
    let work = |part: usize| {
        let count = strips.min(table.strips() - part * strips) * tokens;
        let chunk = 8 * tokens;
        team.for_each_chunk_mut2(
            (&mut bounds[..count], chunk),
            (&mut peaks[..count], chunk),
            |c, bounds, peaks| {
                kernel.screen(table, &probes, tokens, part * strips + c * 8, bounds, peaks);
            },
        );
    };
    let seconds = parts(threads, ROWS.div_ceil(PART), read, work);
    report(&format!("screen, {tokens} tokens"), threads, table.bytes().len(), seconds);
    println!("  a hidden vector is quantized in {:.1} us", 1e6 * set);
    Ok(())
}

fn full(kernel: &'static Kernel, head: &[f16], threads: usize) {
    let team = ThreadPool::new(threads);
    let mut noise = Noise(99);
    let h: Vec<f32> = (0..COLS).map(|_| noise.next()).collect();
    let mut out = vec![0.0; PART];
    let rows = |part: usize| PART.min(ROWS - part * PART);
    let read = |part: usize| {
        let part = &head[part * PART * COLS..][..rows(part) * COLS];
        yardstick(kernel, &team, bytemuck::cast_slice(part));
    };
    let work = |part: usize| {
        let count = rows(part);
        let values = Values::F16(&head[part * PART * COLS..][..count * COLS]);
        team.for_each_columns_mut(&mut out[..count], count, 128, |_, mut out| {
            let first = out.start();
            kernel.dense_matmul(values, COLS, &h, first, &mut out);
        });
    };
    let seconds = parts(threads, ROWS.div_ceil(PART), read, work);
    report("full f16 head", threads, size_of_val(head), seconds);
}
