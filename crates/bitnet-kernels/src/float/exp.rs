//! The one exponential function.

/// `e^x` for f32, within 2 ulp of the true value where that is a normal number (measured over all arguments in
/// the tests). Overflow gives infinity, underflow a subnormal or 0, NaN gives NaN.
///
/// `x = n ln 2 + r` with `n` the nearest integer; `e^r` is a polynomial of degree 7 with the coefficients of Cephes'
/// `expf` (S. Moshier); `2^n` is applied in two exact factors so that subnormal results round once.
/// There is no branch: 16 of these become vector instructions.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even.
    const ROUND: f32 = 12_582_912.0;
    // Outside, the result is infinite or 0 whatever the argument. The comparisons let NaN through.
    let x = if x > 90.0 { 90.0 } else { x };
    let x = if x < -110.0 { -110.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts; the first has few bits, so that its product with n is exact.
    let r = x - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let y = p * (r * r) + r + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) as u32) << 23);
    y * power(half) * power(n.wrapping_sub(half))
}
