//! `bitnet chat [MODEL]`: a conversation, line by line.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use bitnet_inference::EngineError;
use rustyline::{Config, Editor, error::ReadlineError, history::FileHistory};

use crate::{
    args::ChatArgs,
    boxed,
    failure::{Failure, Result},
    files, interrupt, load,
    terminal::{self, Style, TextOut},
};

mod conversation;

use conversation::Conversation;

const HELP: &str = "\
/help            this list
/reset           begin anew; the instructions stay
/system [TEXT]   show or set the instructions that come before the conversation; /system - removes them
/save FILE       write the conversation as JSON; /save --force FILE replaces a file
/speed           show or hide the speed of every answer
/quit            leave (also Ctrl-D)
Ctrl-C stops an answer. A line that begins with // begins with one slash.";

/// Lines of history that are kept, and far more bytes than they have.
const HISTORY: usize = 1000;
const MOST_HISTORY: u64 = 16 << 20;

pub fn run(args: &ChatArgs) -> Result<()> {
    let name = args.model.as_deref().unwrap_or(boxed::NAME);
    let engine = load::engine(name, &args.engine)?;
    if engine.chat_template().is_none() {
        return Err(load::failure(EngineError::NoChatTemplate)
            .cure(format_args!("bitnet run {name} 'the text to continue'")));
    }
    let mut conversation = Conversation::new(&engine, args)?;
    let mut lines = Lines::open(args.history.clone())?;
    terminal::note(format_args!("{name}, {}; /help for help", engine.info().kernel));
    let mut speed = args.speed;
    while let Some(line) = lines.next()? {
        match Line::parse(&line) {
            Line::Nothing => {}
            Line::Quit => break,
            Line::Help => terminal::error_line(format_args!("{HELP}")),
            Line::Reset => {
                conversation.reset();
                terminal::note(format_args!("the conversation begins anew"));
            }
            Line::Speed => {
                speed = !speed;
                terminal::note(format_args!("speed is {}", if speed { "shown" } else { "hidden" }));
            }
            Line::System(text) => system(&mut conversation, text),
            Line::Save(path) => save(&conversation, path),
            Line::Unknown(word) => {
                complain(&Failure::new(format_args!("there is no command {word}")).cure("/help"))
            }
            Line::Say(text) => say(&mut conversation, text, speed)?,
        }
    }
    lines.close();
    Ok(())
}

/// One turn. What goes wrong with it ends the turn, not the conversation; a reader who has left ends both.
fn say(conversation: &mut Conversation, text: &str, speed: bool) -> Result<()> {
    let mut out = TextOut::new();
    let answer = conversation.say(text, |step| out.push(step.text));
    out.finish()?;
    match answer {
        Ok(answer) => {
            if answer.finish.is_none() {
                terminal::note(format_args!("stopped"));
            }
            if speed {
                terminal::note(format_args!("{}", answer.speed.words()));
            }
            // Ctrl-C stops the answer only; whoever asks the process to end means the conversation.
            if interrupt::ending() { Err(Failure::Interrupted) } else { Ok(()) }
        }
        Err(Failure::BrokenPipe) => Err(Failure::BrokenPipe),
        Err(failure) => {
            complain(&failure);
            Ok(())
        }
    }
}

fn complain(failure: &Failure) {
    if let Failure::Told { what, cure, .. } = failure {
        let cure = cure.as_ref().map_or(String::new(), |cure| format!(" (try: {cure})"));
        let told = terminal::sentence(&format!("{what}{cure}"));
        terminal::error_line(format_args!("{} {told}", terminal::paint(Style::Error, "error:")));
    }
}

fn system(conversation: &mut Conversation, text: &str) {
    match text {
        "" => {
            terminal::note(format_args!("{}", conversation.system().unwrap_or("there are no instructions")))
        }
        "-" => {
            conversation.set_system(None);
            terminal::note(format_args!("no instructions from now on"));
        }
        text => {
            conversation.set_system(Some(text.to_owned()));
            terminal::note(format_args!("instructions set"));
        }
    }
}

fn save(conversation: &Conversation, path: &str) {
    let (path, force) = match path.strip_prefix("--force ") {
        Some(path) => (path.trim(), true),
        None => (path, false),
    };
    let done = match path {
        "" | "--force" => Err(Failure::new("/save needs a file name").cure("/save chat.json")),
        path => conversation.save(Path::new(path), force),
    };
    let done = done.map_err(|failure| match Path::new(path).is_file() && !force {
        true => failure.cure(format_args!("/save --force {path}, or another name")),
        false => failure,
    });
    match done {
        Ok(()) => terminal::note(format_args!("saved to {path}")),
        Err(failure) => complain(&failure),
    }
}

/// A line that was typed.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Quit,
    Help,
    Reset,
    Speed,
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
        match word {
            "/quit" | "/exit" => Self::Quit,
            "/help" | "/?" => Self::Help,
            "/reset" => Self::Reset,
            "/speed" => Self::Speed,
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
    prompt: &'static str,
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
        Ok(Self { editor, history, prompt: if person { "> " } else { "" } })
    }

    /// The next line; none at the end.
    fn next(&mut self) -> Result<Option<String>> {
        loop {
            match self.editor.readline(self.prompt) {
                Ok(line) => return Ok(Some(line)),
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
            terminal::note(format_args!("the history was not kept in {}: {error}", path.display()));
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
        assert_eq!(Line::parse("//etc is a folder"), Line::Say("/etc is a folder"));
        assert_eq!(Line::parse(" Hello / you "), Line::Say("Hello / you"));
    }
}
