//! From a head's rows to their int8 copies with norms.

use super::rounding::up;
use crate::QuantError;

const LANES: usize = 8;
/// Rows of a strip: the 32-bit lanes of a block.
pub(super) const STRIP: usize = 16;
/// Bytes of a block, one AVX-512 register.
pub(super) const BLOCK: usize = 64;
/// Blocks of a strip that hold its scales and norms.
pub(super) const BOUNDS: usize = 3;

/// Bytes of a strip of `cols` columns.
pub(super) const fn strip_len(cols: usize) -> usize {
    (cols.div_ceil(4) + BOUNDS) * BLOCK
}

/// What the bound needs of a row of the head.
#[derive(Clone, Copy, Default)]
struct RowBound {
    scale: f32,
    /// The norm of the rounding error, `|e|`.
    residual: f32,
    /// The larger norm of the row and of its copy, `max(|w|, |w'|)`.
    norm: f32,
}

#[inline(always)]
pub(super) fn strip(weights: &[f32], cols: usize, strip: &mut [u8]) -> Result<(), QuantError> {
    assert_eq!(strip.len(), strip_len(cols), "bytes of a strip");
    assert!(weights.len().is_multiple_of(cols) && weights.len() <= STRIP * cols, "whole rows");
    let (codes, bounds) = strip.split_at_mut(cols.div_ceil(4) * BLOCK);
    codes.fill(128);
    bounds.fill(0);
    for (r, row) in weights.chunks_exact(cols).enumerate() {
        let bound = encode_row(row, r, codes)?;
        for (block, value) in bounds.chunks_exact_mut(BLOCK).zip([bound.scale, bound.residual, bound.norm]) {
            block[4 * r..4 * r + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

#[inline(always)]
fn encode_row(w: &[f32], r: usize, codes: &mut [u8]) -> Result<RowBound, QuantError> {
    let amax = largest(w);
    if !amax.is_finite() {
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
    codes.chunks_exact_mut(BLOCK).for_each(|block| block[4 * r..4 * r + 4].fill(128));
    let norm = up(w.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt());
    Ok(RowBound { scale: up(2.0 * f64::from(amax)), residual: norm, norm })
}

/// The largest magnitude, or NaN if there is one.
#[inline(always)]
fn largest(w: &[f32]) -> f32 {
    // Bits of magnitudes are in order like the magnitudes, with infinity and then NaN above all numbers.
    let bits = |x: f32| x.to_bits() & 0x7fff_ffff;
    let mut lanes = [0u32; LANES];
    let (chunks, tail) = w.as_chunks::<LANES>();
    for chunk in chunks {
        for j in 0..LANES {
            lanes[j] = lanes[j].max(bits(chunk[j]));
        }
    }
    f32::from_bits(tail.iter().map(|&x| bits(x)).chain(lanes).fold(0, u32::max))
}

/// Writes the codes of a row; returns the sums of squares of `w`, `w'` and `e`, and the largest `|e_j|`.
#[inline(always)]
fn quantize_row(w: &[f32], scale: f32, r: usize, codes: &mut [u8]) -> ([f64; 3], f64) {
    let (inverse, wide) = (1.0 / scale, f64::from(scale));
    let mut sums = Sums::default();
    let (blocks, _) = codes.as_chunks_mut::<{ BLOCK }>();
    let (chunks, tail) = w.as_chunks::<LANES>();
    for (x, blocks) in chunks.iter().zip(blocks.chunks_mut(LANES / 4)) {
        let code = sums.add(x, inverse, wide);
        for (block, four) in blocks.iter_mut().zip(code.as_chunks::<4>().0) {
            block.as_chunks_mut::<4>().0[r] = *four;
        }
    }
    if !tail.is_empty() {
        let mut x = [0.0; LANES];
        x[..tail.len()].copy_from_slice(tail);
        let code = sums.add(&x, inverse, wide);
        let last = &mut blocks[chunks.len() * LANES / 4..];
        for (block, four) in last.iter_mut().zip(code.as_chunks::<4>().0) {
            block.as_chunks_mut::<4>().0[r] = *four;
        }
    }
    let copies = sums.copies.iter().map(|&c| f64::from(c)).sum::<f64>() * wide * wide;
    let sum = |lanes: [f64; LANES]| lanes.iter().sum::<f64>();
    ([sum(sums.weights), copies, sum(sums.residuals)], sums.worst.into_iter().fold(0.0, f64::max))
}

/// What is summed over a row, in lanes.
#[derive(Default)]
struct Sums {
    weights: [f64; LANES],
    residuals: [f64; LANES],
    worst: [f64; LANES],
    /// Of squares of codes: at most 2^11 a lane of 2^14.
    copies: [u32; LANES],
}

impl Sums {
    /// Takes some weights in; returns their codes with 128 added.
    #[inline(always)]
    fn add(&mut self, x: &[f32; LANES], inverse: f32, scale: f64) -> [u8; LANES] {
        // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the last bits.
        const SHIFT: f32 = 12_582_912.0;
        let mut out = [0; LANES];
        for j in 0..LANES {
            let shifted = x[j] * inverse + SHIFT;
            let code = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
            let wide = f64::from(x[j]);
            let e = wide - scale * f64::from(shifted - SHIFT);
            self.weights[j] += wide * wide;
            self.residuals[j] += e * e;
            self.worst[j] = if e.abs() > self.worst[j] { e.abs() } else { self.worst[j] };
            self.copies[j] += (code * code) as u32;
            out[j] = (code + 128) as u8;
        }
        out
    }
}
