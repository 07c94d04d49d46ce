//! `bitnet chat [MODEL]`: a conversation, line by line.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use rustyline::{Config, Editor, error::ReadlineError, history::FileHistory};
use serde::Serialize;

use crate::{
    args::{ChatArgs, ModelName},
    boxed,
    failure::{Failure, Result, sentence},
    files,
    generate::{self, Speed},
    interrupt, load,
    terminal::{self, Style, TextOut},
};

mod conversation;

use conversation::Conversation;

const HELP: &str = "\
/help            this list
/reset           begin anew; the instructions stay
/system [TEXT]   show or set the instructions that come before the conversation; /system - removes them
/save FILE       write the conversation as JSON; /save --force FILE replaces a file
/stats           show or hide the speed of every answer (also /speed)
/quit            leave (also /exit, Ctrl-D)
Ctrl-C stops an answer. A line that begins with // begins with one slash.";

/// Lines of history that are kept, and far more bytes than they have.
const HISTORY: usize = 1000;
const MOST_HISTORY: u64 = 16 << 20;

pub fn run(args: &ChatArgs) -> Result<()> {
    let boxed = ModelName::from(boxed::NAME);
    let name = args.model.name().unwrap_or(&boxed);
    load::warn_of_idle(&args.sampling);
    let engine = load::engine(name, &args.engine)?;
    if let Err(error) = engine.chat() {
        return Err(load::failure(error).cure(format_args!("bitnet run {name} 'the text to continue'")));
    }
    let conversation = Conversation::new(&engine, args)?;
    let mut lines = Lines::open(args.history.clone())?;
    let seed = conversation.seed().map_or_else(|| "greedy".to_owned(), |seed| format!("seed {seed}"));
    terminal::note(format_args!("{name}, {}, {seed}; /help for help", engine.info().kernel));
    let mut chat = Chat { conversation, stats: args.stats, json: args.json, refused: 0 };
    chat.warn_of_instructions()?;
    while let Some(line) = lines.next()? {
        match Line::parse(&line) {
            Line::Quit => break,
            line => chat.obey(line)?,
        }
    }
    let person = lines.person;
    lines.close();
    // A person has seen it; a script has to be told.
    match chat.refused {
        0 => Ok(()),
        _ if person => Ok(()),
        1 => Err(Failure::new("a line of the conversation was refused, as told above")),
        n => Err(Failure::new(format_args!("{n} lines of the conversation were refused, as told above"))),
    }
}

/// A conversation and how it is shown.
struct Chat {
    conversation: Conversation,
    stats: bool,
    json: bool,
    /// Turns and commands that were not done.
    refused: usize,
}

/// An answer as `--json` prints it.
#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    ids: &'a [u32],
    finish_reason: &'static str,
    /// Of this answer; absent when the likeliest token is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    speed: Speed,
}

impl Chat {
    fn obey(&mut self, line: Line<'_>) -> Result<()> {
        match line {
            Line::Nothing | Line::Quit => {}
            Line::Help => terminal::error_line(format_args!("{HELP}")),
            Line::Reset => {
                self.conversation.reset();
                terminal::note(format_args!("the conversation begins anew"));
            }
            Line::Stats => {
                self.stats = !self.stats;
                terminal::note(format_args!("speed is {}", if self.stats { "shown" } else { "hidden" }));
            }
            Line::System(text) => return self.system(text),
            Line::Save(path) => self.save(path),
            Line::Unknown(word) => {
                self.complain(&Failure::new(format_args!("there is no command {word}")).cure("/help"));
            }
            Line::Say(text) => return self.say(text),
        }
        Ok(())
    }

    /// One turn. What goes wrong with it ends the turn, not the conversation; a reader who has left ends both.
    fn say(&mut self, text: &str) -> Result<()> {
        let (mut out, streams, seed) = (TextOut::new(), !self.json, self.conversation.seed());
        let answer = self.conversation.say(text, |step| if streams { out.push(step.text) } else { Ok(()) });
        out.finish()?;
        match answer {
            Ok(outcome) => {
                if self.json {
                    terminal::print_json(&Answer {
                        text: outcome.text.trim(),
                        ids: &outcome.ids,
                        finish_reason: generate::finish_word(outcome.finish),
                        seed,
                        speed: outcome.speed,
                    })?;
                } else if outcome.finish.is_none() {
                    terminal::note(format_args!("stopped"));
                } else {
                    generate::note_end(self.conversation.engine(), &outcome);
                }
                if self.stats {
                    terminal::note(format_args!("{}", outcome.speed.words()));
                }
                // Ctrl-C stops the answer only; whoever asks the process to end means the conversation.
                if interrupt::ending() {
                    return Err(Failure::Interrupted);
                }
            }
            Err(Failure::BrokenPipe) => return Err(Failure::BrokenPipe),
            Err(failure) => self.complain(&failure),
        }
        Ok(())
    }

