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

use clap::{CommandFactory, FromArgMatches};
use failure::{Failure, Result};

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
    let done = command_line().and_then(|cli| match cli {
        Some(cli) => interrupt::install().and_then(|()| commands::run(cli.command)),
        None => Ok(()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(interrupt::status()),
        Err(failure) => failure.report(),
    }
}

/// The parsed arguments; none when help or the version was asked for, which is printed here. A wrong call ends the process.
fn command_line() -> Result<Option<args::Cli>> {
    let given = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let mut command = args::Cli::command().color(terminal::help_color(given));
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed =
        parsed.and_then(|found| args::Cli::from_arg_matches(&found).map_err(|e| e.format(&mut command)));
    match parsed {
        Ok(cli) => {
            terminal::choose(cli.color, cli.quiet);
            logging::install(cli.verbose);
            Ok(Some(cli))
        }
        Err(error) if error.use_stderr() => error.exit(),
        Err(asked) => {
            let printed = asked.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout()));
            printed.map(|()| None).map_err(|e| Failure::output(&e))
        }
    }
}
