//! From a head's rows to their int8 copies with norms.

use super::{ScreenTable, up};
use crate::QuantError;

const LANES: usize = 8;

/// What the bound needs of a row.
#[derive(Clone, Copy, Default)]
struct RowBound {
    scale: f32,
    /// `|e|`
    residual: f32,
    /// `max(|w|, |w'|)`
    norm: f32,
}

pub(super) fn strip(weights: &[f32], cols: usize, strip: &mut [u8]) -> Result<(), QuantError> {
    assert_eq!(strip.len(), ScreenTable::strip_len(cols), "bytes of a strip");
    assert!(weights.len().is_multiple_of(cols) && weights.len() <= ScreenTable::STRIP * cols, "whole rows");
    let (codes, bounds) = strip.split_at_mut(cols.div_ceil(4) * ScreenTable::BLOCK);
    codes.fill(128);
    bounds.fill(0);
    for (r, row) in weights.chunks_exact(cols).enumerate() {
        let bound = encode_row(row, r, codes)?;
        for (block, value) in
            bounds.chunks_exact_mut(ScreenTable::BLOCK).zip([bound.scale, bound.residual, bound.norm])
        {
            block[4 * r..4 * r + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

fn encode_row(w: &[f32], r: usize, codes: &mut [u8]) -> Result<RowBound, QuantError> {
    let amax = largest(w);
    if !amax.is_finite() || w.iter().any(|x| x.is_nan()) {
        let col = w.iter().position(|x| !x.is_finite()).unwrap_or(0);
        return Err(QuantError::NotFinite { row: r, col, value: w[col] });
    }
    // Rounded up, so that no code leaves -127..=127.
    let scale = up(f64::from(amax) / 127.0);
    // Far below the normal range a quotient has no digits left.
    if scale >= f32::MIN_POSITIVE * 1e9 {
        let (squares, worst) = quantize_row(w, scale, r, codes);
        if worst <= 0.501 * f64::from(scale) {
            let [weights, copies, residuals] = squares;
            let norm = up(weights.max(copies).sqrt());
            return Ok(RowBound { scale, residual: up(residuals.sqrt()), norm });
        }
    }
    // All codes 0: the row is its own residual, and half of the scale bounds each element.
    codes.chunks_exact_mut(ScreenTable::BLOCK).for_each(|block| block[4 * r..4 * r + 4].fill(128));
    let norm = up(w.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt());
    Ok(RowBound { scale: up(2.0 * f64::from(amax)), residual: norm, norm })
}

/// The largest magnitude; NaN may be ignored.
fn largest(w: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, tail) = w.as_chunks::<LANES>();
    for chunk in chunks {
        for j in 0..LANES {
            lanes[j] = lanes[j].max(chunk[j].abs());
        }
    }
    tail.iter().map(|x| x.abs()).chain(lanes).fold(0.0, f32::max)
}

/// Writes the codes of a row; returns the sums of squares of `w`, `w'` and `e`, and the largest `|e_j|`.
fn quantize_row(w: &[f32], scale: f32, r: usize, codes: &mut [u8]) -> ([f64; 3], f64) {
    let inverse = 1.0 / scale;
    let wide = f64::from(scale);
    let (mut weights, mut residuals, mut worst) = ([0.0f64; LANES], [0.0f64; LANES], [0.0f64; LANES]);
    let mut copies = 0u64;
    for (b, chunk) in w.chunks(LANES).enumerate() {
        let mut x = [0.0f32; LANES];
        x[..chunk.len()].copy_from_slice(chunk);
        // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even.
        let code = x.map(|x| (x * inverse + 12_582_912.0) - 12_582_912.0);
        for j in 0..LANES {
            let x = f64::from(x[j]);
            let e = x - wide * f64::from(code[j]);
            weights[j] += x * x;
            residuals[j] += e * e;
            worst[j] = worst[j].max(e.abs());
        }
        let code = code.map(|c| c as i32);
        copies += code.iter().map(|&c| (c * c) as u64).sum::<u64>();
        for (half, four) in code.as_chunks::<4>().0.iter().enumerate() {
            let at = (2 * b + half) * ScreenTable::BLOCK + 4 * r;
            // The last chunk may be half empty.
            if let Some(bytes) = codes.get_mut(at..at + 4) {
                bytes.copy_from_slice(&four.map(|c| (c + 128) as u8));
            }
        }
    }
    let copies = copies as f64 * wide * wide;
    let sum = |lanes: [f64; LANES]| lanes.iter().sum::<f64>();
    ([sum(weights), copies, sum(residuals)], worst.into_iter().fold(0.0, f64::max))
}
