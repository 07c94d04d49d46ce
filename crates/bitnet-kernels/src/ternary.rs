//! Ternary matrix products: tiling, the correction for unsigned codes, and the one place where scales are applied.
//!
//! Every kernel returns raw code sums; since a code is trit + 1, `sum(trit * x) = sum(code * x) - sum(x)`. Then, per
//! row and in exactly this order of f32 operations:
//!
//! - int8 per token, one scale per tensor or row: `y = (dot * step) * scale`.
//! - otherwise a row is a sequence of groups (columns that share a scale) and a group a sequence of pieces (columns that
//!   also share a step): `acc = 0; for each group { s = 0; for each piece { s += dot * step }; acc += s * scale }`.
//! - float activations: `acc = 0; for each group { s = 0; for each column { s += trit * x }; acc += s * scale }`.

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{Activations, Granularity, QuantizedRows};

use crate::isa::{Isa, Op};

pub(crate) mod base3;
pub(crate) mod definitions;
mod float;
pub(crate) mod lines;
mod pieces;
mod planes;
mod strips;
mod whole_rows;

pub(crate) use float::FloatMatmul;
pub(crate) use strips::{STRIP, Strips};
use whole_rows::WholeRows;

/// Some strips of a matrix times all tokens.
pub(crate) struct Matmul<'a, 'b> {
    pub(crate) w: Strips<'a>,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) form: Activations,
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for Matmul<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, form, out } = self;
        let one_group = !matches!(w.scales.granularity(), Granularity::Group(_));
        if form == Activations::Int8PerToken && one_group {
            isa.call(WholeRows { w: &w, x, out });
        } else {
            pieces::multiply(isa, &w, x, form, out);
        }
    }
}
