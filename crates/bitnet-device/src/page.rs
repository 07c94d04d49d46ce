//! Names of pages and of sequences.

/// Positions that a page holds.
pub const PAGE: usize = 256;

/// A page of a device: keys and values of [`PAGE`] positions in every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageId(pub u32);

/// An open sequence. A number that is never used again, so that a closed one is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId {
    /// Which [`crate::Sequences`] opened it.
    pub(crate) book: u32,
    pub(crate) slot: u32,
    pub(crate) opened: u32,
}
