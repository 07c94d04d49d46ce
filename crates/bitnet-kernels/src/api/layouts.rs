//! Ternary products from the other layouts.

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{Axis, PackedBase3, PackedTernary, QuantizedRows, TernaryLines};

use crate::{
    Kernel,
    ternary::{
        base3::{MatmulBase3, TiledBase3},
        lines::{EveryRow, GateLive, LiveColumns, Tiled},
    },
};

/// Products of weights in base 3, bit-equal to [`Kernel::matmul`] with [`bitnet_quant::Activations::Int8PerToken`]. `out.start()` is the first
/// row; it begins a strip of 16.
impl Kernel {
    /// Token by token: best for one.
    ///
    /// # Panics
    /// When `out` starts inside a strip, or rows or columns disagree.
    pub fn matmul_base3(&self, w: &PackedBase3, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
        assert_eq!(w.cols(), x.cols(), "columns of weights and activations");
        assert!(out.start() + out.width() <= w.rows(), "more outputs than rows");
        assert!(out.start().is_multiple_of(PackedTernary::STRIP), "row {} is inside a strip", out.start());
        self.run(MatmulBase3 { w, x, out });
    }

    /// For several tokens: strips of two bits a trit are made in `scratch` first, and multiplied as such.
    ///
    /// # Panics
    /// As [`Kernel::matmul_base3`], and when `scratch` has not [`PackedTernary::byte_len`] bytes for the rows of `out`.
    pub fn matmul_base3_tiled(
        &self,
        w: &PackedBase3,
        x: &QuantizedRows,
        scratch: &mut [u8],
        out: &mut ColumnsMut<'_, f32>,
    ) {
        assert_eq!(w.cols(), x.cols(), "columns of weights and activations");
        assert!(out.start() + out.width() <= w.rows(), "more outputs than rows");
        assert!(out.start().is_multiple_of(PackedTernary::STRIP), "row {} is inside a strip", out.start());
        self.run(TiledBase3 { w, x, scratch, out });
    }
}

/// Products that leave out what is exactly 0, bit-equal to [`Kernel::matmul`] with [`bitnet_quant::Activations::Int8PerToken`] and to
/// [`Kernel::relu2_mul`] (but for the sign of zeros, where a gate is closed).
impl Kernel {
    /// `gate = relu(gate)^2 * (up . x)`, reading only the rows of `up` whose gate is above 0. `gate` is a group of columns of a
    /// `[tokens, rows]` matrix; column `i` belongs to row `gate.start() + i` of `up`.
    ///
    /// Where a value of `up` could be infinite, by its step and scales, every row is read.
    ///
    /// # Panics
    /// When `up` is not in rows, or rows or columns disagree.
    pub fn gate_live(&self, up: &TernaryLines, x: &QuantizedRows, gate: &mut ColumnsMut<'_, f32>) {
        assert_eq!(
            (up.axis(), up.cols()),
            (Axis::Rows, x.cols()),
            "lines and columns of weights and activations"
        );
        assert!(gate.start() + gate.width() <= up.rows(), "more gates than rows");
        self.run(GateLive { up, x, gate });
    }

    /// [`Kernel::matmul`], token by token; of a matrix in columns only those are read whose activation is not 0.
    /// `out.start()` is the first row.
    ///
    /// # Panics
    /// When `w` is in columns and `out` does not start at a multiple of [`TernaryLines::BLOCK_LEN`], or rows or columns
    /// disagree.
    pub fn matmul_live(&self, w: &TernaryLines, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
        assert_eq!(w.cols(), x.cols(), "columns of weights and activations");
        assert!(out.start() + out.width() <= w.rows(), "more outputs than rows");
        match w.axis() {
            Axis::Rows => self.run(EveryRow { w, x, out }),
            Axis::Columns => {
                let start = out.start();
                assert!(start.is_multiple_of(TernaryLines::BLOCK_LEN), "row {start} is inside a block");
                self.run(LiveColumns { w, x, out });
            }
        }
    }

    /// [`Kernel::matmul`] with all of `w`, which is put together as strips in `scratch` first: for so many tokens that
    /// little can be left out. `out.start()` is the first row.
    ///
    /// # Panics
    /// When `out` starts inside a strip (inside a block of [`TernaryLines::BLOCK_LEN`] rows, if `w` is in columns), rows or
    /// columns disagree, or `scratch` has not [`PackedTernary::byte_len`] bytes for the rows of `out`.
    pub fn matmul_lines(
        &self,
        w: &TernaryLines,
        x: &QuantizedRows,
        scratch: &mut [u8],
        out: &mut ColumnsMut<'_, f32>,
    ) {
        assert_eq!(w.cols(), x.cols(), "columns of weights and activations");
        assert!(out.start() + out.width() <= w.rows(), "more outputs than rows");
        let whole = if w.axis() == Axis::Columns { TernaryLines::BLOCK_LEN } else { PackedTernary::STRIP };
        assert!(out.start().is_multiple_of(whole), "row {} is inside a block", out.start());
        self.run(Tiled { w, x, scratch, out });
    }
}
