//! How loud a rounding is.

/// `10 log10(signal / noise)`: infinite where there is no noise.
pub(crate) fn decibels(signal: f64, noise: f64) -> f64 {
    10.0 * libm::log10(signal / noise)
}
