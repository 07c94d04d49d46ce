//! Matrices in the forms in which the CPU reads them.

use std::sync::{Mutex, PoisonError};

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, threads::ColumnsMut};
use bitnet_quant::{Activations, Axis, PackedTernary, QuantizedRows, TernaryLines};

use super::{Cpu, Rows};
use crate::{ModelError, Part, Projection, Table, Weight};

/// A matrix in the form in which the CPU reads it.
pub enum Matrix {
    /// Trits in strips.
    Ternary(PackedTernary),
    /// Trits in rows or columns that can be left out.
    Lines(TernaryLines),
    /// Floats, or blocks that stand for floats.
    Table(Table),
}

/// Memory in which lines become strips, one piece for each thread that has ever needed one.
#[derive(Default)]
pub(super) struct Stock(Mutex<Vec<Buffer<u8>>>);

impl Stock {
    /// Lends `len` bytes, or `None` when the system has no memory.
    fn lend<R>(&self, pool: &HybridMemoryPool, len: usize, work: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().pop().filter(|buffer| buffer.len() >= len);
        let mut buffer = match kept {
            Some(buffer) => buffer,
            None => pool.allocate(Purpose::State, len).ok()?,
        };
        let result = work(&mut buffer[..len]);
        lock().push(buffer);
        Some(result)
    }
}

impl Cpu {
    /// Puts a matrix into its form.
    pub(super) fn place(&self, part: Part, name: &str, weight: Weight) -> Result<Matrix, ModelError> {
        let packed = match weight {
            Weight::Table(t) => {
                return Ok(Matrix::Table(t.prepare(self.threads.threads(), self.rows_per_chunk)));
            }
            Weight::Packed(packed) if self.copies_mapped && self.axis(part).is_none() => {
                packed.copied(&self.pool).map_err(ModelError::quant(name))?
            }
            Weight::Packed(packed) => packed,
            Weight::Ternary(m) => {
                // What becomes lines is packed into memory that is given back at once.
                let passing = HybridMemoryPool::new();
                let pool = if self.axis(part).is_some() { &passing } else { &self.pool };
                PackedTernary::pack(&m, pool, &self.threads).map_err(ModelError::quant(name))?
            }
        };
        match self.axis(part) {
            Some(axis) if packed.groups() == 1 => {
                let lines = TernaryLines::new(&packed, axis, &self.pool, &self.threads);
                lines.map(Matrix::Lines).map_err(ModelError::quant(name))
            }
            _ => Ok(Matrix::Ternary(packed)),
        }
    }

    /// The lines into which `part` is cut, if it is.
    fn axis(&self, part: Part) -> Option<Axis> {
        match part {
            Part::Weight(_, Projection::Up) if self.skip_zeros => Some(Axis::Rows),
            Part::Weight(_, Projection::Down) if self.skip_zeros => Some(Axis::Columns),
            _ => None,
        }
    }

    /// One group of output rows of one matrix.
    pub(super) fn multiply(
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
            Matrix::Lines(w) => {
                assert!(form == Activations::Int8PerToken, "lines take activations of one step per token");
                self.multiply_lines(w, codes, out);
            }
            Matrix::Table(table) => table.matmul(self.kernel, x.of(tokens), first, out),
        }
    }

    /// All lines, as strips.
    pub(super) fn multiply_lines(&self, w: &TernaryLines, x: &QuantizedRows, out: &mut ColumnsMut<'_, f32>) {
        let len = PackedTernary::byte_len(out.width(), w.cols()).unwrap_or(usize::MAX);
        let done = self.stock.lend(&self.pool, len, |scratch| self.kernel.matmul_lines(w, x, scratch, out));
        if done.is_none() {
            // Slower, with no memory but the stack.
            self.kernel.matmul_live(w, x, out);
        }
    }
}
