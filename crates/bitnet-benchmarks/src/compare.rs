//! Is it slower, or is it noise?
//!
//! A row is compared with the older row of the same model, kernel, test, tokens, threads, depth and batch. A difference counts
//! when it is larger than the noise of the two measurements: twice the root of the sum of their squared spreads, and never
//! less than [`LEAST`]. It is a regression only when the part of the limit fell as well: a machine that reads more slowly than
//! it did is no regression of the program. Unreliable rows decide nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Row;

/// Differences below this are never told from noise.
pub const LEAST: f64 = 0.03;

/// What a difference between two speeds means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Slower beyond noise, and further from the limit.
    Regression,
    /// Faster by more than the noise of both measurements.
    Improvement,
    /// A difference within the noise of both measurements.
    Same,
    /// Slower, but so was the machine.
    SlowerMachine,
    /// One of the two cannot be trusted.
    Unreliable,
    /// The older rows have none of this setting.
    Alone,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regression => "REGRESSION",
            Self::Improvement => "faster",
            Self::Same => "same",
            Self::SlowerMachine => "slower machine",
            Self::Unreliable => "unreliable",
            Self::Alone => "nothing to compare with",
        })
    }
}

/// A row against an older one of the same setting.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange<'a> {
    /// The newer row of the two.
    pub row: &'a Row,
    /// Tokens/s, new by old, less one.
    pub speed: f64,
    /// The part of the limit, new by old, less one.
    pub of_limit: f64,
    /// What the two measurements cannot tell apart.
    pub noise: f64,
    /// What the difference in speed means.
    pub verdict: Verdict,
}

/// Every row of `new` against its older self.
pub fn compare<'a>(old: &[Row], new: &'a [Row]) -> Vec<RowChange<'a>> {
    new.iter().map(|row| change(old.iter().find(|o| same_work(o, row)), row)).collect()
}

fn same_work(old: &Row, new: &Row) -> bool {
    let work = |r: &Row| (r.test, r.tokens, r.threads, r.depth, r.batch);
    let what = |r: &Row| (r.setting.model.clone(), r.setting.kernel.clone());
    work(old) == work(new) && what(old) == what(new)
}

fn change<'a>(old: Option<&Row>, row: &'a Row) -> RowChange<'a> {
    let Some(old) = old else {
        return RowChange { row, speed: 0.0, of_limit: 0.0, noise: 0.0, verdict: Verdict::Alone };
    };
    let speed = row.tokens_per_s / old.tokens_per_s - 1.0;
    let of_limit = row.of_limit / old.of_limit - 1.0;
    let noise = (2.0 * row.summary.spread.hypot(old.summary.spread)).max(LEAST);
    let verdict = match () {
        () if !(row.reliable && old.reliable && speed.is_finite() && of_limit.is_finite()) => {
            Verdict::Unreliable
        }
        () if speed > noise => Verdict::Improvement,
        () if speed >= -noise => Verdict::Same,
        () if of_limit >= -noise => Verdict::SlowerMachine,
        () => Verdict::Regression,
    };
    RowChange { row, speed, of_limit, noise, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    fn verdict(old: (f64, f64, f64), new: (f64, f64, f64)) -> Verdict {
        let make = |(speed, of_limit, spread): (f64, f64, f64)| {
            let mut made = row();
            (made.tokens_per_s, made.of_limit, made.summary.spread) = (speed, of_limit, spread);
            made
        };
        let (old, new) = ([make(old)], [make(new)]);
        compare(&old, &new)[0].verdict
    }

    #[test]
    fn slower_and_further_from_the_limit_is_a_regression() {
        assert_eq!(verdict((20.0, 0.9, 0.005), (18.0, 0.81, 0.005)), Verdict::Regression);
        assert_eq!(verdict((20.0, 0.9, 0.005), (18.0, 0.9, 0.005)), Verdict::SlowerMachine);
        // Fewer bytes: further from the limit and faster all the same.
        assert_eq!(verdict((20.0, 0.9, 0.005), (22.0, 0.8, 0.005)), Verdict::Improvement);
    }

    #[test]
    fn noise_decides_nothing() {
        assert_eq!(verdict((20.0, 0.9, 0.05), (18.0, 0.81, 0.05)), Verdict::Same, "10 % within twice 7 %");
        assert_eq!(verdict((20.0, 0.9, 0.0), (19.5, 0.88, 0.0)), Verdict::Same, "2.5 % is never told apart");
        assert_eq!(verdict((20.0, 0.9, 0.0), (19.2, 0.86, 0.0)), Verdict::Regression, "4 % without spread");
    }

    #[test]
    fn other_work_and_unreliable_rows_are_not_compared() {
        let (old, mut new) = (row(), row());
        new.threads += 1;
        assert_eq!(compare(std::slice::from_ref(&old), &[new])[0].verdict, Verdict::Alone);
        let mut wild = row();
        (wild.reliable, wild.tokens_per_s) = (false, 1.0);
        assert_eq!(compare(&[old], &[wild])[0].verdict, Verdict::Unreliable);
    }
}
