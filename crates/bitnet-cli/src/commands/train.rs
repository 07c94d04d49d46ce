//! `bitnet train JOB` and `bitnet finetune JOB`.

use crate::{args::TrainArgs, failure::Result};

#[cfg(feature = "training")]
mod curve;
#[cfg(feature = "training")]
mod job;
#[cfg(feature = "training")]
mod watch;

/// Trains, in builds that can.
#[cfg(feature = "training")]
pub fn run(args: &TrainArgs) -> Result<()> {
    job::run(args, &job::TRAIN)
}

/// Fine-tunes, in builds that can.
#[cfg(feature = "training")]
pub fn finetune(args: &TrainArgs) -> Result<()> {
    job::run(args, &job::FINETUNE)
}

/// Says which builds can.
#[cfg(not(feature = "training"))]
pub fn run(args: &TrainArgs) -> Result<()> {
    refuse(args, "train")
}

/// Says which builds can.
#[cfg(not(feature = "training"))]
pub fn finetune(args: &TrainArgs) -> Result<()> {
    refuse(args, "finetune")
}

#[cfg(not(feature = "training"))]
fn refuse(args: &TrainArgs, verb: &str) -> Result<()> {
    let TrainArgs { job, init, .. } = args;
    let what = if *init { "write" } else { verb };
    let failure =
        crate::failure::Failure::new(format_args!("this build of bitnet cannot {what} {}", job.display()));
    Err(failure.cure("cargo build --release -p bitnet-cli --features training"))
}
