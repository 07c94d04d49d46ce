//! Feed-forward layers that leave out what squared ReLU makes 0.
//!
//! Where `gate <= 0` the gated value is 0 whatever `up` says, and stays 0 through the sub-norm and as an int8 code: neither
//! `up`'s row nor `down`'s column is read. Tokens differ in what they need, so several of them go one by one only while
//! that reads less than everything once.

use bitnet_quant::{Axis, QuantizedRows, TernaryLines};

use crate::{Cpu, CpuPass, Matrix, Rows};
use bitnet_device::{Gated, Skipping};

/// Above so many tokens nobody counts zeros: everything is read.
const FEW_TOKENS: usize = 8;

/// How the CPU leaves out rows: matrices laid out in rows know where each begins.
pub struct CpuSkip;

impl Skipping<Cpu> for CpuSkip {
    fn applies(matrix: &Matrix) -> bool {
        matches!(matrix, Matrix::Lines(w) if w.axis() == Axis::Rows)
    }

    fn gate(pass: &mut CpuPass<'_>, gated: Gated<'_, Cpu>, tokens: usize) {
        let Matrix::Lines(up) = gated.up else { unreachable!("`applies` is asked first") };
        pass.cpu.gate_rows(up, gated.codes, gated.gate, gated.spare, tokens);
    }
}

impl Cpu {
    /// `gate = relu(gate)^2 * (w . x)`; `up` takes the products where everything is read.
    pub(crate) fn gate_rows(
        &self,
        w: &TernaryLines,
        x: &QuantizedRows,
        gate: &mut Rows,
        up: &mut Rows,
        tokens: usize,
    ) {
        let rows = w.rows();
        let count = |row: &[f32]| row.iter().filter(|gate| **gate > 0.0).count();
        if one_by_one(tokens, rows, |token| count(gate.row(token))) {
            // Two pieces a thread, so that one with few live rows is made up for by the next.
            let width =
                if self.threads.threads() == 1 { rows } else { rows.div_ceil(2 * self.threads.threads()) };
            return self.threads.for_each_columns_mut(gate.of_mut(tokens), rows, width, |_, mut gate| {
                self.kernel.gate_live(w, x, &mut gate);
            });
        }
        self.threads.for_each_columns_mut(up.of_mut(tokens), rows, self.rows_per_chunk, |_, mut out| {
            self.multiply_lines(w, x, &mut out);
        });
        let up = up.of(tokens);
        self.each_row(gate.of_mut(tokens), rows, |token, gate| {
            self.kernel.relu2_mul(gate, &up[token * rows..(token + 1) * rows]);
        });
    }

    /// `out = w . x` where `w` is in columns.
    pub(crate) fn multiply_columns(
        &self,
        w: &TernaryLines,
        x: &QuantizedRows,
        out: &mut Rows,
        tokens: usize,
    ) {
        let (rows, cols) = (w.rows(), w.cols());
        let count = |codes: &[i8]| codes.iter().filter(|code| **code != 0).count();
        let live = one_by_one(tokens, cols, |token| count(x.codes(token)));
        let pieces = if live { self.threads.threads() } else { usize::MAX };
        let width = rows.div_ceil(TernaryLines::BLOCK_LEN).div_ceil(pieces) * TernaryLines::BLOCK_LEN;
        self.threads.for_each_columns_mut(out.of_mut(tokens), rows, width, |_, mut out| {
            if live {
                self.kernel.matmul_live(w, x, &mut out);
            } else {
                self.multiply_lines(w, x, &mut out);
            }
        });
    }
}

/// Whether tokens one by one read fewer than all `lines`, `live(token)` being what each reads.
fn one_by_one(tokens: usize, lines: usize, live: impl Fn(usize) -> usize) -> bool {
    tokens == 1 || tokens <= FEW_TOKENS && (0..tokens).map(live).sum::<usize>() < lines
}
