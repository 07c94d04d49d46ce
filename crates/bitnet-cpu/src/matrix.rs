//! Matrices in the forms in which the CPU reads them.

use bitnet_core::{HybridMemoryPool, threads::ColumnsMut};
use bitnet_quant::{Activations, Axis, PackedBase3, PackedTernary, QuantizedRows, TernaryLines};

use crate::{Cpu, Rows};
use bitnet_device::DeviceError;
use bitnet_model::{MatrixForm, ModelError, Table, Weight};

/// A matrix in the form in which the CPU reads it.
pub enum Matrix {
    /// Trits in strips.
    Ternary(PackedTernary),
    /// Trits in strips, five to a byte.
    Base3(PackedBase3),
    /// Trits in rows or columns that can be left out.
    Lines(TernaryLines),
    /// Trits in strips, twice: products are the sum of both, the first one first.
    Planes(Box<[PackedTernary; 2]>),
    /// Floats, or blocks that stand for floats.
    Table(Table),
}

impl Cpu {
    /// Puts one of two planes into strips.
    fn plane(&self, name: &str, weight: Weight) -> Result<PackedTernary, DeviceError> {
        let packed = match weight {
            Weight::Packed(packed) if self.copies_mapped => packed.copied(&self.pool),
            Weight::Packed(packed) => Ok(packed),
            Weight::Ternary(m) => PackedTernary::pack(&m, &self.pool, &self.threads),
            Weight::Planes(_) | Weight::Table(_) => {
                let plane = format!("a plane of '{name}'");
                return Err(ModelError::config(plane, "trits", "something else").into());
            }
        };
        Ok(packed.map_err(ModelError::quant(name))?)
    }

    /// Puts a matrix into its form.
    pub(crate) fn place(&self, name: &str, weight: Weight, form: MatrixForm) -> Result<Matrix, DeviceError> {
        let packed = match weight {
            Weight::Planes(planes) => {
                let [first, second] = *planes;
                let planes = [self.plane(name, first)?, self.plane(name, second)?];
                return Ok(Matrix::Planes(Box::new(planes)));
            }
            Weight::Table(t) => {
                return Ok(Matrix::Table(t.prepare(self.threads.threads(), self.rows_per_chunk)));
            }
            Weight::Packed(packed) if self.copies_mapped && form == MatrixForm::Strips => {
                packed.copied(&self.pool).map_err(ModelError::quant(name))?
            }
            Weight::Packed(packed) => packed,
            Weight::Ternary(m) => {
                // What is laid out anew is packed into memory that is given back at once.
                let passing = HybridMemoryPool::new();
                let pool = if form == MatrixForm::Strips { &self.pool } else { &passing };
                PackedTernary::pack(&m, pool, &self.threads).map_err(ModelError::quant(name))?
            }
        };
        let lines = |axis| TernaryLines::new(&packed, axis, &self.pool, &self.threads).map(Matrix::Lines);
        let matrix = match form {
            MatrixForm::Strips => return Ok(Matrix::Ternary(packed)),
            MatrixForm::Base3 => PackedBase3::new(&packed, &self.pool, &self.threads).map(Matrix::Base3),
            MatrixForm::Rows => lines(Axis::Rows),
            MatrixForm::Columns => lines(Axis::Columns),
        };
        Ok(matrix.map_err(ModelError::quant(name))?)
    }

    /// One group of output rows of one matrix.
    pub(crate) fn multiply(
        &self,
        matrix: &Matrix,
        x: &Rows,
        codes: &QuantizedRows,
        form: Activations,
        out: &mut ColumnsMut<'_, f32>,
    ) {
        let (first, tokens) = (out.start(), out.rows());
        match matrix {
            Matrix::Ternary(w) if form == Activations::Float => {
                self.kernel.matmul_float(w, x.of(tokens), first, out);
            }
            Matrix::Ternary(w) => self.kernel.matmul(w, codes, form, first, out),
            Matrix::Base3(w) => {
                assert!(form == Activations::Int8PerToken, "base 3 takes activations of one step per token");
                self.multiply_base3(w, codes, out);
            }
            Matrix::Lines(w) => {
                assert!(form == Activations::Int8PerToken, "lines take activations of one step per token");
                self.multiply_lines(w, codes, out);
            }
            Matrix::Planes(planes) => self.multiply_planes(planes, x, codes, form, out),
            Matrix::Table(table) => table.matmul(self.kernel, x.of(tokens), first, out),
        }
    }

    /// Both products, then their sum: `first + second`, each rounded as a matrix of its own.
    fn multiply_planes(
        &self,
        [a, b]: &[PackedTernary; 2],
        x: &Rows,
        codes: &QuantizedRows,
        form: Activations,
        out: &mut ColumnsMut<'_, f32>,
    ) {
        let (first, tokens, width) = (out.start(), out.rows(), out.width());
        let product = |w: &PackedTernary, out: &mut ColumnsMut<'_, f32>| match form {
            Activations::Float => self.kernel.matmul_float(w, x.of(tokens), first, out),
            _ => self.kernel.matmul(w, codes, form, first, out),
        };
        product(a, out);
        let mut add = |second: &mut [f32]| {
            product(b, &mut ColumnsMut::whole(second, width));
            for (token, second) in second.chunks_exact(width).enumerate() {
                self.kernel.add(out.row(token), second);
            }
        };
        if self.sums.lend(&self.pool, tokens * width, &mut add).is_none() {
            add(&mut vec![0.0; tokens * width]);
        }
    }

    fn multiply_base3(&self, w: &PackedBase3, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
        let len = PackedTernary::byte_len(out.width(), w.cols()).unwrap_or(usize::MAX);
        let several = out.rows() > 1;
        let tiled = |scratch: &mut [u8]| self.kernel.matmul_base3_tiled(w, x, scratch, out);
        if several && self.stock.lend(&self.pool, len, tiled).is_some() {
            return;
        }
        self.kernel.matmul_base3(w, x, out);
    }

    /// All lines, as strips.
    pub(crate) fn multiply_lines(&self, w: &TernaryLines, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
        let len = PackedTernary::byte_len(out.width(), w.cols()).unwrap_or(usize::MAX);
        let done = self.stock.lend(&self.pool, len, |scratch| self.kernel.matmul_lines(w, x, scratch, out));
        if done.is_none() {
            // Slower, with no memory but the stack.
            self.kernel.matmul_live(w, x, out);
        }
    }
}
