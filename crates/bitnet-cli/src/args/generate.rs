//! Flags of the commands that write text.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{EngineArgs, SamplingArgs};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The model (see `bitnet help`); without it, the one in the box
    #[arg(value_name = "MODEL")]
    pub first: Option<String>,
    /// The text to continue; - is standard input
    #[arg(value_name = "PROMPT")]
    pub second: Option<String>,
    /// The model, if not as a word of its own
    #[arg(short, long = "model", value_name = "MODEL")]
    pub model: Option<String>,
    /// The text to continue, if not as a word of its own
    #[arg(
        short,
        long = "prompt",
        value_name = "PROMPT",
        allow_hyphen_values = true,
        conflicts_with = "ids_file"
    )]
    pub prompt: Option<String>,
    /// Continue these token ids instead of a text: a JSON array, taken as it is; - is standard input
    #[arg(long, value_name = "FILE")]
    pub ids_file: Option<PathBuf>,
    /// Put the prompt as a question in the model's chat form
    #[arg(long, conflicts_with = "ids_file")]
    pub chat: bool,
    /// Instructions that come before the question
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    /// Stop after so many tokens [default: 256]
    #[arg(short = 'n', long, value_name = "N")]
    pub max_new_tokens: Option<u32>,
    /// Go on after the model has said that it is done
    #[arg(long)]
    pub ignore_eos: bool,
    /// Stop before this text; may be repeated
    #[arg(long, value_name = "STR", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// What to print: text as it comes, or the new ids as one JSON array
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Print::Text)]
    pub print: Print,
    /// The log-probability of every new token and of its N likeliest rivals (on standard error without --json)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=100))]
    pub logprobs: Option<u16>,
    /// How fast it went, on standard error
    #[arg(long)]
    pub stats: bool,
    /// One JSON object at the end instead of text as it comes
    #[arg(long, conflicts_with = "print")]
    pub json: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Print {
    Text,
    Ids,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    /// The model (see `bitnet help`); without it, the one in the box
    pub model: Option<String>,
    /// Instructions that come before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Stop an answer after so many tokens [default: 1024]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_new_tokens: Option<u32>,
    /// Stop an answer before this text; may be repeated
    #[arg(long, value_name = "STR", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Show the speed of every answer
    #[arg(long)]
    pub speed: bool,
    /// Where lines typed before are kept [default: the user's state directory]
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}
