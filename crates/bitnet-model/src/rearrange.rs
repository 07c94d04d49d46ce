//! Matrices with their rows and columns in another order: files have orders of their own.

use bitnet_core::{DType, DenseMatrix, SharedBytes};
use bitnet_quant::{QuantError, Scales, TernaryMatrix};

use crate::{ModelError, Table, Weight};

/// The finest groups that scales are torn into; finer ones are more scale than weight, and are floats instead.
const FINEST_GROUP: usize = 32;

impl Weight {
    /// The matrix whose row `i` is row `order[i]` of this one, in memory of its own.
    ///
    /// # Errors
    /// When the order names a row that is not there, or packed bytes are no trits.
    pub fn select_rows(self, order: &[usize]) -> Result<Self, ModelError> {
        let rows = self.shape()[0];
        if let Some(row) = order.iter().find(|&&row| row >= rows) {
            return Err(ModelError::config("an order of rows", format!("each below {rows}"), row));
        }
        Ok(match self {
            Self::Ternary(trits) => Self::Ternary(trits.reorder_rows(order)),
            Self::Packed(packed) => Self::Ternary(packed.unpack().map_err(unreadable)?.reorder_rows(order)),
            Self::Planes(planes) => {
                let [first, second] = *planes;
                Self::Planes(Box::new([first.select_rows(order)?, second.select_rows(order)?]))
            }
            Self::Table(table) => Self::Table(table.select_rows(order)?),
        })
    }

    /// The matrix whose columns `i * unit ..` are columns `order[i] * unit ..` of this one, `unit` of them at a time. Where such a
    /// run tears groups of trits that share a scale, smaller groups share it; where those would be too small, floats are left.
    ///
    /// # Errors
    /// When the runs are not those of this matrix, or packed bytes are no trits.
    pub fn reorder_columns(self, unit: usize, order: &[usize]) -> Result<Self, ModelError> {
        let cols = self.shape()[1];
        if order.len() * unit != cols || order.iter().any(|&run| run >= order.len()) {
            let want = format!("each of {} runs of {unit}", cols / unit.max(1));
            return Err(ModelError::config("an order of columns", want, "another"));
        }
        match self {
            Self::Ternary(trits) => reorder_trits(&trits, unit, order),
            Self::Packed(packed) => reorder_trits(&packed.unpack().map_err(unreadable)?, unit, order),
            Self::Planes(planes) => {
                let [first, second] = *planes;
                let planes = [first.reorder_columns(unit, order)?, second.reorder_columns(unit, order)?];
                Ok(Self::Planes(Box::new(planes)))
            }
            Self::Table(table) => match table.reorder_columns(unit, order)? {
                Some(table) => Ok(Self::Table(table)),
                None => reordered_floats(&Self::Table(table), unit, order),
            },
        }
    }
}

fn unreadable(error: QuantError) -> ModelError {
    ModelError::config("packed trits", "whole bytes of trits", error)
}

/// `row` with its runs in another order.
fn reordered<T: Copy>(row: &[T], unit: usize, order: &[usize], out: &mut [T]) {
    for (out, &run) in out.chunks_exact_mut(unit).zip(order) {
        out.copy_from_slice(&row[run * unit..][..unit]);
    }
}

fn reorder_trits(trits: &TernaryMatrix, unit: usize, order: &[usize]) -> Result<Weight, ModelError> {
    let (rows, cols) = (trits.rows(), trits.cols());
    let scales = match trits.scales() {
        same @ (Scales::Tensor(_) | Scales::Row(_)) => same.clone(),
        Scales::Group { size, .. } => {
            let fine = gcd(*size, unit);
            if fine < FINEST_GROUP.min(*size) {
                return reordered_floats(&Weight::Ternary(trits.clone()), unit, order);
            }
            let per_row = cols / fine;
            let (mut scales, mut row_scales) = (vec![0.0; rows * per_row], vec![0.0; per_row]);
            for (row, out) in scales.chunks_exact_mut(per_row).enumerate() {
                row_scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = trits.scale(row, i * fine));
                reordered(&row_scales, unit / fine, order, out);
            }
            Scales::Group { size: fine, scales }
        }
    };
    let (mut all, mut row_trits) = (vec![0i8; rows * cols], vec![0i8; cols]);
    for (row, out) in all.chunks_exact_mut(cols).enumerate() {
        trits.row_trits(row, &mut row_trits);
        reordered(&row_trits, unit, order, out);
    }
    Ok(Weight::Ternary(TernaryMatrix::from_trits(rows, cols, &all, scales).map_err(unreadable)?))
}

/// The same as f32.
fn reordered_floats(weight: &Weight, unit: usize, order: &[usize]) -> Result<Weight, ModelError> {
    let [rows, cols] = weight.shape();
    let (mut row, mut out) = (vec![0.0f32; cols], vec![0.0f32; cols]);
    let mut bytes = Vec::with_capacity(rows * cols * size_of::<f32>());
    for i in 0..rows {
        weight.row_to_f32(i, &mut row);
        reordered(&row, unit, order, &mut out);
        bytes.extend(out.iter().flat_map(|x| x.to_le_bytes()));
    }
    let matrix = DenseMatrix::new(DType::F32, rows, cols, SharedBytes::aligned(&[&bytes]))?;
    Ok(Weight::Table(Table::Dense(matrix)))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(weight: &Weight) -> Vec<f32> {
        let [rows, cols] = weight.shape();
        let mut all = vec![0.0; rows * cols];
        all.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| weight.row_to_f32(row, out));
        all
    }

    /// A matrix of `[2, 256]` trits with a scale for each `group`.
    fn trits(group: usize) -> Weight {
        let trits: Vec<i8> = (0..512).map(|i| (i * 7 % 3) as i8 - 1).collect();
        let scales = (0..512 / group).map(|i| 1.0 + i as f32).collect();
        let scales = Scales::Group { size: group, scales };
        Weight::Ternary(TernaryMatrix::from_trits(2, 256, &trits, scales).unwrap())
    }

    #[test]
    fn columns_move_in_runs_whatever_the_groups_are() {
        // A run of whole groups, one that halves them, and one that would leave groups of 16.
        for (group, unit, stays_trits) in [(64, 64, true), (128, 64, true), (64, 16, false)] {
            let order: Vec<usize> = (0..256 / unit).rev().collect();
            let before = floats(&trits(group));
            let after = trits(group).reorder_columns(unit, &order).unwrap();
            assert_eq!(matches!(after, Weight::Ternary(_)), stays_trits, "groups of {group}, runs of {unit}");
            let moved = |row: usize, col: usize| before[row * 256 + order[col / unit] * unit + col % unit];
            let expected: Vec<f32> = (0..512).map(|i| moved(i / 256, i % 256)).collect();
            assert_eq!(floats(&after), expected, "groups of {group}, runs of {unit}");
        }
    }

    #[test]
    fn rows_are_selected_and_orders_that_name_others_are_refused() {
        let before = floats(&trits(64));
        assert_eq!(floats(&trits(64).select_rows(&[1]).unwrap()), before[256..]);
        assert!(trits(64).select_rows(&[2]).is_err());
        assert!(trits(64).reorder_columns(64, &[0, 1, 2, 4]).is_err());
        assert!(trits(64).reorder_columns(64, &[0, 1]).is_err());
    }
}
