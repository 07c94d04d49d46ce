//! Products of weights in base 3.

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{PackedBase3, QuantizedRows};

use super::{
    definitions::{MADE, TAKEN, four},
    strips::{STRIP, Strips, lanes, write},
    whole_rows::WholeRows,
};
use crate::isa::{Isa, Op};

/// Some strips times all tokens, one token after another.
pub(crate) struct MatmulBase3<'a, 'b> {
    pub(crate) w: &'a PackedBase3,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for MatmulBase3<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, out } = self;
        let (first, rows) = (out.start() / STRIP, out.width());
        let blocks = &w.bytes().as_chunks().0[first * w.blocks()..];
        for token in 0..out.rows() {
            let (codes, sum, step) = (&x.codes(token)[..w.cols()], x.sum(token), x.step(token));
            let out = out.row(token);
            for (s, strip) in blocks.chunks_exact(w.blocks()).take(rows.div_ceil(STRIP)).enumerate() {
                let sums = isa.dot_base3(strip, codes);
                let y = isa.finish(&sums, sum, step, &lanes(w.scales().strip(first + s, 0)));
                write(&y, s * STRIP..((s + 1) * STRIP).min(rows), out);
            }
        }
    }
}

/// Some strips times all tokens, by way of strips of two bits a trit in `scratch`.
pub(crate) struct TiledBase3<'a, 'b> {
    pub(crate) w: &'a PackedBase3,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for TiledBase3<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, scratch, out } = self;
        let (first, rows, cols) = (out.start(), out.width(), w.cols());
        let strips = scratch.as_chunks_mut().0;
        let blocks = &w.bytes().as_chunks().0[first / STRIP * w.blocks()..];
        let made = strips.chunks_exact_mut(cols.div_ceil(STRIP)).take(rows.div_ceil(STRIP));
        for (strip, made) in blocks.chunks_exact(w.blocks()).zip(made) {
            for (taken, made) in strip.chunks(TAKEN).zip(made.chunks_mut(MADE)) {
                made.copy_from_slice(&isa.unpack_base3(four(taken))[..made.len()]);
            }
        }
        isa.call(WholeRows { w: &Strips::of(strips, cols, w.scales(), first, rows), x, out });
    }
}
