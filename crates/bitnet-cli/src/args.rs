//! The command line as plain data. Every flag is defined here once; help, completions and manual pages come out
//! of it. Nothing is opened or decided here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

mod bench;
mod color;
mod engine;
mod evaluate;
mod generate;
mod number;
mod quantize;
mod sampling;
mod train;
mod twins;
mod words;

pub use bench::{BenchArgs, Head};
pub use color::ColorChoice;
pub use engine::{ActivationsArg, EngineArgs, Kv, LayoutArg, SparsityArg, Tune};
pub use evaluate::EvaluateArgs;
pub use generate::{ChatArgs, Print, RunArgs};
pub use number::bits;
pub use quantize::{Group, QuantizeArgs, group, size};
pub use sampling::SamplingArgs;
pub use train::TrainArgs;
pub use twins::TwinsArgs;
pub use words::{ModelArg, ModelName};

/// Shown under the list of commands.
const AFTER_HELP: &str = "\
Results go to standard output, everything else to standard error.
Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

MODEL is a Hugging Face directory, a .gguf file, a .safetensors file with its config.json beside it, a .bitnet file,
OWNER/REPO or OWNER/REPO:FILE after `bitnet pull`, or the word `box` for the small model inside this program.

Variables: BITNET_KERNEL names the kernel to use, NO_COLOR switches colours off, HF_HUB_CACHE (else HF_HOME) is where fetched
models lie, XDG_CACHE_HOME where the model in the box and measurements are kept. `bitnet pull --help` has those of the hub.
The guides in `docs` have a glossary.";

/// Shown under the flags of `pull`.
const PULL_AFTER_HELP: &str = "\
Variables:
  HF_TOKEN        the token for gated and private models, sent to the hub only [else: the file HF_TOKEN_PATH, else HF_HOME/token]
  HF_HUB_CACHE    where models are kept [else: $HF_HOME/hub, else ~/.cache/huggingface/hub]
  HF_ENDPOINT     another hub [else: https://huggingface.co]
  HF_HUB_OFFLINE  1 forbids asking the hub
  HTTPS_PROXY     a proxy to ask through";

/// The commit that this was built from, where it is known.
pub const COMMIT: Option<&str> = option_env!("BITNET_COMMIT");

/// The heading of flags that every command takes.
const EVERYWHERE: &str = "Everywhere";
/// The heading of what `inspect` says of quality.
const QUALITY: &str = "Quality";

/// Runs ternary language models (BitNet b1.58 and its relatives), exactly, on any CPU.
#[derive(Debug, Parser)]
#[command(name = "bitnet", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Colours on standard error and in tables; auto is for terminals, unless NO_COLOR is set
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
    /// No notes and no progress on standard error; warnings and errors stay
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub quiet: bool,
    /// Say on standard error what is loaded and how it runs; twice for more
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Continue a text
    #[command(aliases = ["generate"])]
    Run(Box<RunArgs>),
    /// Talk with a model
    Chat(Box<ChatArgs>),
    /// Say what a model file is and what running it takes
    #[command(aliases = ["info"])]
    Inspect(InspectArgs),
    /// Say what this machine can do and what looks wrong
    Doctor(DoctorArgs),
    /// Measure speed beside the machine's own limits
    Bench(Box<BenchArgs>),
    /// Rewrite a model in another format and prove that it is the same
    Convert(ConvertArgs),
    /// Make a float model small, without training
    Quantize(Box<QuantizeArgs>),
    /// Train a ternary model on text (in builds with the feature `training`)
    Train(TrainArgs),
    /// Fine-tune a model on chats or completions (in builds with the feature `training`)
    Finetune(TrainArgs),
    /// Train float and ternary twins and say what rounding costs (in builds with the feature `training`)
    Twins(TwinsArgs),
    /// Turn text into token ids, or ids into text
    Tokenize(TokenizeArgs),
    /// Write a model's logits for given token ids
    Logits(LogitsArgs),
    /// Measure how well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Judge a model: on a text, beside another model, by multiple-choice questions
    Evaluate(Box<EvaluateArgs>),
    /// Fetch a model from the Hugging Face hub
    #[command(aliases = ["download"])]
    Pull(PullArgs),
    /// Show the models that were fetched
    #[command(aliases = ["ls", "models"])]
    List(ListArgs),
    /// Remove fetched models from the disk
    #[command(aliases = ["rm"])]
    Remove(RemoveArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// Every tensor, not only a summary
    #[arg(long)]
    pub tensors: bool,
    /// Read every byte and compare it with the digests that a .bitnet file carries
    #[arg(long, conflicts_with = "quality")]
    pub verify: bool,
    /// How good the ternary matrices are: zeros, scales, dead rows and columns, and what the flags below add
    #[arg(long, conflicts_with = "tensors", help_heading = QUALITY)]
    pub quality: bool,
    /// The floats that the model was made from (masters of training, or a dense original): signal to noise and cosine of each matrix
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath, requires = "quality", help_heading = QUALITY)]
    pub masters: Option<ModelName>,
    /// Another model of the same shape, such as an earlier checkpoint: trits that flipped, scales that moved
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath, requires = "quality", help_heading = QUALITY)]
    pub against: Option<ModelName>,
    /// A text to run: codes at +-127 and 0, a row's largest magnitude over its root mean square, channels above 6 times the median
    #[arg(
        long,
        aliases = ["file", "text"],
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        requires = "quality",
        help_heading = QUALITY
    )]
    pub calibration: Option<PathBuf>,
    /// Also write it as a page with plots, which needs nothing but a browser
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath, requires = "quality", help_heading = QUALITY)]
    pub html: Option<PathBuf>,
    /// Replace the page if it exists
    #[arg(long, requires = "html", help_heading = QUALITY)]
    pub force: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Threads to measure with [default: all cores this process may use]
    #[arg(long, short_alias = 't', value_name = "N", value_parser = number::up_to_1024)]
    pub threads: Option<u16>,
    /// The kernel to use instead of the best one
    #[arg(long, value_name = "NAME", value_parser = words::kernels())]
    pub kernel: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The model to read (see `bitnet help`)
    #[arg(value_name = "IN", value_hint = ValueHint::AnyPath, required = true)]
    pub first: Option<ModelName>,
    /// What to write: a directory for hf-packed and hf-master, otherwise a file
    #[arg(value_name = "OUT", value_hint = ValueHint::AnyPath, required_unless_present = "model")]
    pub second: Option<PathBuf>,
    /// The model to read, if not as a word of its own
    #[arg(short, long = "model", value_name = "MODEL", value_hint = ValueHint::AnyPath, conflicts_with = "second")]
    pub model: Option<ModelName>,
    /// The format to write
    #[arg(long, value_name = "FORMAT", value_parser = TARGETS)]
    pub to: String,
    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,
    /// Read I2_S tensors in the 64-element layout of ARM builds
    #[arg(long = "i2s-64")]
    pub i2s_64: bool,
    /// One JSON object instead of the proof in words
    #[arg(long)]
    pub json: bool,
}

