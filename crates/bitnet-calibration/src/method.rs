//! The methods by name.

use std::{fmt, str::FromStr};

use bitnet_quant::Granularity;

use crate::QuantizeError;

/// Which numbers a matrix may hold afterwards, and how they are chosen for each group of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grid {
    /// Trits times the mean of absolute values: what training does, and the worst that can be done afterwards.
    Absmean,
    /// Trits times the scale of least squared error.
    Ternary,
    /// Trits times a scale, plus an offset: two planes in the file, the second of ones.
    Shifted,
    /// The sum of two planes of trits.
    Planes,
    /// Four bits with a scale per 32 weights.
    Int4,
    /// Eight bits with a scale per 32 weights.
    Int8,
}

impl Grid {
    /// What a budget is spent on, the smallest first.
    pub const CHOICES: [Self; 4] = [Self::Ternary, Self::Planes, Self::Int4, Self::Int8];

    /// Ternary planes in the file; 0 for integers.
    pub fn planes(self) -> usize {
        match self {
            Self::Absmean | Self::Ternary => 1,
            Self::Shifted | Self::Planes => 2,
            Self::Int4 | Self::Int8 => 0,
        }
    }

    /// The damping of feedback. Errors of one plane are so large that what they push into later columns is soon beyond what trits
    /// can take: on a float twin of width 128 (2026-11-21) one plane in groups of 64 added 0.137 nats with 0.01, more than without
    /// feedback (0.117), 0.093 with 0.3 and 0.101 with 1; with one scale a row 0.220, 0.132 and 0.124 against 0.114, and 0.098 with 10.
    pub fn damping(self, granularity: Granularity) -> f64 {
        match (self, granularity) {
            (Self::Planes | Self::Int4 | Self::Int8, _) => 0.01,
            (_, Granularity::Group(_)) => 1.0,
            // Scales of groups follow what is pushed into them; these were chosen before.
            (_, Granularity::Row | Granularity::Tensor) => 10.0,
        }
    }

    /// The grid's name in tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absmean => "absmean",
            Self::Ternary => "1 plane",
            Self::Shifted => "1 plane + offset",
            Self::Planes => "2 planes",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
        }
    }
}

/// A grid, and whether the error of each column is fed back into those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The numbers that a matrix may hold.
    pub grid: Grid,
    /// GPTQ's feedback, which needs calibration text.
    pub feedback: bool,
}

/// A way of quantizing, by the name that people ask for it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Trits by [`Grid::Absmean`], as BitNet's training rounds.
    Absmean,
    /// Trits with the scales of least squared error, [`Grid::Ternary`].
    LeastSquares,
    /// Trits with an offset for each group, [`Grid::Shifted`].
    Asymmetric,
    /// [`Grid::Ternary`] with feedback.
    Gptq,
    /// Two ternary planes, [`Grid::Planes`].
    TwoPlanes,
    /// [`Grid::Planes`] with feedback.
    TwoPlanesGptq,
    /// Integers of four bits, rounded to nearest, [`Grid::Int4`].
    Int4,
    /// [`Grid::Int4`] with error feedback (GPTQ).
    Int4Gptq,
    /// Integers of eight bits, rounded to nearest, [`Grid::Int8`].
    Int8,
}

impl Method {
    /// Every method, in the order of the help text.
    pub const ALL: [Self; 9] = [
        Self::Absmean,
        Self::LeastSquares,
        Self::Asymmetric,
        Self::Gptq,
        Self::TwoPlanes,
        Self::TwoPlanesGptq,
        Self::Int4,
        Self::Int4Gptq,
        Self::Int8,
    ];

    /// The method's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absmean => "absmean",
            Self::LeastSquares => "least-squares",
            Self::Asymmetric => "asymmetric",
            Self::Gptq => "gptq",
            Self::TwoPlanes => "two-planes",
            Self::TwoPlanesGptq => "two-planes-gptq",
            Self::Int4 => "int4",
            Self::Int4Gptq => "int4-gptq",
            Self::Int8 => "int8",
        }
    }

    /// The grid and the feedback that the method stands for.
    pub fn scheme(self) -> Scheme {
        let (grid, feedback) = match self {
            Self::Absmean => (Grid::Absmean, false),
            Self::LeastSquares => (Grid::Ternary, false),
            Self::Asymmetric => (Grid::Shifted, false),
            Self::Gptq => (Grid::Ternary, true),
            Self::TwoPlanes => (Grid::Planes, false),
            Self::TwoPlanesGptq => (Grid::Planes, true),
            Self::Int4 => (Grid::Int4, false),
            Self::Int4Gptq => (Grid::Int4, true),
            Self::Int8 => (Grid::Int8, false),
        };
        Scheme { grid, feedback }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = QuantizeError;

    fn from_str(word: &str) -> Result<Self, QuantizeError> {
        Self::ALL.into_iter().find(|m| m.name() == word).ok_or_else(|| QuantizeError::Option {
            what: "the method",
            expected: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
            got: word.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the guide and of `--help`. One plane needs much damping; what errs little needs little.
    #[test]
    fn every_grid_has_its_damping() {
        let group = Granularity::Group(64);
        for plane in [Grid::Absmean, Grid::Ternary, Grid::Shifted] {
            assert_eq!(plane.damping(group), 1.0, "{plane:?}");
            assert_eq!(plane.damping(Granularity::Row), 10.0, "{plane:?}");
            assert_eq!(plane.damping(Granularity::Tensor), 10.0, "{plane:?}");
        }
        for small in [Grid::Planes, Grid::Int4, Grid::Int8] {
            for granularity in [group, Granularity::Row, Granularity::Tensor] {
                assert_eq!(small.damping(granularity), 0.01, "{small:?}");
            }
        }
    }

    #[test]
    fn a_method_is_its_name_its_grid_and_its_feedback() {
        let told = Method::ALL.map(|m| (m.name(), m.scheme().grid, m.scheme().feedback));
        assert_eq!(
            told,
            [
                ("absmean", Grid::Absmean, false),
                ("least-squares", Grid::Ternary, false),
                ("asymmetric", Grid::Shifted, false),
                ("gptq", Grid::Ternary, true),
                ("two-planes", Grid::Planes, false),
                ("two-planes-gptq", Grid::Planes, true),
                ("int4", Grid::Int4, false),
                ("int4-gptq", Grid::Int4, true),
                ("int8", Grid::Int8, false),
            ]
        );
        assert!(Method::ALL.iter().all(|m| m.name().parse().is_ok_and(|back: Method| back == *m)));
    }
}
