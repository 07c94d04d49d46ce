//! `bitnet twins`.

use crate::{args::TwinsArgs, failure::Result};

#[cfg(feature = "training")]
mod pairs;

/// Trains twins, in builds that can.
#[cfg(feature = "training")]
pub fn run(args: &TwinsArgs) -> Result<()> {
    pairs::run(args)
}

/// Says how to build a command that can train.
#[cfg(not(feature = "training"))]
pub fn run(_: &TwinsArgs) -> Result<()> {
    Err(super::train::absent())
}
