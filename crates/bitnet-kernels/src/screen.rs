//! Bounds on the logits of a head from its int8 copy: see `bitnet_quant::screen` for the copy, the bound and its proof.
//!
//! The integer sums are exact on every instruction set; the floats around them are one multiplication chain per
//! row, so all kernels give the same bits here too.

use bitnet_quant::{Probe, Probes, QuantError, ScreenTable, screen::LIMIT};

use crate::isa::{Block, Isa, Lanes, Op};

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod dots;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use dots::{ByteDots, Query};

/// Lower, then upper bounds on the logits of a strip's 16 rows, never NaN. Rows past the end have -inf for both.
pub type StripBounds = [f32; 32];
/// The largest lower and the largest upper bound of a strip.
pub type StripPeaks = [f32; 2];

/// [`ScreenTable::encode_strip`], compiled for the set.
pub(crate) struct Encode<'a> {
    pub(crate) weights: &'a [f32],
    pub(crate) cols: usize,
    pub(crate) strip: &'a mut [u8],
}

impl Op for Encode<'_> {
    type Output = Result<(), QuantError>;
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> Self::Output {
        ScreenTable::encode_strip(self.weights, self.cols, self.strip)
    }
}

/// Some strips times the first `tokens` vectors.
pub(crate) struct Screen<'a> {
    pub(crate) table: &'a ScreenTable,
    pub(crate) probes: &'a Probes,
    pub(crate) tokens: usize,
    pub(crate) first: usize,
    /// Bounds of each strip and vector, `[strips, tokens]`.
    pub(crate) bounds: &'a mut [StripBounds],
    /// The largest bounds of each strip and vector, `[strips, tokens]`.
    pub(crate) peaks: &'a mut [StripPeaks],
}

impl Op for Screen<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        for s in 0..self.bounds.len() / self.tokens {
            let mut token = 0;
            while token < self.tokens {
                let left = self.tokens - token;
                token += match I::QUERIES.min(left) {
                    8.. => self.tile::<I, 8>(isa, s, token),
                    4.. => self.tile::<I, 4>(isa, s, token),
                    2.. => self.tile::<I, 2>(isa, s, token),
                    _ => self.tile::<I, 1>(isa, s, token),
                };
            }
        }
    }
}

impl Screen<'_> {
    /// One strip times `T` vectors; returns `T`.
    #[inline(always)]
    fn tile<I: Isa, const T: usize>(&mut self, isa: I, s: usize, token: usize) -> usize {
        let (blocks, _) = self.table.strip(self.first + s).as_chunks::<64>();
        let (codes, numbers) = blocks.split_at(blocks.len() - ScreenTable::BOUNDS);
        let queries = std::array::from_fn(|t| {
            let index = token + t;
            Query {
                planes: self.probes.planes(index),
                wide: self.probes.wide(index),
                sum: self.probes.probe(index).sum,
            }
        });
        let sums = isa.byte_dots::<T>(codes, queries);
        let rows = (self.table.rows() - (self.first + s) * ScreenTable::STRIP).min(ScreenTable::STRIP);
        for (t, sums) in sums.iter().enumerate() {
            let at = s * self.tokens + token + t;
            self.peaks[at] = finish(sums, self.probes.probe(token + t), numbers, rows, &mut self.bounds[at]);
        }
        T
    }
}

/// From sums to bounds; `numbers` are the scales, residuals and norms of the strip.
#[inline(always)]
fn finish(
    sums: &Lanes<i32>,
    probe: &Probe,
    numbers: &[Block],
    rows: usize,
    bounds: &mut StripBounds,
) -> StripPeaks {
    let number = |which: usize, r: usize| {
        let block = &numbers[which];
        f32::from_le_bytes([block[4 * r], block[4 * r + 1], block[4 * r + 2], block[4 * r + 3]])
    };
    let mut peaks = [f32::NEG_INFINITY; 2];
    bounds.fill(f32::NEG_INFINITY);
    for r in 0..rows {
        let (scale, residual, norm) = (number(0, r), number(1, r), number(2, r));
        let estimate = sums[r] as f32 * (scale * probe.step);
        let bound = probe.bound(scale, residual, norm);
        // What is no number proves nothing: the row may be anything.
        let known = norm * probe.norm < LIMIT && estimate.abs() < f32::MAX && bound < f32::MAX;
        let lower = if known { estimate - bound } else { f32::NEG_INFINITY };
        let upper = if known { estimate + bound } else { f32::INFINITY };
        (bounds[r], bounds[16 + r]) = (lower, upper);
        peaks[0] = if lower > peaks[0] { lower } else { peaks[0] };
        peaks[1] = if upper > peaks[1] { upper } else { peaks[1] };
    }
    peaks
}
