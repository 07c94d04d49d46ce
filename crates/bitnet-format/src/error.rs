//! What can be wrong with a file: each mistake has its own variant, and every variant names what was expected.

use std::{
    fmt,
    path::{Path, PathBuf},
};

mod kind;

pub use kind::FormatErrorKind;

/// A [`FormatErrorKind`] and the file in which it was met.
#[derive(Debug)]
pub struct FormatError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    path: Option<PathBuf>,
    kind: FormatErrorKind,
}

impl FormatError {
    /// The mistake, without the file's path.
    pub fn kind(&self) -> &FormatErrorKind {
        &self.0.kind
    }

    /// The file in which it was met, when the bytes came from one.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The same error, said of `path`, whatever it was said of.
    pub(crate) fn of(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// The same error; where it was said of `temporary` or of a file below it, it is said of what that was to become at `path`.
    #[must_use]
    pub fn renamed(mut self, temporary: &Path, path: &Path) -> Self {
        let below = self.0.path.as_deref().and_then(|p| p.strip_prefix(temporary).ok());
        self.0.path = match below {
            Some(rest) if rest.as_os_str().is_empty() => Some(path.to_owned()),
            Some(rest) => Some(path.join(rest)),
            None => self.0.path,
        };
        self
    }

    /// The same error, said of `path`; a path that is known already stays.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_owned());
        self
    }
}

impl From<FormatErrorKind> for FormatError {
    fn from(kind: FormatErrorKind) -> Self {
        Self(Box::new(Inner { path: None, kind }))
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.0.kind),
            None => self.0.kind.fmt(f),
        }
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.kind)
    }
}
