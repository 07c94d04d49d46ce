//! `bitnet train JOB`.

use crate::{args::TrainArgs, failure::Result};

#[cfg(feature = "training")]
mod job;

/// Trains, in builds that can.
#[cfg(feature = "training")]
pub fn run(args: &TrainArgs) -> Result<()> {
    job::run(args)
}

/// Says which builds can.
#[cfg(not(feature = "training"))]
pub fn run(args: &TrainArgs) -> Result<()> {
    let TrainArgs { job, init, .. } = args;
    let what = if *init { "write" } else { "train" };
    let failure =
        crate::failure::Failure::new(format_args!("this build of bitnet cannot {what} {}", job.display()));
    Err(failure.cure("cargo build --release -p bitnet-cli --features training"))
}
