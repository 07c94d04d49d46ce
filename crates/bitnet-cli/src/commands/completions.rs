//! `bitnet completions SHELL`.

use clap::Command;
use clap_complete::Shell;

use crate::{args::CompletionsArgs, boxed, failure::Result, parse, terminal};

/// How the generated script for bash goes on when nothing else fits: with options, though files are meant.
const BASH_FALLBACK: &str = "            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )";
/// Paths and the model in the box. `filenames` puts a slash behind directories; it is an error outside of a completion, as in a test.
const BASH_MODELS: &str = "\
            compopt -o filenames 2>/dev/null
            local IFS=$'\\n'
            COMPREPLY=( $(compgen -W \"box\" -- \"${cur}\") $(compgen -f -- \"${cur}\") )";
/// The line of Bash's script that leaves files to the shell's own completion.
const BASH_FILES: &str = "            COMPREPLY=()";
const ZSH_MODELS: &str = "\
_bitnet_models() {
    _alternative 'models:model:(box)' 'files:file:_files'
}

";

pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut command = parse::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "bitnet", &mut script);
    let script = String::from_utf8_lossy(&script);
    terminal::print_exactly(&match args.shell {
        Shell::Bash => bash(&script, &command),
        Shell::Zsh => zsh(&script),
        Shell::Fish => fish(&script, &command),
        _ => script.into_owned(),
    })
}

/// What the words without a dash of a verb are.
#[derive(Clone, Copy, PartialEq)]
enum Words {
    Models,
    Files,
    /// None, or words that the generated script knows.
    Others,
}

impl Words {
    fn of(verb: &Command) -> Self {
        let named = |name: &str| {
            verb.get_positionals().any(|arg| {
                arg.get_value_names().is_some_and(|names| names.iter().any(|n| n.as_str() == name))
            })
        };
        let closed = verb.get_positionals().any(|arg| !arg.get_possible_values().is_empty());
        match verb.get_positionals().count() {
            0 => Self::Others,
            _ if named("MODEL") || named("IN") => Self::Models,
            _ if closed || named("OWNER/REPO") => Self::Others,
            _ => Self::Files,
        }
    }
}

/// Options whose value is a model.
const MODEL_OPTIONS: [&str; 3] = ["--model", "--masters", "--against"];

/// Generated scripts for bash offer a verb's options where its first word is expected, and never a word: models and files are put in
/// their place, and options come behind a dash.
fn bash(script: &str, command: &Command) -> String {
    let mut words = Words::Others;
    let mut of_model = false;
    let mut text = String::with_capacity(script.len() + 4096);
    for line in script.lines() {
        if let Some(label) = line.strip_prefix("        bitnet__").and_then(|rest| rest.strip_suffix(')')) {
            let verb = label.rsplit("__").next().and_then(|verb| command.find_subcommand(verb));
            words = verb.filter(|_| !label.contains("help__")).map_or(Words::Others, Words::of);
        }
        if let Some(option) = line.trim().strip_suffix(')').filter(|option| option.starts_with('-')) {
            of_model = option == "-m" || MODEL_OPTIONS.contains(&option);
        }
        let options_first = line.starts_with("            if [[ ${cur} == -* || ");
        text += match words {
            Words::Models | Words::Files if options_first => "            if [[ ${cur} == -* ]] ; then",
            Words::Models if line == BASH_FALLBACK => BASH_MODELS,
            Words::Files if line == BASH_FALLBACK => BASH_FILES,
            Words::Models if of_model && line.contains("$(compgen -f ") => BASH_MODELS,
            _ => line,
        };
        text.push('\n');
    }
    text
}

/// Models are files, or the one in the box.
fn zsh(script: &str) -> String {
    let mut text = String::with_capacity(script.len() + 256);
    for line in script.lines() {
        if line == "_bitnet() {" {
            text += ZSH_MODELS;
        }
        let positional = line.starts_with("':") && line.contains(" -- The model");
        if positional || line.contains(":MODEL:_files'") {
            text += &line.replace(":_files'", ":_bitnet_models'");
        } else {
            text += line;
        }
        text.push('\n');
    }
    text
}

/// Files are offered anyway; the model in the box is a word more.
fn fish(script: &str, command: &Command) -> String {
    let mut text = String::with_capacity(script.len() + 4096);
    for line in script.lines() {
        text += line;
        if MODEL_OPTIONS.iter().any(|long| line.contains(&format!(" -l {} ", &long[2..])))
            && line.ends_with(" -r -F")
        {
            text += &format!(" -a {}", boxed::NAME);
        }
        text.push('\n');
    }
    for verb in command.get_subcommands().filter(|verb| Words::of(verb) == Words::Models) {
        text += &format!(
            "complete -c bitnet -n \"__fish_bitnet_using_subcommand {}\" -a {} -d 'The small model inside this program'\n",
            verb.get_name(),
            boxed::NAME
        );
    }
    text
}
