//! What `bitnet inspect --quality` prints and its page shows.

use serde::Serialize;

/// What is printed, and what the page shows.
#[derive(Serialize)]
pub struct Quality {
    pub model: String,
    pub masters: Option<String>,
    pub against: Option<String>,
    pub calibration: Option<String>,
    pub matrices: Vec<MatrixRow>,
    pub activations: Vec<ActivationRows>,
}

/// A matrix. Decibels are null where there is no noise.
#[derive(Serialize)]
pub struct MatrixRow {
    pub name: String,
    pub layer: usize,
    pub projection: &'static str,
    pub shape: [usize; 2],
    pub zeros: f64,
    pub scale: f64,
    pub scale_range: (f32, f32),
    pub dead_rows: usize,
    pub dead_columns: usize,
    pub sqnr_db: Option<f64>,
    pub cosine: Option<f64>,
    pub flipped: Option<f64>,
    pub flipped_to_zero: Option<u64>,
    pub flipped_from_zero: Option<u64>,
    pub flipped_sign: Option<u64>,
    pub scale_drift: Option<f64>,
}

/// The rows that some projections of a block read.
#[derive(Serialize)]
pub struct ActivationRows {
    pub layer: usize,
    pub input: &'static str,
    pub rows: u64,
    pub saturated: f64,
    pub zeros: f64,
    pub sqnr_db: Option<f64>,
    pub crest: f64,
    pub crest_max: f64,
    pub outliers: usize,
    pub dead_channels: usize,
    /// Column and root mean square over the median's, the largest first.
    pub channels: Vec<(usize, f64)>,
}

/// A table's head and its rows, which the terminal and the page share.
pub struct Cells {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// Columns that say what a row is of.
    pub key: usize,
}
