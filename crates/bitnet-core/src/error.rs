//! The words in which memory and shape mistakes are told.

use crate::Purpose;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong below the level of files and models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system would not give the memory.
    #[error("cannot allocate {bytes} bytes for {purpose}: {source}")]
    OutOfMemory {
        /// How many bytes were asked for.
        bytes: usize,
        /// What they were to be used for.
        purpose: Purpose,
        /// The system's reason for its refusal.
        source: std::io::Error,
    },
    /// A size does not fit in the address space.
    #[error("{what}: {count} elements of {size} bytes do not fit in memory")]
    SizeOverflow {
        /// What is too large, in a word.
        what: &'static str,
        /// The number of elements asked for.
        count: usize,
        /// Bytes that each element takes.
        size: usize,
    },
    /// Data and its description disagree.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// What is described: a matrix, a slice.
        what: String,
        /// The size or shape that its description promises.
        expected: String,
        /// The size or shape that it has.
        got: String,
    },
    /// A device name that this build cannot serve.
    #[error("unknown device '{name}': this build runs on 'cpu'")]
    UnknownDevice {
        /// The device's name as the caller gave it.
        name: String,
    },
}
