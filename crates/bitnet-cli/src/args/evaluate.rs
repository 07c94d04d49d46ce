//! Flags of `evaluate`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{EngineArgs, ModelArg, ModelName, number};

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub model: ModelArg,
    /// A text to predict; - is standard input
    #[arg(
        long = "file",
        alias = "text",
        short_alias = 'f',
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        required_unless_present = "tasks"
    )]
    pub text: Option<PathBuf>,
    /// A model to compare with over the text: the original of a quantized one, a teacher, an earlier version
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath, requires = "text")]
    pub against: Option<ModelName>,
    /// Multiple-choice questions, one JSON object a line; may be repeated
    #[arg(long, value_name = "FILE.jsonl", value_hint = ValueHint::FilePath)]
    pub tasks: Vec<PathBuf>,
    /// What stands between a question and a choice, unless there is white space already
    #[arg(long, value_name = "TEXT", default_value = " ", requires = "tasks", hide_default_value = true)]
    pub delimiter: String,
    /// Tokens the model sees at once [default: as many as it was made for, at most 512]
    #[arg(long, value_name = "N", requires = "text", value_parser = number::from_2::<u32>)]
    pub window: Option<u32>,
    /// Tokens by which the window moves; those it saw before are not scored again [default: the window]
    #[arg(long, value_name = "N", requires = "text", value_parser = number::from_1::<u32>)]
    pub stride: Option<u32>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}
