//! One module per subcommand.

use crate::{
    args::Command,
    failure::{Failure, Result},
};

mod bench;
mod chat;
mod completions;
mod convert;

mod doctor;
mod evaluate;
mod inspect;
mod list;
mod logits;
mod man;
mod perplexity;
mod pull;
mod quantize;
mod remove;
mod run;
mod tokenize;
mod train;
mod twins;

/// Runs the command that the arguments name.
pub fn run(command: Command) -> Result<()> {
    bitnet_format::explain_lost_pages()
        .map_err(|e| Failure::new(format_args!("cannot watch for files that are cut short: {e}")))?;
    match command {
        Command::Run(args) => run::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Finetune(args) => train::finetune(&args),
        Command::Twins(args) => twins::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::List(args) => list::run(&args),
        Command::Remove(args) => remove::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
