//! Flags of `bench`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::{Activations, Kv, LayoutArg};

const AFTER_HELP: &str = "\
Every combination of --threads, --depth and --batch is a row. tg is generation, pp a prompt; the limit is what this machine
reads or multiplies at most, measured on as many threads around every repetition.

A synthetic model has a published shape and random trits. It says how fast, not how well: how often squared ReLU gives
zero and how peaked the logits are depends on training.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("subject").required(true))]
pub struct BenchArgs {
    /// The model (see `bitnet help`)
    #[arg(group = "subject")]
    pub model: Option<String>,
    /// A model of a published shape with random trits, made in memory
    #[arg(long, value_name = "SHAPE", group = "subject")]
    pub synthetic: Option<String>,
    /// Compare the vector kernels of this machine with the scalar reference, without a model
    #[arg(long, group = "subject")]
    pub kernels: bool,
    /// Write the synthetic model as a GGUF file that llama.cpp reads too, and measure nothing
    #[arg(long, value_name = "FILE.gguf")]
    pub write: Option<PathBuf>,
    /// Numbers of threads [default: 1 and all processors that this process may use]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// Tokens of a prompt, shared out over the sequences of a batch; 0 for no prompts
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub prompt: u32,
    /// Tokens that every sequence generates; 0 for none
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub generate: u32,
    /// Positions that every sequence holds before
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0")]
    pub depth: Vec<u32>,
    /// Sequences that run together
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: Vec<u16>,
    /// How often each row is measured; 3 times when that takes long
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub repetitions: u16,
    /// The kernel to use, as `bitnet doctor` names them [default: the variable BITNET_KERNEL, else the best]
    #[arg(long, value_name = "NAME")]
    pub kernel: Option<String>,
    /// How activations are rounded: as the model was trained, not at all, or to int8 in any case
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Activations::Auto)]
    pub activations: Activations,
    /// In how many bits ternary weights are held (auto is two here, since nothing is tuned); results are the same
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = LayoutArg::Auto)]
    pub layout: LayoutArg,
    /// How the head is computed: screened where that pays, always in full, or always screened
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Head::Auto)]
    pub head: Head,
    /// Leave out what squared ReLU makes exactly 0 (results are the same); synthetic models have half zeros
    #[arg(long)]
    pub sparsity: bool,
    /// How keys and values of past tokens are kept
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = Kv::F16)]
    pub kv: Kv,
    /// Read I2_S tensors in the 64-element layout of ARM builds
    #[arg(long = "i2s-64")]
    pub i2s_64: bool,
    /// Run every row once more beside as many busy threads, and compare with a fair share [default number: all processors]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub load: Option<u16>,
    /// Do not look where the time of a step goes
    #[arg(long)]
    pub no_breakdown: bool,
    /// Compare with the rows in FILE, written by --json; a regression ends with exit status 1
    #[arg(long, value_name = "FILE.json")]
    pub compare: Option<PathBuf>,
    /// Draw the rows
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Replace the files of --plot and --write if they exist
    #[arg(long)]
    pub force: bool,
    /// A JSON array of rows instead of the table
    #[arg(long)]
    pub json: bool,
}

/// How the head is computed; results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Head {
    Auto,
    Full,
    Screened,
}
