//! Standard output and standard error: who gets colours, who gets talk, and what happens when the reader leaves.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::OnceLock,
};

use crate::{
    args::ColorChoice,
    failure::{Failure, Result},
    wrap,
};

/// Narrower terminals get lines of this length all the same.
const LEAST_WIDTH: usize = 40;

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
    /// The terminal's codes (SGR) for the style.
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

/// What [`colored`] writes behind an escape character.
const CODES: [&str; 6] = ["[1;31m", "[1;32m", "[1;33m", "[2m", "[1m", "[0m"];
/// Characters of a name or a word that are shown when it is much longer; of a message.
const MOST_NAME: usize = 200;
const MOST_SENTENCE: usize = 4000;

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
        ColorChoice::Auto => terminal && wanted(),
    };
    let choice = Choice {
        error_color: allowed(io::stderr().is_terminal()),
        output_color: allowed(io::stdout().is_terminal()),
        quiet,
    };
    // Called once, at the start; a second call would change nothing.
    let _ = CHOICE.set(choice);
}

/// Whether a terminal gets colours.
fn wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
    !set("NO_COLOR") && !dumb
}

/// Whether help, which is printed before anything is settled, has colours.
pub fn help_has_color(color: clap::ColorChoice) -> bool {
    match color {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => io::stdout().is_terminal() && wanted(),
    }
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

/// Columns of the terminal on standard output; none where it is no terminal.
pub fn width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns)).filter(|&n| n > 0)
}

/// `text` with lines that the terminal has room for. What goes to a file or a pipe is left as it is.
pub fn fitted(text: String) -> String {
    match width() {
        Some(width) => wrap::wrapped(&text, width.max(LEAST_WIDTH)),
        None => text,
    }
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
    let line = harmless(&line.to_string(), choice().error_color, Strict::Names);
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A remark on standard error, silenced by `--quiet`.
pub fn note(line: fmt::Arguments<'_>) {
    if !quiet() {
        error_line(format_args!("{}", paint(Style::Note, &sentence(&line.to_string()))));
    }
}

/// Tells standard error why a command stops and gives the exit status.
pub fn report(failure: Failure) -> ExitCode {
    match failure {
        Failure::Told { what, cure, status } => {
            let tell = |style, word: &str, text: &str| {
                error_line(format_args!("{} {}", paint(style, word), sentence(text)));
            };
            tell(Style::Error, "error:", &what);
            if let Some(cure) = cure {
                tell(Style::Cure, "  try:", &cure);
            }
            ExitCode::from(status)
        }
        // Whoever knows the signal gives its status.
        Failure::Interrupted => ExitCode::FAILURE,
        Failure::BrokenPipe => ExitCode::SUCCESS,
    }
}

/// A warning on standard error; `--quiet` keeps it.
pub fn warning(line: fmt::Arguments<'_>) {
    error_line(format_args!("{} {}", paint(Style::Warning, "warning:"), sentence(&line.to_string())));
}

/// A message that may quote a file: nothing in it moves a cursor, hides, or begins a line of its own as if it came from us, and what
/// is far too long for a name is cut.
pub fn sentence(text: &str) -> String {
    let cut =
        harmless(text, false, Strict::Names).split_inclusive([' ', '\n']).map(short).collect::<String>();
    let cut = match cut.char_indices().nth(MOST_SENTENCE) {
        Some((at, _)) => format!("{} ...", &cut[..at]),
        None => cut,
    };
    cut.trim_end().replace('\n', "\n  ")
}

/// A name as it may be shown: without characters that act on a terminal, and cut to a bearable length.
pub fn name(text: &str) -> String {
    short(&harmless(text, false, Strict::Names).replace(['\n', '\t'], " "))
}

/// A word that is much longer than a name, cut; the space behind it stays.
fn short(word: &str) -> String {
    let bare = word.trim_end();
    let length = bare.chars().count();
    if length <= MOST_NAME + 100 {
        return word.to_owned();
    }
    let begin: String = bare.chars().take(MOST_NAME).collect();
    format!("{begin}... ({length} characters){}", &word[bare.len()..])
}

/// Writes `text`, in which names from files may stand, to standard output at once.
pub fn print(text: &str) -> Result<()> {
    print_exactly(&harmless(text, choice().output_color, Strict::Names))
}

/// Writes `text` as it is to standard output at once.
pub fn print_exactly(text: &str) -> Result<()> {
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
    // Inside of strings, the only place for them, JSON may escape these as it does those below a space.
    let escaped = text.map_err(Failure::new)?.chars().fold(String::new(), |mut text, c| {
        match c {
            c if c != '\n' && dangerous(c, Strict::Names) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| text += &format!("\\u{unit:04x}"));
            }
            c => text.push(c),
        }
        text
    });
    print_line(format_args!("{escaped}"))
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
        match self.terminal {
            true => print_exactly(&harmless(text, false, Strict::Text)),
            false => print_exactly(text),
        }
    }

    /// Ends the last line, if it has no end yet.
    pub fn finish(&mut self) -> Result<()> {
        if self.ends_line { Ok(()) } else { self.push("\n") }
    }
}

