//! The screen: integers equal on every kernel, and the bound that nothing ever exceeds.

// A test has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_core::{HybridMemoryPool, tensor::Values, threads::ColumnsMut};
use bitnet_kernels::{Kernel, StripBounds, StripPeaks};
use bitnet_quant::{Probes, ScreenTable};

/// Deterministic noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// About normal, variance 1.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| (self.next() & 0xffff) as f32 / 65536.0 - 0.5).sum::<f32>() * 1.414
    }
}

/// The copy of `weights`, `[rows, cols]`.
fn table(weights: &[f32], cols: usize) -> ScreenTable {
    let rows = weights.len() / cols;
    let mut bytes = vec![0; ScreenTable::byte_len(rows, cols).unwrap()];
    let strips = bytes.chunks_mut(ScreenTable::strip_len(cols));
    for (rows, strip) in weights.chunks(16 * cols).zip(strips) {
        ScreenTable::encode_strip(rows, cols, strip).unwrap();
    }
    ScreenTable::from_bytes(rows, cols, bytes.into()).unwrap()
}

/// Bounds and peaks of all strips for all of `hidden`.
fn screen(kernel: &Kernel, table: &ScreenTable, hidden: &[Vec<f32>]) -> (Vec<StripBounds>, Vec<StripPeaks>) {
    let mut probes = Probes::new(&HybridMemoryPool::new(), hidden.len(), table.cols()).unwrap();
    for (i, h) in hidden.iter().enumerate() {
        assert!(probes.set(i, h), "vector {i} cannot be screened");
    }
    let len = table.strips() * hidden.len();
    let (mut bounds, mut peaks) = (vec![[f32::NAN; 32]; len], vec![[f32::NAN; 2]; len]);
    kernel.screen(table, &probes, hidden.len(), 0, &mut bounds, &mut peaks);
    (bounds, peaks)
}

/// The head's own logits, `[tokens, rows]`.
fn full(weights: &[f32], cols: usize, hidden: &[Vec<f32>]) -> Vec<f32> {
    let rows = weights.len() / cols;
    let mut out = vec![0.0; hidden.len() * rows];
    let x = hidden.concat();
    let kernel = bitnet_kernels::by_name("scalar").unwrap();
    kernel.dense_matmul(Values::F32(weights), cols, &x, 0, &mut ColumnsMut::whole(&mut out, rows));
    out
}

/// Rows and hidden vectors that try to break the bound.
fn adversaries(rows: usize, cols: usize, seed: u64) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut noise = Noise(seed);
    let mut weights: Vec<f32> = (0..rows * cols).map(|_| 0.02 * noise.normal()).collect();
    for (r, row) in weights.chunks_exact_mut(cols).enumerate() {
        match r % 12 {
            1 => row.iter_mut().for_each(|w| *w *= 1000.0),
            2 => row.fill(0.0),
            3 => row.iter_mut().for_each(|w| *w *= 1e-25),
            4 => row[noise.next() as usize % cols] = 3.0,
            // Every element half a step from its code: the largest residual that there is.
            5 => row
                .iter_mut()
                .enumerate()
                .for_each(|(j, w)| *w = if j == 0 { 127.0 } else { 0.5 - (j % 2) as f32 }),
            6 => row.iter_mut().for_each(|w| *w = w.signum()),
            7 => row.iter_mut().for_each(|w| *w *= 1e15),
            8 => row.iter_mut().for_each(|w| *w = f32::from_bits(noise.next() as u32 & 0x7f)),
            _ => {}
        }
    }
    let mut hidden: Vec<Vec<f32>> = (0..6).map(|_| (0..cols).map(|_| noise.normal()).collect()).collect();
    hidden[1][cols / 2] = 300.0;
    hidden[2].iter_mut().for_each(|x| *x *= 1e-20);
    hidden[3].iter_mut().for_each(|x| *x *= 1e15);
    // Along the residual of the fifth row: Cauchy-Schwarz becomes an equality.
    hidden[4].iter_mut().enumerate().for_each(|(j, x)| *x = if j == 0 { 0.0 } else { 0.5 - (j % 2) as f32 });
    hidden[5].fill(1.0);
    (weights, hidden)
}

