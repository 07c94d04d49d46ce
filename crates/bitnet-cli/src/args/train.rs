//! The arguments of `train`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::number;

// A build without training only refuses, and reads nothing of it.
#[cfg_attr(not(feature = "training"), allow(dead_code))]
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The job: a TOML file in which every value is explained
    #[arg(value_name = "JOB", value_hint = ValueHint::FilePath)]
    pub job: PathBuf,
    /// Write JOB with every value's default and meaning, and do nothing else
    #[arg(long, conflicts_with_all = ["settings", "threads", "json"])]
    pub init: bool,
    /// Override a value of the job; may be given several times
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Threads instead of the job's
    #[arg(long, short_alias = 't', value_name = "N", value_parser = number::up_to_1024)]
    pub threads: Option<u16>,
    /// What was written, as one JSON object
    #[arg(long)]
    pub json: bool,
}
