//! Flags of the commands that write text.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{
    EngineArgs, SamplingArgs, number,
    words::{ModelName, OptionalModelArg, stop_text},
};

/// What other programs call `--max-new-tokens`.
const LENGTH: [&str; 3] = ["max-tokens", "n-predict", "num-predict"];

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The model (see `bitnet help`); without it, the one in the box
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub first: Option<ModelName>,
    /// The text to continue; - is standard input
    #[arg(value_name = "PROMPT", value_hint = ValueHint::Other)]
    pub second: Option<String>,
    /// The model, if not as a word of its own
    #[arg(short, long = "model", value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub model: Option<ModelName>,
    /// The text to continue, if not as a word of its own
    #[arg(
        short,
        long = "prompt",
        value_name = "PROMPT",
        allow_hyphen_values = true,
        conflicts_with_all = ["ids_file", "file"]
    )]
    pub prompt: Option<String>,
    /// Take the text to continue from a file; - is standard input
    #[arg(long, short_alias = 'f', alias = "text", value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "ids_file")]
    pub file: Option<PathBuf>,
    /// Continue these token ids instead of a text: a JSON array, taken as it is; - is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ids_file: Option<PathBuf>,
    /// Put the prompt as a question in the model's chat form
    #[arg(long, conflicts_with = "ids_file")]
    pub chat: bool,
    /// Instructions that come before the question
    #[arg(long, alias = "system-prompt", value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    /// Stop after so many tokens [default: 256]
    #[arg(short = 'n', long, aliases = LENGTH, value_name = "N", value_parser = number::from_0::<u32>)]
    pub max_new_tokens: Option<u32>,
    /// Go on after the model has said that it is done
    #[arg(long)]
    pub ignore_eos: bool,
    /// Stop before this text; may be repeated
    #[arg(long, value_name = "STR", allow_hyphen_values = true, value_parser = stop_text)]
    pub stop: Vec<String>,
    /// What to print: text as it comes, or the new ids as one JSON array
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Print::Text)]
    pub print: Print,
    /// The log-probability of every new token and of its N likeliest rivals (on standard error without --json)
    #[arg(long, value_name = "N", value_parser = |text: &str| number::whole::<u16>(text, 0..=100))]
    pub logprobs: Option<u16>,
    /// How fast it went, on standard error
    #[arg(long, alias = "speed")]
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
    // Without it, the one in the box.
    #[command(flatten)]
    pub model: OptionalModelArg,
    /// Instructions that come before the conversation
    #[arg(long, alias = "system-prompt", value_name = "TEXT")]
    pub system: Option<String>,
    /// Stop an answer after so many tokens [default: 1024]
    #[arg(short = 'n', long, aliases = LENGTH, value_name = "N", value_parser = number::from_1::<u32>)]
    pub max_new_tokens: Option<u32>,
    /// Stop an answer before this text; may be repeated
    #[arg(long, value_name = "STR", allow_hyphen_values = true, value_parser = stop_text)]
    pub stop: Vec<String>,
    /// Go on after the model has said that an answer is done
    #[arg(long)]
    pub ignore_eos: bool,
    /// How fast every answer was, on standard error; /stats switches it
    #[arg(long, alias = "speed")]
    pub stats: bool,
    /// A JSON object for every answer instead of text as it comes
    #[arg(long)]
    pub json: bool,
    /// Where lines typed before are kept [default: the user's state directory]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub history: Option<PathBuf>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}