#[test]
fn every_kernel_gives_the_bounds_of_the_scalar_one() {
    for (rows, cols) in [(1, 1), (16, 4), (17, 5), (40, 63), (48, 64), (33, 257), (50, 2560)] {
        let (weights, hidden) = adversaries(rows, cols, (rows * cols) as u64);
        let hidden: Vec<_> =
            hidden.iter().cycle().take(15).filter(|h| h.iter().any(|&x| x != 0.0)).cloned().collect();
        let table = table(&weights, cols);
        let bits = |(bounds, peaks): (Vec<StripBounds>, Vec<StripPeaks>)| {
            let values = bounds.into_iter().flatten().chain(peaks.into_iter().flatten());
            values.map(f32::to_bits).collect::<Vec<_>>()
        };
        let want = bits(screen(bitnet_kernels::by_name("scalar").unwrap(), &table, &hidden));
        for kernel in bitnet_kernels::available() {
            for tokens in 1..=hidden.len() {
                let got = bits(screen(kernel, &table, &hidden[..tokens]));
                if tokens == hidden.len() {
                    assert!(got == want, "{} [{rows}, {cols}]", kernel.name());
                }
                // Whatever shares the pass, a vector's bounds are its own.
                let first = |all: &[u32], tokens: usize| {
                    all[..32 * tokens * table.strips()]
                        .chunks(32 * tokens)
                        .map(|s| s[..32].to_vec())
                        .collect::<Vec<_>>()
                };
                assert!(
                    first(&got, tokens) == first(&want, hidden.len()),
                    "{} {tokens} vectors",
                    kernel.name()
                );
            }
        }
    }
}

#[test]
fn every_kernel_makes_the_same_copy() {
    for (rows, cols) in [(16, 4), (12, 5), (16, 63), (13, 2560)] {
        let (mut weights, _) = adversaries(rows, cols, cols as u64);
        let want = table(&weights, cols);
        let halves: Vec<half::f16> = weights.iter().map(|&w| half::f16::from_f32(w)).collect();
        for kernel in bitnet_kernels::available() {
            let mut strip = vec![9; ScreenTable::strip_len(cols)];
            kernel.encode_strip(&weights, cols, &mut strip).unwrap();
            assert!(strip == want.strip(0), "{} [{rows}, {cols}]", kernel.name());
            let mut wide = vec![0.0; halves.len()];
            kernel.widen(Values::F16(&halves), &mut wide);
            assert!(wide.iter().zip(&halves).all(|(x, h)| x.to_bits() == h.to_f32().to_bits()));
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            weights[rows * cols - 1] = value;
            let mut strip = vec![0; ScreenTable::strip_len(cols)];
            assert!(bitnet_kernels::select(None).unwrap().encode_strip(&weights, cols, &mut strip).is_err());
        }
    }
}

#[test]
fn no_logit_leaves_its_bounds() {
    let kernel = bitnet_kernels::select(None).unwrap();
    for (seed, (rows, cols)) in
        [(96, 64), (96, 640), (100, 2560), (48, 4096), (24, 16_384), (37, 3)].into_iter().enumerate()
    {
        for round in 0..8 {
            let (weights, hidden) = adversaries(rows, cols, (100 * seed + round) as u64);
            let hidden: Vec<_> = hidden.into_iter().filter(|h| h.iter().any(|&x| x != 0.0)).collect();
            let table = table(&weights, cols);
            let (bounds, peaks) = screen(kernel, &table, &hidden);
            let logits = full(&weights, cols, &hidden);
            for (t, logits) in logits.chunks(rows).enumerate() {
                for (r, &logit) in logits.iter().enumerate() {
                    let at = r / 16 * hidden.len() + t;
                    let (lower, upper) = (bounds[at][r % 16], bounds[at][16 + r % 16]);
                    assert!(
                        lower <= logit && logit <= upper,
                        "[{rows}, {cols}] vector {t} row {r}: {lower} {logit} {upper}"
                    );
                    assert!(peaks[at][0] >= lower && peaks[at][1] >= upper);
                }
            }
        }
    }
}

