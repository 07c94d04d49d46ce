//! Trits times float activations, column after column.

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::Granularity;

use super::strips::{STRIP, Strips, write};
use crate::isa::{Isa, Op};

/// Some strips of a matrix times all tokens of `x`, `[tokens, cols]` row-major.
pub(crate) struct FloatMatmul<'a, 'b> {
    pub(crate) w: Strips<'a>,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for FloatMatmul<'_, '_> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Self { w, x, out } = self;
        let cols = w.cols;
        let group = match w.scales.granularity() {
            Granularity::Group(size) => size,
            _ => cols,
        };
        for s in 0..w.count() {
            let strip = w.strip(s);
            for token in 0..out.rows() {
                let x = &x[token * cols..(token + 1) * cols];
                let mut acc = [0.0; STRIP];
                for (g, group) in x.chunks(group).enumerate().map(|(g, x)| (g, (g * group, x))) {
                    let mut sum = [0.0; STRIP];
                    let (start, x) = group;
                    for (column, &x) in (start..).zip(x) {
                        let rows = strip[column / 16].as_chunks::<4>().0;
                        let shift = 8 * (column % 4) + 2 * (column % 16 / 4);
                        for (sum, row) in sum.iter_mut().zip(rows) {
                            let code = (u32::from_le_bytes(*row) >> shift & 3) as i32;
                            *sum += (code - 1) as f32 * x;
                        }
                    }
                    let scales = w.scales(s, g);
                    for r in 0..STRIP {
                        acc[r] += sum[r] * scales[r];
                    }
                }
                write(&acc, w.columns(s), out.row(token));
            }
        }
    }
}