/// Which characters a text may hold.
#[derive(Clone, Copy, PartialEq)]
enum Strict {
    /// Names and messages: nothing that is not seen.
    Names,
    /// A model's text, in which joiners make letters and signs what they are.
    Text,
}

/// Whether a terminal would obey `c`, or a reader not see it: control characters but line ends and tabs, those that turn the
/// direction of text, and in names whatever has no width.
fn dangerous(c: char, strict: Strict) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => true,
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' => strict == Strict::Names,
        // Tags: a whole ASCII that nobody sees.
        '\u{e0000}'..='\u{e007f}' => strict == Strict::Names,
        c => c.is_control(),
    }
}

/// `text` with what is [`dangerous`] replaced. Colours of ours stay when there are any.
fn harmless(text: &str, colors: bool, strict: Strict) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let after = rest.as_str();
        if c == '\x1b'
            && colors
            && let Some(code) = CODES.into_iter().find(|code| after.starts_with(code))
        {
            safe.push(c);
            safe.push_str(code);
            rest = after[code.len()..].chars();
        } else {
            safe.push(if dangerous(c, strict) { shown(c) } else { c });
        }
    }
    safe
}

/// Unicode has a picture for each ASCII control character.
fn shown(c: char) -> char {
    match c {
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
        for strict in [Strict::Names, Strict::Text] {
            assert_eq!(
                harmless("a\x1b[2J\u{9b}\x7f\n\tb\u{202e}c", false, strict),
                "a\u{241b}[2J\u{fffd}\u{2421}\n\tb\u{fffd}c"
            );
        }
        // A joiner makes one picture of two; in a name nobody sees it.
        assert_eq!(harmless("\u{200d}\u{feff}", false, Strict::Text), "\u{200d}\u{feff}");
        assert_eq!(harmless("\u{200d}\u{e0041}", false, Strict::Names), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn colours_of_ours_pass_and_no_others() {
        let line = colored(true, Style::Error, "error:");
        assert_eq!(harmless(&line, true, Strict::Names), line);
        assert!(!harmless(&line, false, Strict::Names).contains('\x1b'));
        assert!(!harmless("\x1b[8m \x1b]0;x\x07", true, Strict::Names).contains('\x1b'));
        for style in [Style::Error, Style::Cure, Style::Warning, Style::Note, Style::Heading] {
            assert!(CODES.contains(&format!("[{}m", style.codes()).as_str()));
        }
    }

    #[test]
    fn what_a_file_says_is_cut_and_begins_no_line() {
        let told = sentence(&format!("this is a {}, which\nerror: run rm\x1b[2J", "x".repeat(1 << 20)));
        assert!(
            told.starts_with("this is a xxx") && told.ends_with("which\n  error: run rm\u{241b}[2J"),
            "{told}"
        );
        assert!(told.len() < 400 && told.contains("(1048577 characters)"), "{told}");
        assert!(sentence(&"a b ".repeat(1 << 20)).len() < 5000);
        assert_eq!(sentence("a/path with spaces: ok"), "a/path with spaces: ok");
        assert_eq!(name("a\nb"), "a b");
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
