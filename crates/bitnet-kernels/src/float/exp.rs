//! The one exponential function.

/// `e^x` for f32, within 1 ulp of the true value where that is a normal number (0.93 measured, see
/// the tests). Overflow gives infinity, underflow a subnormal or 0, NaN gives NaN.
///
/// `x = n ln 2 + r` with `n` the nearest integer; `e^r` is a polynomial of degree 7 with the coefficients of Cephes'
/// `expf` (S. Moshier); `2^n` is applied in two exact factors so that subnormal results round once.
/// There is no branch: 16 of these become vector instructions.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::exp;

    /// Distance in units of the last place of the true value's binade.
    fn error_in_ulp(x: f32) -> f64 {
        let truth = f64::from(x).exp();
        let ulp = f64::from((truth as f32).next_up()) - f64::from(truth as f32);
        (f64::from(exp(x)) - truth).abs() / ulp
    }

    /// Every f32 from -87 to 88 takes minutes; a stride of a prime passes all exponents and mantissas evenly.
    #[test]
    fn within_one_ulp_of_double_precision() {
        let mut worst = (0.0, 0.0);
        for bits in (0..=88f32.to_bits()).step_by(1009) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                if x >= -87.3 && error_in_ulp(x) > worst.0 {
                    worst = (error_in_ulp(x), x);
                }
            }
        }
        println!("largest error {:.3} ulp at {}", worst.0, worst.1);
        assert!(worst.0 < 1.0, "{worst:?}");
    }

    #[test]
    fn ends_of_the_range_are_defined() {
        assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
        assert_eq!(
            (exp(89.0), exp(f32::INFINITY), exp(f32::MAX)),
            (f32::INFINITY, f32::INFINITY, f32::INFINITY)
        );
        assert_eq!((exp(-104.0), exp(f32::NEG_INFINITY), exp(f32::MIN)), (0.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.72).is_finite());
        // Subnormal results, to their own last place.
        for x in [-88.0f32, -95.5, -100.0, -103.0] {
            assert!((f64::from(exp(x)) - f64::from(x).exp()).abs() <= 1.5e-45, "{x}");
        }
    }
}