/// The names that `convert --to` takes; the convert library parses them.
pub const TARGETS: [&str; 10] = [
    "hf-packed",
    "hf-master",
    "gguf-i2_s",
    "gguf-tq1_0",
    "gguf-tq2_0",
    "gguf-q2_0",
    "gguf-pq2_0",
    "gguf-ptq1_0",
    "gguf-q1_0",
    "bitnet",
];

#[derive(Debug, Args)]
pub struct TokenizeArgs {
    /// The model, or a tokenizer.json
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath, required_unless_present = "model")]
    pub first: Option<ModelName>,
    /// The text; with --decode, a JSON array of ids. Without it and without --file, standard input
    #[arg(value_name = "TEXT", value_hint = ValueHint::Other, allow_hyphen_values = true)]
    pub second: Option<String>,
    /// The model, if not as a word of its own
    #[arg(short, long = "model", value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub model: Option<ModelName>,
    /// Take the text (or the ids) from a file; - is standard input
    #[arg(long, short_alias = 'f', alias = "text", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Turn ids into text
    #[arg(long)]
    pub decode: bool,
    /// Add no begin-of-text token; with --decode, leave control tokens out of the text
    #[arg(long)]
    pub no_special: bool,
    /// Read control tokens written in the text as plain text, as `run` and `chat` do
    #[arg(long, conflicts_with = "decode")]
    pub plain: bool,
    /// One token a line with its text, instead of the JSON array
    #[arg(long, conflicts_with = "decode")]
    pub pieces: bool,
}

#[derive(Debug, Args)]
pub struct LogitsArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// A JSON array of token ids, taken as they are; - is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ids_file: PathBuf,
    /// The file to write: f32, shape [tokens, vocabulary], NumPy's .npy; - is standard output
    #[arg(long, value_name = "FILE.npy", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub struct PerplexityArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// The text to score; - is standard input
    #[arg(long, short_alias = 'f', alias = "text", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Tokens the model sees at once [default: as many as it was made for, at most 512]
    #[arg(long, value_name = "N", value_parser = number::from_2::<u32>)]
    pub window: Option<u32>,
    /// Tokens by which the window moves; those it saw before are not scored again [default: the window]
    #[arg(long, value_name = "N", value_parser = number::from_1::<u32>)]
    pub stride: Option<u32>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
#[command(after_help = PULL_AFTER_HELP)]
pub struct PullArgs {
    /// The model on the hub; OWNER/REPO:FILE and addresses of its pages are understood, too
    #[arg(value_name = "OWNER/REPO")]
    pub repo: String,
    /// A branch, a tag or a commit
    #[arg(long, value_name = "REV", default_value = "main")]
    pub revision: String,
    /// Only this file, such as one .gguf of several; may be repeated
    #[arg(long, value_name = "FILE")]
    pub file: Vec<String>,
    /// One JSON object instead of the path
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// A JSON array of models
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The models, as `bitnet list` names them
    #[arg(value_name = "OWNER/REPO", required = true)]
    pub repos: Vec<String>,
    /// Do not ask
    #[arg(long, short, visible_alias = "force")]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory for bitnet.1, bitnet-run.1, ...
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Replace pages that exist
    #[arg(long)]
    pub force: bool,
}
