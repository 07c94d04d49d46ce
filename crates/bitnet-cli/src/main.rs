//! The `bitnet` command: a thin front. Arguments become plain data ([`args`]), one module per subcommand calls
//! the libraries ([`commands`]), and what they return becomes words.
//!
//! # Rules
//! - Results go to standard output, talk (progress, notes, errors) to standard error.
//! - Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
//! - A reader that goes away (a closed pipe) ends the command quietly.
//! - No arithmetic of models, no file format and no text processing lives here.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

mod args;
mod boxed;
mod commands;
mod failure;
mod files;
mod gates;
mod generate;
mod hub;
mod human;
mod interrupt;
mod load;
mod logging;
mod machine;
mod measured;
mod npy;
mod progress;
mod resolve;
mod terminal;
mod tuning;

fn main() -> ExitCode {
    let mut command = args::Cli::command().color(terminal::help_color(std::env::args()));
    let parsed = args::Cli::from_arg_matches(&command.get_matches_mut());
    let cli = parsed.unwrap_or_else(|e| e.format(&mut command).exit());
    terminal::choose(cli.color, cli.quiet);
    logging::install(cli.verbose);
    let done = interrupt::install().and_then(|()| commands::run(cli.command));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
