//! What covers roundings: constants and the conversion to f32 that the bound is evaluated with.

/// Covers what is lost below the normal range of f32.
pub const TINY: f32 = f32::from_bits((127 - 117) << 23);

/// From this on `N |h|` is too near to overflow.
pub const LIMIT: f32 = 1e37;

/// Covers the rounding of sums in f64.
const MARGIN: f64 = 1.0 + 1e-9;

/// `x`, which is not negative, rounded up to f32, with the margin for how it was summed.
#[inline(always)]
pub(super) fn up(x: f64) -> f32 {
    let x = x * MARGIN;
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}
