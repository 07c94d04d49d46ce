//! Flags of `bench`.

use std::path::PathBuf;

use bitnet_benchmarks::SHAPES;
use clap::{ArgGroup, Args, ValueEnum, ValueHint, builder::PossibleValuesParser};

use super::{
    ActivationsArg, Kv, LayoutArg, number,
    words::{self, OptionalModelArg},
};

const AFTER_HELP: &str = "\
Every combination of --threads, --depth and --batch is a row. tg is generation, pp a prompt; the limit is what this machine
reads or multiplies at most, measured on as many threads around every repetition.

A synthetic model has a published shape and random trits. It says how fast, not how well: how often squared ReLU gives
zero and how peaked the logits are depends on training.";

/// What does nothing where kernels are compared: they run on one thread, without a model.
const NOT_WITH_KERNELS: [&str; 18] = [
    "write",
    "threads",
    "prompt",
    "generate",
    "depth",
    "batch",
    "repetitions",
    "kernel",
    "activations",
    "layout",
    "head",
    "sparsity",
    "kv",
    "i2s_64",
    "load",
    "no_breakdown",
    "compare",
    "plot",
];
/// What does nothing where a model is written and nothing is measured.
const NOT_WITH_WRITE: [&str; 18] = [
    "threads",
    "prompt",
    "generate",
    "depth",
    "batch",
    "repetitions",
    "kernel",
    "activations",
    "layout",
    "head",
    "sparsity",
    "kv",
    "i2s_64",
    "load",
    "no_breakdown",
    "compare",
    "plot",
    "json",
];

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("subject").required(true).args(["word", "flag", "synthetic", "kernels"]))]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: OptionalModelArg,
    /// A model of a published shape with random trits, made in memory
    #[arg(long, value_name = "SHAPE", value_parser = PossibleValuesParser::new(SHAPES.map(|shape| shape.name)))]
    pub synthetic: Option<String>,
    /// Compare the vector kernels of this machine with the scalar reference, without a model
    #[arg(long, conflicts_with_all = NOT_WITH_KERNELS)]
    pub kernels: bool,
    /// Write the synthetic model as a GGUF file that llama.cpp reads too, and measure nothing
    #[arg(
        long,
        value_name = "FILE.gguf",
        value_hint = ValueHint::FilePath,
        requires = "synthetic",
        conflicts_with_all = NOT_WITH_WRITE
    )]
    pub write: Option<PathBuf>,
    /// Numbers of threads [default: 1 and all processors that this process may use]
    #[arg(long, short_alias = 't', value_name = "N,N", value_delimiter = ',', value_parser = number::up_to_1024)]
    pub threads: Vec<u16>,
    /// Tokens of a prompt, shared out over the sequences of a batch; 0 for no prompts
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = number::from_0::<u32>)]
    pub prompt: u32,
    /// Tokens that every sequence generates; 0 for none
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number::from_0::<u32>)]
    pub generate: u32,
    /// Positions that every sequence holds before
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0", value_parser = number::from_0::<u32>)]
    pub depth: Vec<u32>,
    /// Sequences that run together
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = number::up_to_1024)]
    pub batch: Vec<u16>,
    /// How often each row is measured; 3 times when that takes long
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = number::from_1::<u16>)]
    pub repetitions: u16,
    /// The kernel to use; `bitnet doctor` says which ones run here [default: the variable BITNET_KERNEL, else the best]
    #[arg(long, value_name = "NAME", value_parser = words::kernels())]
    pub kernel: Option<String>,
    /// How activations are rounded: as the model was trained, not at all, or to int8 in any case
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ActivationsArg::Auto)]
    pub activations: ActivationsArg,
    /// In how many bits ternary weights are held (auto is two here, since nothing is tuned); results are the same
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = LayoutArg::Auto)]
    pub layout: LayoutArg,
    /// How the head, the last matrix, is computed: wholly (full), or only rows that can be among the likeliest tokens, found with
    /// a small copy (screened); auto takes what pays. Results are the same
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
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "0", value_parser = |text: &str| number::whole::<u16>(text, 0..=1024))]
    pub load: Option<u16>,
    /// Do not look where the time of a step goes
    #[arg(long)]
    pub no_breakdown: bool,
    /// Compare with the rows in FILE, written by --json; a regression ends with exit status 1
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    pub compare: Option<PathBuf>,
    /// Draw the rows
    #[arg(long, value_name = "FILE.svg", value_hint = ValueHint::FilePath)]
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
