//! The operations of a [`Kernel`], with their checks.

use bitnet_core::{tensor::Values, threads::ColumnsMut};
use bitnet_quant::{Activations, PackedTernary, Probes, QuantError, QuantizedRows, ScreenTable, activations};
use half::f16;

use crate::{
    Kernel,
    float::{
        dense::{DenseMatmul, DenseRows, Widen},
        elementwise::{Add, Relu2Mul, Rope, RoundToF16, Scale, SiluMul},
        norm::{RmsNorm, RmsNormInPlace},
        quantize::{QuantizeBlocks, QuantizeToken},
        softmax::{LogSumExp, Softmax},
    },
    isa::{Isa, Op},
    screen::{Encode, Screen, StripBounds, StripPeaks},
    ternary::{FloatMatmul, Matmul, Strips},
};

mod attention;
mod blocks;
mod layouts;
mod recurrent;

pub use attention::ATTENTION_CHUNK;

/// Matrix products. `out` is a group of columns of a `[tokens, outputs]` matrix; its row `t`, column `i` becomes output
/// row `first_row + i` of token `t`. All `out.rows()` tokens of `x` are multiplied.
impl Kernel {
    /// Ternary weights times int8 activations (`form` says how `x` was quantized): see the crate's
    /// `ternary` module for the exact order of operations.
    ///
    /// # Panics
    /// When `first_row` is not a multiple of [`PackedTernary::STRIP`], rows or columns disagree, or `form` is
    /// [`Activations::Float`].
    pub fn matmul(
        &self,
        w: &PackedTernary,
        x: &QuantizedRows,
        form: Activations,
        first_row: usize,
        out: &mut ColumnsMut<'_, f32>,
    ) {
        assert_eq!(w.cols(), x.cols(), "columns of weights and activations");
        assert!(form != Activations::Float, "float activations are not quantized rows");
        self.run(Matmul { w: Strips::new(w, first_row, out.width()), x, form, out });
    }

    /// Ternary weights times float activations, `x` being `[tokens, cols]`.
    ///
    /// # Panics
    /// As [`Kernel::matmul`], and when `x` has another length.
    pub fn matmul_float(
        &self,
        w: &PackedTernary,
        x: &[f32],
        first_row: usize,
        out: &mut ColumnsMut<'_, f32>,
    ) {
        assert_eq!(x.len(), out.rows() * w.cols(), "activations of all tokens");
        self.run(FloatMatmul { w: Strips::new(w, first_row, out.width()), x, out });
    }

    /// Dense rows times float activations: `out[t][i] = dot(w[first_row + i], x[t])` in lane order.
    /// `w` is `[rows, cols]`, `x` is `[tokens, cols]`; any `first_row` will do.
    ///
    /// # Panics
    /// When `w` has fewer rows or `x` another length.
    pub fn dense_matmul(
        &self,
        w: Values<'_>,
        cols: usize,
        x: &[f32],
        first_row: usize,
        out: &mut ColumnsMut<'_, f32>,
    ) {
        assert!(cols > 0, "no columns");
        assert_eq!(x.len(), out.rows() * cols, "activations of all tokens");
        let range = first_row * cols..(first_row + out.width()) * cols;
        match w {
            Values::F32(w) => self.run(DenseMatmul { w: &w[range], cols, x, out }),
            Values::F16(w) => self.run(DenseMatmul { w: &w[range], cols, x, out }),
            Values::Bf16(w) => self.run(DenseMatmul { w: &w[range], cols, x, out }),
        }
    }
}

/// A head, screened: see `bitnet_quant::screen`.
impl Kernel {
    /// Bounds on the logits of whole strips of a head, the first being `first_strip`, for the first `tokens` vectors of
    /// `probes`. `bounds` and `peaks` are `[strips, tokens]`.
    ///
    /// # Panics
    /// When columns disagree, there are fewer strips or vectors, or a slice is not whole strips.
    pub fn screen(
        &self,
        table: &ScreenTable,
        probes: &Probes,
        tokens: usize,
        first_strip: usize,
        bounds: &mut [StripBounds],
        peaks: &mut [StripPeaks],
    ) {
        assert_eq!(table.cols(), probes.cols(), "columns of the head and the hidden vectors");
        assert!(tokens > 0 && tokens <= probes.capacity() && bounds.len().is_multiple_of(tokens));
        assert_eq!(bounds.len(), peaks.len(), "peaks of every strip");
        assert!(first_strip + bounds.len() / tokens <= table.strips(), "strips of the head");
        self.run(Screen { table, probes, tokens, first: first_strip, bounds, peaks });
    }

    /// [`ScreenTable::encode_strip`], faster.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn encode_strip(&self, weights: &[f32], cols: usize, strip: &mut [u8]) -> Result<(), QuantError> {
        self.run(Encode { weights, cols, strip })
    }

    /// `out[i] = x[i]`, exactly.
    ///
    /// # Panics
    /// When lengths disagree.
    pub fn widen(&self, x: Values<'_>, out: &mut [f32]) {
        let len = match x {
            Values::F32(x) => x.len(),
            Values::F16(x) => x.len(),
            Values::Bf16(x) => x.len(),
        };
        assert_eq!(len, out.len(), "as many floats");
        match x {
            Values::F32(x) => out.copy_from_slice(x),
            Values::F16(x) => self.run(Widen { x, out }),
            Values::Bf16(x) => self.run(Widen { x, out }),
        }
    }

    /// `out[i] = dot(w[ids[i]], x)`: what [`Kernel::dense_matmul`] gives for those rows, bit for bit. `w` is `[rows, cols]`.
    ///
    /// # Panics
    /// When `w` has no such row or lengths disagree.
    pub fn dense_rows(&self, w: Values<'_>, cols: usize, x: &[f32], ids: &[u32], out: &mut [f32]) {
        assert!(cols > 0, "no columns");
        assert_eq!((x.len(), ids.len()), (cols, out.len()), "one vector, one result per row");
        match w {
            Values::F32(w) => self.run(DenseRows { w, x, ids, out }),
            Values::F16(w) => self.run(DenseRows { w, x, ids, out }),
            Values::Bf16(w) => self.run(DenseRows { w, x, ids, out }),
        }
    }
}

