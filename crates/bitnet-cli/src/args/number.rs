//! Numbers on the command line: what is out of range is told in one sentence, before anything is opened.

use std::ops::RangeInclusive;

use bitnet_inference::LARGEST_SHIFT;

/// A whole number within `range`, whatever stands in its place: words, a minus, a fraction.
///
/// # Errors
/// A sentence that names what was given and what may be.
pub fn whole<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let (least, most) = range.into_inner();
    let rule = if most >= u64::from(u32::MAX) {
        format!("{least} or more")
    } else {
        format!("from {least} to {most}")
    };
    let wrong = || format!("{text} is not a whole number, {rule}");
    let number: u64 = text.parse().map_err(|_| wrong())?;
    if !(least..=most).contains(&number) {
        return Err(wrong());
    }
    T::try_from(number).map_err(|_| format!("{text} is more than can be counted here"))
}

/// Any whole number.
pub fn from_0<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    whole(text, 0..=u64::MAX)
}

/// A whole number above 0.
pub fn from_1<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    whole(text, 1..=u64::MAX)
}

/// A whole number above 1: of a window, the first token is not scored.
pub fn from_2<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    whole(text, 2..=u64::MAX)
}

/// Threads, or sequences that run together.
pub fn up_to_1024(text: &str) -> Result<u16, String> {
    whole(text, 1..=1024)
}

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(format!("{text} is not a number")),
    }
}

fn within(text: &str, allowed: impl Fn(f32) -> bool, rule: &str) -> Result<f32, String> {
    let x = finite(text)?;
    if allowed(x) { Ok(x) } else { Err(format!("{text} is not {rule}")) }
}

pub fn non_negative(text: &str) -> Result<f32, String> {
    within(text, |x| x >= 0.0, "0 or more")
}

/// What logits are divided by.
pub fn ratio(text: &str) -> Result<f32, String> {
    within(
        text,
        |x| (1.0 / LARGEST_SHIFT..=LARGEST_SHIFT).contains(&x),
        &format!("from 0.000001 to {LARGEST_SHIFT}"),
    )
}

/// What is added to logits.
pub fn shift(text: &str) -> Result<f32, String> {
    within(text, |x| x.abs() <= LARGEST_SHIFT, &format!("from -{LARGEST_SHIFT} to {LARGEST_SHIFT}"))
}

/// A probability that something may be dropped below.
pub fn probability(text: &str) -> Result<f32, String> {
    within(text, |x| (0.0..=1.0).contains(&x), "between 0 and 1")
}

/// A probability that something has to reach.
pub fn positive_probability(text: &str) -> Result<f32, String> {
    within(text, |x| x > 0.0 && x <= 1.0, "above 0 and at most 1")
}

/// The same in 64 bits, for what is measured and not sampled.
pub fn positive_f64(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err(format!("{text} is not a number above 0")),
    }
}

/// Bits of a weight.
pub fn bits(text: &str) -> Result<f64, String> {
    positive_f64(text)
        .ok()
        .filter(|&x| x <= 32.0)
        .ok_or(format!("{text} is not a number above 0, at most 32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked_before_the_model_is_loaded() {
        assert_eq!(up_to_1024("7"), Ok(7));
        for wrong in ["-1", "0", "1025", "two", "1.5", "", "99999999999999999999"] {
            let told = up_to_1024(wrong).unwrap_err();
            assert_eq!(told, format!("{wrong} is not a whole number, from 1 to 1024"));
        }
        assert_eq!(from_0::<u32>("-1").unwrap_err(), "-1 is not a whole number, 0 or more");
        assert!(from_0::<u32>("4294967296").unwrap_err().contains("more than"));
        assert!(from_1::<u32>("0").is_err() && from_2::<u32>("1").is_err());
        assert!(non_negative("0").is_ok() && non_negative("-0.1").is_err() && non_negative("inf").is_err());
        assert!(ratio("0").is_err() && ratio("1e-45").is_err() && ratio("1e-3").is_ok());
        assert!(shift("-3e38").is_err() && shift("-1000000").is_ok());
        assert!(probability("1").is_ok() && probability("0").is_ok() && probability("1.01").is_err());
        assert!(positive_probability("0").is_err() && positive_probability("1").is_ok());
        assert!(bits("0").is_err() && bits("nan").is_err() && bits("33").is_err() && bits("2.5").is_ok());
    }
}
