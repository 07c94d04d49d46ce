//! The `bitnet` command: a thin front. Arguments become plain data ([`args`]), one module per subcommand calls
//! the libraries ([`commands`]), and what they return becomes words.
//!
//! # Rules
//! - Results go to standard output, talk (progress, notes, errors) to standard error.
//! - Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (128 and the number of the signal).
//! - A reader that goes away (a closed pipe) ends the command quietly.
//! - No arithmetic of models, no file format and no text processing lives here.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use failure::Failure;

mod args;
mod boxed;
mod commands;
mod engine;
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
mod parse;
mod progress;
mod resolve;
mod terminal;
mod tuning;
mod wrap;

fn main() -> ExitCode {
    let cli = match parse::arguments() {
        Ok(Some(cli)) => cli,
        Ok(None) => return ExitCode::SUCCESS,
        Err(failure) => return terminal::report(failure),
    };
    terminal::choose(cli.color, cli.quiet);
    logging::install(cli.verbose);
    let done = interrupt::install().and_then(|()| commands::run(cli.command));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(interrupt::status()),
        Err(failure) => terminal::report(failure),
    }
}