/// Yardsticks: what this machine could do at most with this instruction set, to be measured beside real work.
impl Kernel {
    /// Reads all of `bytes` (whole 64-byte blocks) once, in order, with one cheap instruction per register: the time is
    /// that of the memory. The sum returned only keeps the loop alive.
    pub fn read_yardstick(&self, bytes: &[u8]) -> i32 {
        self.run(Read(bytes))
    }

    /// Multiplies int8 registers without touching memory, `rounds` times over. Returns the number of products added
    /// (each is two operations) and a sum that keeps the loop alive.
    pub fn multiply_yardstick(&self, rounds: u64) -> (u64, i32) {
        self.run(Multiply(rounds))
    }
}

struct Read<'a>(&'a [u8]);

impl Op for Read<'_> {
    type Output = i32;
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> i32 {
        isa.read(self.0.as_chunks().0).iter().fold(0, |a, &b| a.wrapping_add(b))
    }
}

struct Multiply(u64);

impl Op for Multiply {
    type Output = (u64, i32);

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> (u64, i32) {
        isa.multiply(self.0)
    }
}

/// Activations to int8, bit-equal to the definitions in `bitnet_quant::activations`.
impl Kernel {
    /// `x` as `token` of `rows`, one step for all of it.
    pub fn quantize_token(&self, x: &[f32], rows: &mut QuantizedRows, token: usize) {
        assert_eq!(x.len(), rows.cols());
        let (codes, steps, sums) = rows.row_mut(token);
        (steps[0], sums[0]) = self.quantize_into(x, codes);
    }

    /// `x` with one step into `codes`, which may be up to 63 longer than `x` (rounded up to 16 at least) and is padded
    /// with zeros. Returns the step and the sum of the codes.
    pub fn quantize_into(&self, x: &[f32], codes: &mut [i8]) -> (f32, i32) {
        assert!(codes.len() >= x.len().next_multiple_of(16), "no room for {} codes", x.len());
        self.run(QuantizeToken { x, codes })
    }

    /// `x` as `token` of `rows`, one step per block of 32 columns.
    pub fn quantize_blocks(&self, x: &[f32], rows: &mut QuantizedRows, token: usize) {
        assert_eq!(x.len(), rows.cols());
        let (codes, steps, sums) = rows.row_mut(token);
        self.quantize_blocks_into(x, codes, steps, sums);
    }

    /// `x` with one step per block of 32 columns. `codes` has whole blocks, `steps` and `sums` one element per block.
    pub fn quantize_blocks_into(&self, x: &[f32], codes: &mut [i8], steps: &mut [f32], sums: &mut [i32]) {
        let blocks = codes.len() / activations::BLOCK;
        assert!(codes.len() >= x.len() && codes.len().is_multiple_of(activations::BLOCK), "whole blocks");
        assert_eq!((steps.len(), sums.len()), (blocks, blocks), "one step and sum per block");
        self.run(QuantizeBlocks { x, codes, steps, sums });
    }
}

/// Norms, gates, rotary embedding, softmax.
impl Kernel {
    /// `out = (x * r) * weight` with `r = 1 / sqrt(sum(x * x) / n + eps)`, the sum in lane order.
    pub fn rmsnorm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert_eq!((x.len(), x.len()), (weight.len(), out.len()));
        self.run(RmsNorm { x, weight, eps, out });
    }

    /// [`Kernel::rmsnorm`] with the result in place of `x`.
    pub fn rmsnorm_in_place(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        assert_eq!(x.len(), weight.len());
        self.run(RmsNormInPlace { x, weight, eps });
    }

    /// Rotates one head: `(a, b) -> (a * cos - b * sin, b * cos + a * sin)` for `a = x[i]`, `b = x[i + half]`,
    /// `half = cos.len() = sin.len()`. Elements of `x` from `2 * half` on are left alone.
    pub fn rope(&self, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(cos.len(), sin.len());
        self.run(Rope { x: &mut x[..2 * cos.len()], cos, sin });
    }

    /// `gate = (gate / (1 + e^-gate)) * up`
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        self.run(SiluMul { gate, up });
    }

    /// `gate = (max(gate, 0) * max(gate, 0)) * up`
    pub fn relu2_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        self.run(Relu2Mul { gate, up });
    }

    /// `x = x + y`, element by element: the residual connection.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        self.run(Add { x, y });
    }

    /// `x = x * factor`, each element rounded once.
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        self.run(Scale { x, factor });
    }

    /// `x = e^(x - max x) / sum`, the sum in lane order.
    pub fn softmax(&self, x: &mut [f32]) {
        self.run(Softmax(x));
    }

    /// `ln(sum(e^x))` in lane order, the logarithm of a softmax's denominator.
    pub fn log_sum_exp(&self, x: &[f32]) -> f32 {
        self.run(LogSumExp(x))
    }

    /// `out = f16(x)`, rounded to nearest even: what a cache of binary16 stores.
    pub fn round_to_f16(&self, x: &[f32], out: &mut [f16]) {
        assert_eq!(x.len(), out.len());
        self.run(RoundToF16 { x, out });
    }
}
