//! The hidden vectors' 16-bit copies.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose};

use super::rounding::{TINY, up};

/// The largest magnitude of a hidden code: 127 in the high plane, nothing in the low one.
const MOST: f64 = 32_512.0;

/// What the bound needs of a hidden vector; letters are those of the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    /// The step of the 16-bit copy: `h' = step * q`.
    pub step: f32,
    /// The sum of the codes `q`, with which the 128 in every byte of a head's copy is taken off.
    pub sum: i32,
    /// `S`: 0.501 times the sum of the outliers' magnitudes.
    pub outliers: f32,
    /// `R`: the norm of the vector without its outliers.
    pub rest: f32,
    /// `G`: what roundings of the vector, of sums and of the estimate take, for a row of norm 1.
    pub slack: f32,
    /// The norm of the vector, `|h|`.
    pub norm: f32,
}

impl Probe {
    /// The bound for a row with these three numbers.
    #[inline(always)]
    pub fn bound(&self, scale: f32, residual: f32, norm: f32) -> f32 {
        const MORE: f32 = 1.0 + 1.0 / 1_048_576.0;
        ((scale * self.outliers + residual * self.rest) + norm * self.slack) * MORE + TINY
    }
}

/// Quantized hidden vectors, made once and compared with all rows.
#[derive(Debug)]
pub struct Probes {
    cols: usize,
    quads: usize,
    wide: Buffer<[i16; 4]>,
    planes: Buffer<[i8; 8]>,
    marks: Vec<Probe>,
}

impl Probes {
    /// Room for `capacity` vectors of `cols` elements.
    ///
    /// # Errors
    /// When the pool has no memory.
    pub fn new(pool: &HybridMemoryPool, capacity: usize, cols: usize) -> bitnet_core::Result<Self> {
        let quads = cols.div_ceil(4);
        let len = capacity.saturating_mul(quads);
        Ok(Self {
            cols,
            quads,
            wide: pool.allocate(Purpose::State, len)?,
            planes: pool.allocate(Purpose::State, len)?,
            marks: vec![Probe::default(); capacity],
        })
    }

    /// The largest number of vectors that can be held.
    pub fn capacity(&self) -> usize {
        self.marks.len()
    }

    /// Elements of a hidden vector, without padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What the bound needs of vector `index`.
    pub fn probe(&self, index: usize) -> &Probe {
        &self.marks[index]
    }

    /// The codes of vector `index`, four columns at a time.
    pub fn wide(&self, index: usize) -> &[[i16; 4]] {
        &self.wide[index * self.quads..(index + 1) * self.quads]
    }

    /// The same codes as two planes: of each four columns the four high parts, then the four low parts, where
    /// `code = 256 * high + low`.
    pub fn planes(&self, index: usize) -> &[[i8; 8]] {
        &self.planes[index * self.quads..(index + 1) * self.quads]
    }

    /// Quantizes `h` as vector `index`. False when it is zero, not finite or out of range, so that nothing can be screened.
    ///
    /// # Panics
    /// When `h` does not have the columns, or there is no room.
    pub fn set(&mut self, index: usize, h: &[f32]) -> bool {
        assert_eq!(h.len(), self.cols, "columns of a hidden vector");
        let n = self.cols as f64;
        let amax = h.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let norm = h.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if !(norm.is_finite() && norm > 0.0 && norm < f64::from(f32::MAX)) {
            return false;
        }
        // |q| <= norm / step + sqrt(n) / 2, which this keeps below (2^31 - 1) / (128 sqrt(n)).
        let most_norm = f64::from(i32::MAX) / (128.0 * n.sqrt()) - n.sqrt();
        let step = up((f64::from(amax) / MOST).max(norm / most_norm) * (1.0 + 1e-6));
        let wide = f64::from(step);
        let (quads, at) = (self.quads, index * self.quads);
        let (mut sum, mut residual) = (0i32, 0.0f64);
        let codes = self.wide[at..at + quads].iter_mut().zip(&mut self.planes[at..at + quads]);
        for (four, (codes, planes)) in h.chunks(4).zip(codes) {
            (*codes, *planes) = ([0; 4], [0; 8]);
            for (k, &x) in four.iter().enumerate() {
                let x = f64::from(x);
                let q = round(x / wide);
                let r = x - wide * f64::from(q);
                residual += r * r;
                sum += q;
                let low = ((q + 128) & 255) - 128;
                codes[k] = q as i16;
                planes[k] = ((q - low) >> 8) as i8;
                planes[k + 4] = low as i8;
            }
        }
        let (outliers, rest) = split(h, norm);
        let roundings = (self.cols.div_ceil(16) + 5) as f64 * f64::from(f32::EPSILON) / 2.0;
        let (g, r) = (roundings / (1.0 - roundings), residual.sqrt());
        let slack = g * norm + r + (norm + r) / 2_097_152.0;
        let [outliers, rest, slack, norm] = [0.501 * outliers, rest, slack, norm].map(up);
        self.marks[index] = Probe { step, sum, outliers, rest, slack, norm };
        true
    }
}

