//! Screening a head: an int8 copy of its rows, a 16-bit copy of the hidden vector, and a proven bound on how far the product
//! of the copies can be from the logit that the head itself would give.
//!
//! A head multiplies one vector `h` with hundreds of thousands of rows `w`, and nearly all logits are far below those
//! that matter. The copies are read instead; rows whose upper bound is below a proven lower bound of what is wanted cannot
//! matter; the few others are multiplied with the head's own weights. So the result is the head's own, bit for bit.
//!
//! # The bound
//!
//! Row `w` of `n` columns is kept as `w' = scale * c`, `c` integers in -127..=127; `e = w - w'`. The hidden vector is kept as
//! `h' = step * q`, `q` integers in -32512..=32512; `r = h - h'`. With exact real arithmetic
//!
//! ```text
//! w.h = w'.h' + w'.r + e.h
//! |w'.r| <= |w'| |r|                                            (Cauchy-Schwarz; |x| is the Euclidean norm)
//! |e.h|  <= max|e_j| * sum(|h_j|, j in O) + |e| |h without O|   (for any set O of columns)
//! ```
//!
//! `O` holds the few columns in which `h` is so large that the first form is the smaller one: trained models have such outliers.
//! `max|e_j| <= 0.501 scale` by construction.
//!
//! `w'.h' = scale * step * D` where `D = c.q` is an integer. It is summed in wrapping 32-bit arithmetic, which is exact since
//! the step is chosen so that `|D| <= |c| |q| <= 128 sqrt(n) |q| < 2^31` ([`Probes::set`]).
//!
//! What the head returns is not `w.h` but f32 sums. In the kernels' 16-lane order a product meets `m = ceil(n / 16) + 5`
//! roundings (its own, those of its lane, four of the tree), so with `u = 2^-24` and `g = m u / (1 - m u)` the head's logit
//! differs from `w.h` by at most `g * sum|w_j h_j| <= g |w| |h|`. The estimate `(D as f32) * (scale * step)` is rounded three
//! times and once more when the bound is added or taken away: `4.2 u |w'| |h'|`, for which `2^-21 N (|h| + |r|)` is more than
//! enough, `N = max(|w|, |w'|)`. Numbers below the normal range lose at most `2^-150` for each of the `n` products and
//! `2^-150 |D|` in the scale: [`TINY`] covers both. Together
//!
//! ```text
//! |logit - estimate| <= scale * S + |e| * R + N * G + TINY
//! S = 0.501 sum(|h_j|, j in O)    R = |h without O|    G = g |h| + |r| + 2^-21 (|h| + |r|)
//! ```
//!
//! Norms are summed in f64, whose own error (`n 2^-53`) is covered by `MARGIN`, and rounded up to f32; the bound itself is
//! evaluated in f32, where it meets five roundings, and multiplied by `1 + 2^-20`, which is more than they take away.
//! All of this presumes that nothing overflows: no partial sum of the head exceeds `N |h| (1 + g)`, so rows with
//! `N |h| >= ` [`LIMIT`] get infinite bounds and are always multiplied in full.

use bitnet_core::SharedBytes;

use crate::QuantError;

mod encode;
mod probes;
mod rounding;

pub use probes::{Probe, Probes};
pub use rounding::{LIMIT, TINY};

/// The int8 copy of a matrix's rows.
///
/// Rows are taken in strips of 16. A strip is one block of 64 bytes for every four columns, then three blocks of 16
/// little-endian f32 each: scales, `|e|` and `N` of its rows (see the module). Byte `4 * r + k` of block `b` is
/// `128 + c` of row `r`, column `4 * b + k`. So a strip is one sequential stream, a 64-byte load has a 32-bit lane per row,
/// and all lanes meet the same four activations. Rows and columns past the end hold 128 and zeros.
#[derive(Clone, Debug)]
pub struct ScreenTable {
    rows: usize,
    cols: usize,
    bytes: SharedBytes,
}

impl ScreenTable {
    /// Rows of a strip: the 32-bit lanes of a block.
    pub const STRIP: usize = encode::STRIP;
    /// Bytes of a block, one AVX-512 register.
    pub const BLOCK: usize = encode::BLOCK;
    /// More columns are not screened: the hidden vector's copy would be too coarse.
    pub const MAX_COLS: usize = 1 << 14;
    /// Blocks of a strip that hold its scales and norms.
    pub const BOUNDS: usize = encode::BOUNDS;

    /// Takes a copy that exists already (a file's). Its bounds are believed as its weights are.
    ///
    /// # Errors
    /// [`QuantError::Screen`] when the shape cannot be screened or the bytes are not its bytes.
    pub fn from_bytes(rows: usize, cols: usize, bytes: SharedBytes) -> Result<Self, QuantError> {
        let wrong = |what| QuantError::Screen { rows, cols, what };
        let expected =
            Self::byte_len(rows, cols).ok_or_else(|| wrong("the shape cannot be screened".into()))?;
        if bytes.len() != expected {
            return Err(wrong(format!("expected {expected} bytes, got {}", bytes.len())));
        }
        Ok(Self { rows, cols, bytes })
    }

    /// Bytes of the copy of a `[rows, cols]` matrix; `None` for shapes that cannot be screened.
    pub fn byte_len(rows: usize, cols: usize) -> Option<usize> {
        let good = rows > 0 && u32::try_from(rows).is_ok() && cols > 0 && cols <= Self::MAX_COLS;
        good.then(|| rows.div_ceil(Self::STRIP).checked_mul(Self::strip_len(cols)))?
    }

    /// Bytes of a strip of `cols` columns.
    pub const fn strip_len(cols: usize) -> usize {
        encode::strip_len(cols)
    }

    /// Writes the strip of up to 16 rows (`weights` is `[rows, cols]`) into `strip`, [`ScreenTable::strip_len`] bytes.
    ///
    /// # Errors
    /// [`QuantError::NotFinite`] with the row counted from the strip's first: such a matrix cannot be screened.
    ///
    /// # Panics
    /// When a length is wrong.
    // Inlined so that a kernel may compile it for its instruction set; the result is the same on all.
    #[inline(always)]
    pub fn encode_strip(weights: &[f32], cols: usize, strip: &mut [u8]) -> Result<(), QuantError> {
        encode::strip(weights, cols, strip)
    }

    /// Rows of the head; padding is not counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the head; padding is not counted.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Strips of 16 rows, the last padded.
    pub fn strips(&self) -> usize {
        self.rows.div_ceil(Self::STRIP)
    }

    /// The bytes of all strips, one strip behind another.
    pub fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// The bytes of strip `strip`: codes, then three blocks of numbers.
    pub fn strip(&self, strip: usize) -> &[u8] {
        let len = Self::strip_len(self.cols);
        &self.bytes[strip * len..(strip + 1) * len]
    }
}