/// Useless bounds are right too: on plain noise an interval is a small part of the logits' spread.
#[test]
fn the_bound_is_not_loose() {
    let (rows, cols) = (512, 2560);
    let mut noise = Noise(5);
    let weights: Vec<f32> = (0..rows * cols).map(|_| 0.02 * noise.normal()).collect();
    let mut hidden: Vec<Vec<f32>> = vec![(0..cols).map(|_| noise.normal()).collect()];
    hidden.push(hidden[0].clone());
    // One outlier makes the norm 20 times as large; taken out of the norm it costs little.
    hidden[1][7] = 1000.0;
    let (bounds, _) = screen(bitnet_kernels::select(None).unwrap(), &table(&weights, cols), &hidden);
    for (t, most) in [(0, 0.5), (1, 0.1)] {
        let deviation = 0.02 * hidden[t].iter().map(|x| x * x).sum::<f32>().sqrt();
        let widest = bounds
            .iter()
            .skip(t)
            .step_by(2)
            .flat_map(|b| (0..16).map(|r| b[16 + r] - b[r]))
            .fold(0.0, f32::max);
        println!("vector {t}: bounds of {:.3} standard deviations", widest / 2.0 / deviation);
        assert!(widest / 2.0 < most * deviation, "vector {t}: {}", widest / 2.0 / deviation);
    }
}

#[test]
fn rows_by_id_are_those_of_the_full_product() {
    let (rows, cols) = (70, 333);
    let mut noise = Noise(11);
    let weights: Vec<f32> = (0..rows * cols).map(|_| noise.normal()).collect();
    let h: Vec<f32> = (0..cols).map(|_| noise.normal()).collect();
    let want = full(&weights, cols, std::slice::from_ref(&h));
    let ids: Vec<u32> = (0..rows as u32).rev().filter(|i| i % 3 != 1).collect();
    for kernel in bitnet_kernels::available() {
        for count in [0, 1, 3, 4, 16, 17, ids.len()] {
            let mut out = vec![0.0; count];
            kernel.dense_rows(Values::F32(&weights), cols, &h, &ids[..count], &mut out);
            assert!(
                out.iter().zip(&ids).all(|(x, &id)| x.to_bits() == want[id as usize].to_bits()),
                "{}",
                kernel.name()
            );
        }
    }
}

#[test]
fn what_cannot_be_screened_says_so() {
    let mut probes = Probes::new(&HybridMemoryPool::new(), 1, 4).unwrap();
    for h in [[0.0; 4], [f32::NAN, 0.0, 0.0, 1.0], [f32::INFINITY, 0.0, 0.0, 1.0], [f32::MAX; 4]] {
        assert!(!probes.set(0, &h), "{h:?}");
    }
    let mut strip = vec![0; ScreenTable::strip_len(4)];
    assert!(ScreenTable::encode_strip(&[1.0, f32::NAN, 0.0, 0.0], 4, &mut strip).is_err());
    assert!(ScreenTable::encode_strip(&[1.0, 0.0, f32::INFINITY, 0.0], 4, &mut strip).is_err());
    assert!(ScreenTable::byte_len(0, 4).is_none() && ScreenTable::byte_len(4, 1 << 20).is_none());
    assert!(ScreenTable::byte_len(usize::MAX, 4).is_none());
    assert!(ScreenTable::from_bytes(3, 4, vec![0; 255].into()).is_err());
    assert!(ScreenTable::from_bytes(3, 4, vec![0; 256].into()).is_ok());
}
