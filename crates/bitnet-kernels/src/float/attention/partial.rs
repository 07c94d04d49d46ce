//! Partial results of chunks: how scores become weights, and how what a chunk adds is merged.

use bitnet_core::threads::ColumnsMut;

use crate::{
    float::exp::exp,
    isa::{Isa, Lanes},
    simd::Floats,
};

/// Positions in a chunk: a constant of the format of caches, not a tuning knob.
pub(crate) const CHUNK: usize = 256;

/// Scores become `p`; `state` becomes `(m, l)` of this chunk, or of this and those before it. Returns the factors of what is
/// there and of what this chunk adds.
#[inline(always)]
pub(super) fn weights<I: Isa>(isa: I, scores: &mut [f32], state: &mut [f32; 2], merge: bool) -> (f32, f32) {
    let chunk = isa.soften(scores);
    if merge {
        combine(state, chunk)
    } else {
        *state = chunk;
        (0.0, 1.0)
    }
}

/// Adds a chunk's `m` and `l` to those of the chunks before it; returns the factors of the two `a`.
#[inline(always)]
pub(super) fn combine(state: &mut [f32; 2], chunk: [f32; 2]) -> (f32, f32) {
    let larger = if chunk[0] > state[0] { chunk[0] } else { state[0] };
    let (old, new) = (exp(state[0] - larger), exp(chunk[0] - larger));
    *state = [larger, state[1] * old + chunk[1] * new];
    (old, new)
}

/// Where the weighted values of a tile go.
pub(super) struct Sink<'a, 'b, 'c> {
    pub(super) out: &'a mut ColumnsMut<'c, f32>,
    /// Of what is there and of what comes, per query.
    pub(super) factors: &'b mut [(f32, f32)],
    pub(super) merge: bool,
    pub(super) row: usize,
    pub(super) group: usize,
    pub(super) head_dim: usize,
}

impl Sink<'_, '_, '_> {
    /// The place of columns `d ..` of query `q`.
    #[inline(always)]
    fn place(&mut self, q: usize, d: usize) -> &mut [f32] {
        let row = self.row + q;
        &mut self.out.row(row / self.group)[row % self.group * self.head_dim + d..]
    }

    /// Takes columns from `d` on of queries from `q` on.
    #[inline(always)]
    pub(super) fn put_all<I: Isa, const Q: usize, const D: usize>(
        &mut self,
        isa: I,
        q: usize,
        d: usize,
        sums: &[[Lanes<f32>; D]; Q],
    ) {
        for (q, sums) in (q..).zip(sums) {
            let ((old, new), merge) = (self.factors[q], self.merge);
            let (out, _) = self.place(q, d).as_chunks_mut::<16>();
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if merge {
                    isa.load(out).mul(isa.splat(old)).add(isa.load(sum).mul(isa.splat(new))).store()
                } else {
                    *sum
                };
            }
        }
    }

    /// Takes the sum of column `d` of query `q`, for columns that fill no lanes.
    #[inline(always)]
    pub(super) fn put_one(&mut self, q: usize, d: usize, a: f32) {
        let ((old, new), merge) = (self.factors[q], self.merge);
        let out = &mut self.place(q, d)[0];
        *out = if merge { *out * old + a * new } else { a };
    }
}
