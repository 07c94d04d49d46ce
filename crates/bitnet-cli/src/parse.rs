//! From the words that were typed to [`args`](crate::args): rules that hold for every flag, and a sentence for the verbs of other
//! programs.

use std::{env, ffi::OsString};

use clap::{
    Arg, Command, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    args::{COMMIT, Cli},
    failure::{Failure, Result},
    terminal,
};

/// Verbs of other programs for these, and what is closest here.
const VERBS: [(&[&str], &str); 12] = [
    (&["show", "describe"], "bitnet inspect MODEL"),
    (&["complete", "completion", "continue", "infer", "predict"], "bitnet run MODEL 'the text to continue'"),
    (&["fetch", "get"], "bitnet pull OWNER/REPO"),
    (&["list-models"], "bitnet list"),
    (&["delete", "uninstall"], "bitnet remove OWNER/REPO"),
    (&["talk", "repl", "interactive"], "bitnet chat MODEL"),
    (&["ppl"], "bitnet perplexity MODEL --file text.txt"),
    (&["eval", "judge", "compare"], "bitnet evaluate MODEL --file text.txt"),
    (&["benchmark", "speed"], "bitnet bench MODEL"),
    (&["export", "import", "create"], "bitnet convert IN OUT --to FORMAT"),
    (&["encode", "decode", "tokens"], "bitnet tokenize MODEL 'text'"),
    (&["version"], "bitnet --version"),
];
/// Verbs of other programs for what is not here.
const SERVERS: [&str; 3] = ["serve", "server", "api"];

/// The command with what holds for every flag.
pub fn command() -> Command {
    with_rules(Cli::command().long_version(long_version()))
}

/// What was asked for; none when help or the version was, which is printed here. Wrong usage ends the process.
pub fn arguments() -> Result<Option<Cli>> {
    let words: Vec<OsString> = env::args_os().collect();
    let shown = words.iter().map(|word| word.to_string_lossy().into_owned());
    let color = terminal::help_color(shown);
    let mut command = command().color(color);
    let parsed = command.try_get_matches_from_mut(words);
    let parsed = parsed.and_then(|found| Cli::from_arg_matches(&found).map_err(|e| e.format(&mut command)));
    let error = match parsed {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    if let Some(failure) = verb(&error).and_then(|word| other_verb(&word, &command)) {
        return Err(failure);
    }
    if error.use_stderr() {
        error.exit();
    }
    let text = error.render();
    let text = if terminal::help_has_color(color) { text.ansi().to_string() } else { text.to_string() };
    terminal::print_exactly(&terminal::fitted(text)).map(|()| None)
}

/// Numbers may begin with a minus, so that they are judged as numbers; `--top_k` is `--top-k`.
fn with_rules(command: Command) -> Command {
    let rules = |arg: Arg| {
        let underscored = arg.get_long().filter(|long| long.contains('-')).map(|long| long.replace('-', "_"));
        let aliases = arg.get_all_aliases().unwrap_or_default().into_iter();
        let more: Vec<String> = aliases.filter(|a| a.contains('-')).map(|a| a.replace('-', "_")).collect();
        let takes_number = arg.get_action().takes_values() && !arg.is_positional();
        let arg = arg.aliases(underscored.into_iter().chain(more));
        if takes_number { arg.allow_negative_numbers(true) } else { arg }
    };
    command.mut_args(rules).mut_subcommands(with_rules)
}

/// The word in the place of a verb.
fn verb(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => Some(word.clone()),
        _ => None,
    }
}

fn other_verb(word: &str, command: &Command) -> Option<Failure> {
    let told = Failure::usage(format_args!("bitnet has no command '{word}'"));
    if SERVERS.contains(&word) {
        return Some(
            Failure::usage(format_args!(
                "bitnet has no command '{word}': it does not serve models over HTTP"
            ))
            .cure("bitnet chat MODEL to talk, bitnet run MODEL PROMPT --json for programs"),
        );
    }
    let (_, close) = VERBS.iter().find(|(words, _)| words.contains(&word))?;
    let here = close.split(' ').nth(1).is_some_and(|verb| {
        verb.starts_with('-') || command.get_subcommands().any(|known| known.get_name() == verb)
    });
    here.then(|| told.cure(close))
}

/// Version, commit, and what was built in.
fn long_version() -> String {
    let training = if cfg!(feature = "training") { "built in" } else { "not built in" };
    let commit = COMMIT.unwrap_or("unknown");
    format!("{}\ncommit {commit}\ntraining {training}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn no_verb_of_ours_is_called_another_programs() {
        let ours = command();
        for (words, _) in VERBS {
            for word in words {
                let is_ours = |known: &Command| {
                    known.get_name() == *word || known.get_all_aliases().any(|alias| alias == *word)
                };
                assert!(!ours.get_subcommands().any(is_ours), "{word}");
            }
        }
    }
}
