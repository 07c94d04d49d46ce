//! Dense matrices (heads, unquantized projections) times float vectors.

use bitnet_core::threads::ColumnsMut;
use half::{bf16, f16};

use super::lanes::tree;
use crate::isa::{Isa, Lanes, Op};

/// How a stored element becomes an f32, exactly.
pub(crate) trait Element: Copy {
    /// Sixteen at once.
    fn widen<I: Isa>(isa: I, x: &[Self; 16]) -> Lanes<f32>;
    /// What pads a tail; it widens to 0.
    const ZERO: Self;
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn widen<I: Isa>(_: I, x: &[Self; 16]) -> Lanes<f32> {
        *x
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;

    #[inline(always)]
    fn widen<I: Isa>(isa: I, x: &[Self; 16]) -> Lanes<f32> {
        isa.f16_to_f32(&x.map(f16::to_bits))
    }
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn widen<I: Isa>(_: I, x: &[Self; 16]) -> Lanes<f32> {
        x.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }
}

impl Element for i8 {
    const ZERO: Self = 0;

    #[inline(always)]
    fn widen<I: Isa>(_: I, x: &[Self; 16]) -> Lanes<f32> {
        x.map(f32::from)
    }
}

/// The last elements of a row, padded with zeros.
#[inline(always)]
pub(crate) fn pad<E: Element>(tail: &[E]) -> [E; 16] {
    let mut out = [E::ZERO; 16];
    out[..tail.len()].copy_from_slice(tail);
    out
}

/// `N` rows dot one vector, each in lane order; `N` only hides latency.
#[inline(always)]
pub(crate) fn dots<I: Isa, E: Element, const N: usize>(isa: I, rows: [&[E]; N], x: &[f32]) -> [f32; N] {
    let (x_chunks, x_tail) = x.as_chunks::<16>();
    let rows = rows.map(|row| row[..x.len()].as_chunks::<16>());
    let mut lanes = [[0.0; 16]; N];
    for (i, x) in x_chunks.iter().enumerate() {
        for (lanes, row) in lanes.iter_mut().zip(&rows) {
            let w = E::widen(isa, &row.0[i]);
            for j in 0..16 {
                lanes[j] += w[j] * x[j];
            }
        }
    }
    if !x_tail.is_empty() {
        for (lanes, row) in lanes.iter_mut().zip(&rows) {
            let w = E::widen(isa, &pad(row.1));
            for (j, &x) in x_tail.iter().enumerate() {
                lanes[j] += w[j] * x;
            }
        }
    }
    lanes.map(tree)
}

/// `out[t][r] = dot(w[first_row + r], x[t])`, `x` being `[tokens, cols]`.
pub(crate) struct DenseMatmul<'a, 'b, E> {
    /// Rows `first_row ..` of the matrix, `cols` elements each.
    pub(crate) w: &'a [E],
    pub(crate) cols: usize,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl<E: Element> Op for DenseMatmul<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, cols, x, out } = self;
        let row = |r: usize| &w[r * cols..(r + 1) * cols];
        let rows = out.width();
        let mut r = 0;
        while r < rows {
            let four = r + 4 <= rows;
            for token in 0..out.rows() {
                let x = &x[token * cols..(token + 1) * cols];
                let out = &mut out.row(token)[r..];
                if four {
                    out[..4].copy_from_slice(&dots(isa, [row(r), row(r + 1), row(r + 2), row(r + 3)], x));
                } else {
                    out[0] = dots(isa, [row(r)], x)[0];
                }
            }
            r += if four { 4 } else { 1 };
        }
    }
}
