//! What went wrong, in one sentence, and what to do about it.

use std::{fmt, io, path::Path};

/// Exit status of a command that failed.
const FAILED: u8 = 1;
/// Exit status of a command that was called wrongly; clap uses the same.
const USAGE: u8 = 2;

/// The outcome of everything in this crate that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command stops before its end.
#[derive(Debug)]
pub enum Failure {
    /// A failure that is told to the user in a sentence.
    Told {
        /// One sentence: what failed, where.
        what: String,
        /// What the user can do about it.
        cure: Option<String>,
        /// The exit status of the process.
        status: u8,
    },
    /// A signal, such as that of Ctrl-C. The user knows.
    Interrupted,
    /// The reader of standard output has gone; there is nobody to tell.
    BrokenPipe,
}

impl Failure {
    /// A failure of work, told as `what`; exit status 1.
    pub fn new(what: impl fmt::Display) -> Self {
        Self::Told { what: what.to_string(), cure: None, status: FAILED }
    }

    /// A wrong call, told as `what`; exit status 2.
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

    /// The same failure with what to do about it.
    pub fn cure(mut self, advice: impl fmt::Display) -> Self {
        if let Self::Told { cure, .. } = &mut self {
            *cure = Some(advice.to_string());
        }
        self
    }
}

/// The system's reason without the number that Rust appends.
pub fn plain(error: &io::Error) -> String {
    match reason(error) {
        Some(known) => known.to_owned(),
        None => without_numbers(error.to_string(), str::to_lowercase),
    }
}

/// What the system's words leave out.
fn reason(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Some(TOO_LARGE),
        _ => None,
    }
}

const TOO_LARGE: &str = "a file may not grow so large here (see `ulimit -f`, or what the file system allows)";

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
    without_numbers(text.replace("File too large (os error", &format!("{TOO_LARGE} (os error")), |words| {
        words.to_owned()
    })
}

/// `text` without ` (os error 2)`, which tells a user nothing; what stood before it is put in the form that `form` gives.
fn without_numbers(mut text: String, form: impl Fn(&str) -> String) -> String {
    const MARK: &str = " (os error ";
    while let Some(at) = text.find(MARK) {
        let Some(end) = text[at..].find(')') else { break };
        text = form(&text[..at]) + &text[at + end + 1..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_left_out() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(plain(&missing), "no such file or directory");
        #[derive(Debug)]
        struct Wrapped(io::Error);
        impl fmt::Display for Wrapped {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a.gguf: {}", self.0)
            }
        }
        impl std::error::Error for Wrapped {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        assert_eq!(sentence(&Wrapped(missing)), "a.gguf: No such file or directory");
        assert!(sentence(&Wrapped(io::Error::other("strange"))).ends_with("a.gguf: strange"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_may_not_grow_has_a_sentence() {
        let error = io::Error::from_raw_os_error(27);
        assert_eq!(plain(&error), TOO_LARGE);
        assert_eq!(sentence(&error), TOO_LARGE);
    }
}
