//! Where buffers live and operations run.

use std::{fmt, str::FromStr};

use crate::Error;

/// A place that can hold weights and run a model.
///
/// Only the CPU exists today. Other devices join here when they
/// compute something; until then their names are refused rather than silently mapped to the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor this program runs on, and its main memory.
    #[default]
    Cpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

impl FromStr for DeviceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "cpu" => Ok(Self::Cpu),
            other => Err(Error::UnknownDevice { name: other.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        assert_eq!(DeviceKind::Cpu.to_string().parse::<DeviceKind>().unwrap(), DeviceKind::Cpu);
        let error = "cuda:0".parse::<DeviceKind>().unwrap_err();
        assert!(error.to_string().contains("cuda:0"), "{error}");
    }
}
