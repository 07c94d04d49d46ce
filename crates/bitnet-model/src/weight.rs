//! A matrix as it comes from a file.

use bitnet_quant::{Granularity, PackedTernary, QuantError, TernaryMatrix};

use crate::Table;

/// A matrix as it comes from a file.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Exact trits and scales, to be packed for the device.
    Ternary(TernaryMatrix),
    /// Trits in the layout of the CPU kernels, mapped from a file.
    Packed(PackedTernary),
    /// The sum of two matrices of trits, each with scales of its own: what [`Weight::planes`] gives.
    Planes(Box<[Weight; 2]>),
    /// Floats, or blocks that stand for floats: embeddings, heads and projections that stay dense.
    Table(Table),
}

impl Weight {
    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Ternary(m) => [m.rows(), m.cols()],
            Self::Packed(m) => [m.rows(), m.cols()],
            Self::Planes(planes) => planes[0].shape(),
            Self::Table(t) => [t.rows(), t.cols()],
        }
    }

    /// The sum of two matrices of trits of one shape, or `None` when they are no such.
    pub fn planes(first: Self, second: Self) -> Option<Self> {
        let trits = |w: &Self| matches!(w, Self::Ternary(_) | Self::Packed(_));
        let fits = trits(&first) && trits(&second) && first.shape() == second.shape();
        fits.then(|| Self::Planes(Box::new([first, second])))
    }

    /// Runs that share a scale, where this is one matrix of trits.
    pub fn granularity(&self) -> Option<Granularity> {
        match self {
            Self::Ternary(m) => Some(m.scales().granularity()),
            Self::Packed(m) => Some(m.granularity()),
            Self::Planes(_) | Self::Table(_) => None,
        }
    }

    /// Row `row` as floats into `out`, `[cols]`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Ternary(m) => m.row_to_f32(row, out),
            Self::Packed(m) => m.row_to_f32(row, out),
            Self::Table(t) => t.row_to_f32(row, out),
            Self::Planes(planes) => {
                let mut second = vec![0.0; out.len()];
                planes[0].row_to_f32(row, out);
                planes[1].row_to_f32(row, &mut second);
                out.iter_mut().zip(second).for_each(|(a, b)| *a += b);
            }
        }
    }

    /// The exact trits and scales, unpacked; `None` where this is not one matrix of trits.
    ///
    /// # Errors
    /// When packed bytes are no trits.
    pub fn trits(self) -> Result<Option<TernaryMatrix>, QuantError> {
        match self {
            Self::Ternary(trits) => Ok(Some(trits)),
            Self::Packed(packed) => packed.unpack().map(Some),
            Self::Planes(_) | Self::Table(_) => Ok(None),
        }
    }
}
