//! Standard output and standard error: who gets colours, who gets talk, and what happens when the reader leaves.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use crate::{
    args::ColorChoice,
    failure::{Failure, Result},
};

/// What a piece of text on standard error is.
#[derive(Clone, Copy)]
pub enum Style {
    Error,
    Cure,
    Warning,
    Note,
    Heading,
}

impl Style {
    /// The SGR codes.
    fn codes(self) -> &'static str {
        match self {
            Self::Error => "1;31",
            Self::Cure => "1;32",
            Self::Warning => "1;33",
            Self::Note => "2",
            Self::Heading => "1",
        }
    }
}

struct Choice {
    error_color: bool,
    output_color: bool,
    quiet: bool,
}

static CHOICE: OnceLock<Choice> = OnceLock::new();

/// Settles colours and talkativeness for the rest of the run.
pub fn choose(color: ColorChoice, quiet: bool) {
    let allowed = |terminal: bool| match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
            terminal && !set("NO_COLOR") && !dumb
        }
    };
    let choice = Choice {
        error_color: allowed(io::stderr().is_terminal()),
        output_color: allowed(io::stdout().is_terminal()),
        quiet,
    };
    // Called once, at the start; a second call would change nothing.
    let _ = CHOICE.set(choice);
}

fn choice() -> &'static Choice {
    CHOICE.get_or_init(|| Choice { error_color: false, output_color: false, quiet: false })
}

/// Whether notes and progress are wanted.
pub fn quiet() -> bool {
    choice().quiet
}

/// Whether standard error is a terminal where something may be drawn again in its place.
#[cfg_attr(not(feature = "training"), allow(dead_code))]
pub fn live() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|v| v == "dumb");
    io::stderr().is_terminal() && !dumb && !quiet()
}

/// `text` in `style`, for standard error.
pub fn paint(style: Style, text: &str) -> String {
    colored(choice().error_color, style, text)
}

/// `text` in `style`, for standard output.
pub fn paint_output(style: Style, text: &str) -> String {
    colored(choice().output_color, style, text)
}

fn colored(color: bool, style: Style, text: &str) -> String {
    if color { format!("\x1b[{}m{text}\x1b[0m", style.codes()) } else { text.to_owned() }
}

/// A line to standard error. Nobody can be told when that fails.
pub fn error_line(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A remark on standard error, silenced by `--quiet`.
pub fn note(line: fmt::Arguments<'_>) {
    if !quiet() {
        error_line(format_args!("{}", paint(Style::Note, &line.to_string())));
    }
}

/// A warning on standard error; `--quiet` keeps it.
pub fn warning(line: fmt::Arguments<'_>) {
    error_line(format_args!("{} {line}", paint(Style::Warning, "warning:")));
}

/// Writes `text` to standard output at once.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::output(&e))
}

/// Writes a line to standard output.
pub fn print_line(line: fmt::Arguments<'_>) -> Result<()> {
    print(&format!("{line}\n"))
}

/// Writes a value as JSON to standard output: indented for a person at a terminal, one line for a pipe.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let pretty = io::stdout().is_terminal();
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    print_line(format_args!("{}", text.map_err(Failure::new)?))
}

/// A model's text for standard output. What goes to a terminal must not move its cursor or change its state, so
/// control characters other than line ends and tabs are shown as pictures; what goes to a file is left alone.
pub struct TextOut {
    terminal: bool,
    ends_line: bool,
}

impl TextOut {
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), ends_line: true }
    }

    /// Writes and flushes, so that text appears as it is made.
    pub fn push(&mut self, text: &str) -> Result<()> {
        let Some(last) = text.chars().next_back() else { return Ok(()) };
        self.ends_line = last == '\n';
        if self.terminal && text.chars().any(dangerous) {
            return print(&text.chars().map(shown).collect::<String>());
        }
        print(text)
    }

    /// Ends the last line.
    pub fn finish(&mut self) -> Result<()> {
        if self.ends_line { Ok(()) } else { self.push("\n") }
    }
}

fn dangerous(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// Unicode has a picture for each ASCII control character.
fn shown(c: char) -> char {
    match c {
        c if !dangerous(c) => c,
        '\u{7f}' => '\u{2421}',
        c => char::from_u32(0x2400 + c as u32).filter(|_| c < ' ').unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

/// clap prints help and usage errors before it has parsed `--color`, so the raw arguments are looked at first.
pub fn help_color(args: impl Iterator<Item = String>) -> clap::ColorChoice {
    let mut args = args.take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        let value =
            if arg == "--color" { args.next() } else { arg.strip_prefix("--color=").map(str::to_owned) };
        match value.as_deref() {
            Some("always") => return clap::ColorChoice::Always,
            Some("never") => return clap::ColorChoice::Never,
            _ => {}
        }
    }
    clap::ColorChoice::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_reach_a_terminal() {
        assert_eq!(
            "a\x1b[2J\u{9b}\x7f\n\tb".chars().map(shown).collect::<String>(),
            "a\u{241b}[2J\u{fffd}\u{2421}\n\tb"
        );
    }

    #[test]
    fn the_color_of_help_is_seen_before_parsing() {
        let seen = |args: &[&str]| help_color(args.iter().map(|s| (*s).to_owned()));
        assert_eq!(seen(&["run", "--color", "never"]), clap::ColorChoice::Never);
        assert_eq!(seen(&["--color=always"]), clap::ColorChoice::Always);
        assert_eq!(seen(&["run", "--", "--color=always"]), clap::ColorChoice::Auto);
        assert_eq!(seen(&["--color", "auto"]), clap::ColorChoice::Auto);
    }
}