/// To the nearest integer; the quotient is at most [`MOST`].
fn round(x: f64) -> i32 {
    // 1.5 * 2^52 leaves no room for a fraction.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    ((x + SHIFT) - SHIFT) as i32
}

/// The sum of magnitudes of the outliers, and the norm of the others. Any choice of outliers is right; this one comes near to
/// the smallest bound for rows whose errors are spread evenly, where `|e|` is `sqrt(n / 3)` times the largest error.
fn split(h: &[f32], norm: f64) -> (f64, f64) {
    let ratio = (h.len() as f64 / 3.0).sqrt();
    let (mut outliers, mut rest) = (0.0, norm);
    // A column is worth it when |h_j| < ratio * (rest - sqrt(rest^2 - h_j^2)), about ratio * h_j^2 / (2 rest). Each
    // round lowers the threshold.
    for _ in 0..3 {
        let threshold = 2.0 * rest / ratio;
        let (mut sum, mut squares) = (0.0, 0.0);
        for &x in h {
            let x = f64::from(x).abs();
            if x > threshold {
                sum += x;
            } else {
                squares += x * x;
            }
        }
        let smaller = sum + ratio * squares.sqrt() < outliers + ratio * rest;
        if !smaller {
            break;
        }
        (outliers, rest) = (sum, squares.sqrt());
    }
    (outliers, rest)
}

#[cfg(test)]
mod tests {
    use super::{super::ScreenTable, *};

    /// The slack covers what its three parts are for, and no more. Attacks on the bound from outside see a lost part only where
    /// the others are small; here each is.
    #[test]
    fn the_slack_has_a_part_for_summing_rounding_and_estimating() {
        // Under Miri, which takes a minute for the long ones, the first is enough: the same loops, and no pointers.
        let widths = [16usize, 576, 4100, ScreenTable::MAX_COLS];
        for &cols in &widths[..if cfg!(miri) { 1 } else { 4 }] {
            let h: Vec<f32> = (0..cols).map(|i| ((i * 7919 % 1013) as f32 - 506.0) / 300.0).collect();
            let mut probes = Probes::new(&HybridMemoryPool::new(), 1, cols).unwrap();
            assert!(probes.set(0, &h));
            let probe = *probes.probe(0);
            let kept = probes.wide(0).iter().flatten().map(|&q| f64::from(probe.step) * f64::from(q));
            let error =
                h.iter().zip(kept).map(|(&x, kept)| (f64::from(x) - kept).powi(2)).sum::<f64>().sqrt();
            let norm = h.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let u = 2f64.powi(-24);
            let sums = (cols.div_ceil(16) + 5) as f64 * u;
            let [summing, estimating] = [sums / (1.0 - sums) * norm, 2f64.powi(-21) * (norm + error)];
            let (least, slack) = (summing + error + estimating, f64::from(probe.slack));
            assert!((least..least * (1.0 + 1e-6)).contains(&slack), "{cols} columns: {slack}, {least}");
            assert!(summing > 1e-3 * least && error > 1e-3 * least, "no part is lost in the others");
        }
    }
}
