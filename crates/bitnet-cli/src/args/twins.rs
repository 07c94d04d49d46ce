//! The arguments of `twins`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::number;

// A build without training only refuses, and reads nothing of it.
#[cfg_attr(not(feature = "training"), allow(dead_code))]
#[derive(Debug, Args)]
pub struct TwinsArgs {
    /// UTF-8 text; a tenth of it, in pieces evenly over it, is the validation text
    #[arg(long, alias = "file", value_name = "FILE", num_args = 1.., required = true, value_hint = ValueHint::FilePath)]
    pub text: Vec<PathBuf>,
    /// Pairs, with the seeds 1, 2, ...
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = |text: &str| number::whole::<u64>(text, 1..=1000))]
    pub seeds: u64,
    /// Optimizer steps of each model, of 1,024 tokens
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = number::from_1::<u64>)]
    pub steps: u64,
    /// Learning rates, each for both twins [default: 2e-3]
    #[arg(long, value_name = "R,R", value_delimiter = ',', value_parser = number::positive_f64)]
    pub rates: Vec<f64>,
    /// Override another value of the job that both are trained by (see `bitnet train --init`); may be given several times
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Threads [default: all]
    #[arg(long, short_alias = 't', value_name = "N", value_parser = number::up_to_1024)]
    pub threads: Option<u16>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
