//! Which control tokens inside a text count.

use std::ops::Range;

/// Which control tokens of a text are meant as such.
pub(crate) enum Gate<'a> {
    All,
    None,
    /// Those at the ranges of bytes that it says yes to.
    At(&'a dyn Fn(Range<usize>) -> bool),
}

impl Gate<'_> {
    pub(crate) fn allows(&self, range: Range<usize>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::At(says) => says(range),
        }
    }
}
