//! What went wrong, in one sentence, and what to do about it.

use std::{fmt, io, path::Path, process::ExitCode};

use crate::terminal::{self, Style};

/// Exit status of a command that failed.
const FAILED: u8 = 1;
/// Exit status of a command that was called wrongly; clap uses the same.
const USAGE: u8 = 2;
/// Exit status after Ctrl-C: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// The outcome of everything in this crate that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell the user.
    Told {
        /// One sentence: what failed, where.
        what: String,
        /// What to do about it.
        cure: Option<String>,
        /// The exit status.
        status: u8,
    },
    /// Ctrl-C. The user knows.
    Interrupted,
    /// The reader of standard output has gone; there is nobody to tell.
    BrokenPipe,
}

impl Failure {
    /// A failure told as `what`.
    pub fn new(what: impl fmt::Display) -> Self {
        Self::Told { what: what.to_string(), cure: None, status: FAILED }
    }

    /// A wrong call, told as `what`.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::Told { what: what.to_string(), cure: None, status: USAGE }
    }

    /// `doing` something with the file at `path` failed.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(format_args!("cannot {doing} {}: {}", path.display(), plain(error)))
    }

    /// Standard output could not be written.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(format_args!("cannot write to standard output: {}", plain(error))),
        }
    }

    /// Adds what to do.
    pub fn cure(mut self, advice: impl fmt::Display) -> Self {
        if let Self::Told { cure, .. } = &mut self {
            *cure = Some(advice.to_string());
        }
        self
    }

    /// Tells standard error and gives the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Told { what, cure, status } => {
                terminal::error_line(format_args!("{} {what}", terminal::paint(Style::Error, "error:")));
                if let Some(cure) = cure {
                    terminal::error_line(format_args!("{} {cure}", terminal::paint(Style::Cure, "  try:")));
                }
                ExitCode::from(status)
            }
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }
}

/// The system's reason without the number that Rust appends.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

/// Typed errors of the libraries become sentences with their causes appended.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
