//! What a conversion has done.

use std::fmt;

/// The proof of a conversion, and what a person should know of it. `Display` gives one sentence.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConvertReport {
    /// Ternary matrices that were compared.
    pub matrices: u64,
    /// Their trits that read back equal.
    pub trits_equal: u64,
    /// Trits of these matrices, all of them equal.
    pub trits: u64,
    /// Scales that every weight under them still has, bit for bit.
    pub scales_equal: u64,
    /// Scales of these matrices.
    pub scales: u64,
    /// The largest relative difference of a scale; 0 when all are equal.
    pub max_scale_loss: f32,
    /// Dense matrices, embedding and head among them, whose values read back bit for bit.
    pub dense_equal: u64,
    /// Dense matrices that were compared.
    pub dense: u64,
    /// Vectors (norms and biases) that read back bit for bit.
    pub vectors_equal: u64,
    /// Vectors (norms and biases) that were compared.
    pub vectors: u64,
    /// What is not the same, or not for every reader; one sentence each.
    pub notes: Vec<String>,
    /// Bytes of all files that were written.
    pub bytes_written: u64,
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matrices, trits_equal, trits, scales_equal, scales, vectors_equal, vectors, .. } = self;
        let Self { dense_equal, dense, .. } = self;
        write!(
            f,
            "read back and compared: {trits_equal} of {trits} trits and {scales_equal} of {scales} scales of {matrices} \
             matrices are equal, the values of {dense_equal} of {dense} dense matrices and {vectors_equal} of {vectors} vectors bit for bit"
        )?;
        if self.max_scale_loss > 0.0 {
            write!(f, "; the largest relative loss of a scale is {:.2e}", self.max_scale_loss)?;
        }
        Ok(())
    }
}
