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
        /// Bytes asked for.
        bytes: usize,
        /// What they were for.
        purpose: Purpose,
        /// What the system said.
        source: std::io::Error,
    },
    /// A size does not fit in the address space.
    #[error("{what}: {count} elements of {size} bytes do not fit in memory")]
    SizeOverflow {
        /// Whose size it is.
        what: &'static str,
        /// Number of elements.
        count: usize,
        /// Bytes of one element.
        size: usize,
    },
    /// Data and its description disagree.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// The thing described.
        what: String,
        /// What its description promises.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A device name that this build cannot serve.
    #[error("unknown device '{name}': this build runs on 'cpu'")]
    UnknownDevice {
        /// The name as given.
        name: String,
    },
}