    fn complain(&mut self, failure: &Failure) {
        self.refused += 1;
        if let Failure::Told { what, cure, .. } = failure {
            let cure = cure.as_ref().map_or(String::new(), |cure| format!(" (try: {cure})"));
            let told = terminal::sentence(&format!("{what}{cure}"));
            terminal::error_line(format_args!("{} {told}", terminal::paint(Style::Error, "error:")));
        }
    }

    fn system(&mut self, text: &str) -> Result<()> {
        match text {
            "" => {
                let told = self.conversation.system().unwrap_or("there are no instructions");
                terminal::note(format_args!("{told}"));
            }
            "-" => {
                self.conversation.set_system(None);
                terminal::note(format_args!("no instructions from now on"));
            }
            text => {
                self.conversation.set_system(Some(text.to_owned()));
                terminal::note(format_args!("instructions set"));
                self.warn_of_instructions()?;
            }
        }
        Ok(())
    }

    fn warn_of_instructions(&self) -> Result<()> {
        if self.conversation.system().is_some() {
            let engine = self.conversation.engine();
            load::warn_of_instructions(engine, self.conversation.system())?;
        }
        Ok(())
    }

    fn save(&mut self, path: &str) {
        let (path, force) = match path.strip_prefix("--force ") {
            Some(path) => (path.trim(), true),
            None => (path, false),
        };
        let done = match path {
            "" | "--force" => Err(Failure::new("/save needs a file name").cure("/save chat.json")),
            path => self.conversation.save(Path::new(path), force),
        };
        let done = done.map_err(|failure| match Path::new(path).is_file() && !force {
            true => failure.cure(format_args!("/save --force {path}, or another name")),
            false => failure,
        });
        match done {
            Ok(()) => terminal::note(format_args!("saved to {path}")),
            Err(failure) => self.complain(&failure),
        }
    }
}

/// What a typed line asks for.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Quit,
    Help,
    Reset,
    Stats,
    System(&'a str),
    Save(&'a str),
    Unknown(&'a str),
    Say(&'a str),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        if !line.starts_with('/') {
            return Self::Say(line);
        }
        if line.starts_with("//") {
            return Self::Say(&line[1..]);
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word.to_lowercase().as_str() {
            "/quit" | "/exit" | "/bye" => Self::Quit,
            "/help" | "/?" => Self::Help,
            "/reset" | "/clear" => Self::Reset,
            "/stats" | "/speed" => Self::Stats,
            "/system" => Self::System(rest.trim()),
            "/save" => Self::Save(rest.trim()),
            _ => Self::Unknown(word),
        }
    }
}

/// Lines from a person, with editing and history, or from a pipe.
struct Lines {
    editor: Editor<(), FileHistory>,
    history: Option<PathBuf>,
    /// Whether a person types, as opposed to a pipe.
    person: bool,
}

impl Lines {
    fn open(asked: Option<PathBuf>) -> Result<Self> {
        let person = io::stdin().is_terminal();
        let failed =
            |e: ReadlineError| Failure::new(format_args!("cannot read lines from this terminal: {e}"));
        let config =
            Config::builder().max_history_size(HISTORY).map_err(failed)?.auto_add_history(true).build();
        let history = FileHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).map_err(failed)?;
        // Scripts do not write into a person's history, unless they name a file.
        let history = asked.or_else(|| history_file().filter(|_| person));
        // Not there before the first conversation. What is no text of a bearable size is no history.
        if let Some(path) = history.as_ref().filter(|path| files::is_small(path, MOST_HISTORY)) {
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history, person })
    }

    /// The next line; none at the end.
    fn next(&mut self) -> Result<Option<String>> {
        loop {
            match self.editor.readline(if self.person { "> " } else { "" }) {
                Ok(line) => {
                    // The editor keeps what a person types, not what comes through a pipe.
                    if !self.person && self.history.is_some() {
                        let _ = self.editor.add_history_entry(&line);
                    }
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => terminal::note(format_args!("/quit or Ctrl-D to leave")),
                Err(error) => return Err(Failure::new(format_args!("cannot read the next line: {error}"))),
            }
        }
    }

    /// Keeps the history; a conversation does not fail at its end for want of it.
    fn close(mut self) {
        let Some(path) = self.history else { return };
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let kept = made.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(&path));
        if let Err(error) = kept {
            let why = sentence(&error);
            terminal::note(format_args!("the history was not kept in {}: {why}", path.display()));
        }
    }
}

fn history_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(env::home_dir()?.join(".local").join("state")));
    Some(state?.join("bitnet-rust").join("history"))
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn commands_begin_with_one_slash() {
        assert_eq!(Line::parse("  "), Line::Nothing);
        assert_eq!(Line::parse("/system  Be brief. "), Line::System("Be brief."));
        assert_eq!(Line::parse("/save a b.json"), Line::Save("a b.json"));
        assert_eq!(Line::parse("/nonsense 1"), Line::Unknown("/nonsense"));
        assert_eq!([Line::parse("/HELP"), Line::parse("/Speed")], [Line::Help, Line::Stats]);
        assert_eq!(Line::parse("//etc is a folder"), Line::Say("/etc is a folder"));
        assert_eq!(Line::parse(" Hello / you "), Line::Say("Hello / you"));
    }
}
