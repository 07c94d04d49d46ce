//! Medians and spreads of a few noisy numbers.

use serde::{Deserialize, Serialize};

/// What several repetitions of one measurement gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The median of the samples.
    pub median: f64,
    /// The smallest of the samples.
    pub min: f64,
    /// The largest of the samples.
    pub max: f64,
    /// The distance between the quartiles, as a part of the median.
    pub spread: f64,
}

impl Summary {
    /// Of `samples`, which may be in any order; zeros when there are none.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return Self::default() };
        let median = quantile(&sorted, 0.5);
        let width = quantile(&sorted, 0.75) - quantile(&sorted, 0.25);
        let spread = if median > 0.0 { width / median } else { 0.0 };
        Self { median, min, max, spread }
    }
}

/// The middle of `samples`, which may be in any order; 0 when there are none.
pub fn median(samples: &[f64]) -> f64 {
    Summary::of(samples).median
}

/// The value below which a part `q` of sorted samples lies, neighbours interpolated.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * (place - place.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_know_their_order() {
        let s = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((s.median, s.min, s.max), (3.0, 1.0, 5.0));
        assert!((s.spread - 2.0 / 3.0).abs() < 1e-12, "quartiles 2 and 4");
        assert_eq!(Summary::of(&[4.0, 2.0]).median, 3.0);
        assert_eq!(Summary::of(&[7.0]), Summary { median: 7.0, min: 7.0, max: 7.0, spread: 0.0 });
        assert_eq!(Summary::of(&[]), Summary::default());
    }

    #[test]
    fn one_wild_sample_moves_neither_median_nor_spread_far() {
        let calm = Summary::of(&[10.0, 10.1, 9.9, 10.05, 9.95]);
        let wild = Summary::of(&[10.0, 10.1, 1.0, 10.05, 9.95]);
        assert!((calm.median - wild.median).abs() < 0.1 && wild.spread < 0.02, "{wild:?}");
    }
}
