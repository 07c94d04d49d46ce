//! `bitnet train JOB` and `bitnet finetune JOB`.

#[cfg(not(feature = "training"))]
use crate::failure::Failure;
use crate::{args::TrainArgs, failure::Result};

#[cfg(feature = "training")]
mod curve;
#[cfg(feature = "training")]
mod job;
#[cfg(feature = "training")]
mod watch;

/// Runs a training job, in builds that can train.
#[cfg(feature = "training")]
pub fn run(args: &TrainArgs) -> Result<()> {
    job::run(args, &job::TRAIN)
}

/// Fine-tunes, in builds that can.
#[cfg(feature = "training")]
pub fn finetune(args: &TrainArgs) -> Result<()> {
    job::run(args, &job::FINETUNE)
}

/// Says how to build a command that can train.
#[cfg(not(feature = "training"))]
pub fn run(_: &TrainArgs) -> Result<()> {
    Err(absent())
}

/// Says how to build a command that can train.
#[cfg(not(feature = "training"))]
pub fn finetune(_: &TrainArgs) -> Result<()> {
    Err(absent())
}

/// What every verb of training says in builds without it.
#[cfg(not(feature = "training"))]
pub fn absent() -> Failure {
    Failure::new("this build of bitnet has no training")
        .cure("cargo build --release -p bitnet-cli --features training")
}
