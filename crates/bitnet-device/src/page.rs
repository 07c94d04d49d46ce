//! Names of pages, recurrent states and sequences.

/// Positions that a page holds.
pub const PAGE: usize = 256;

/// A page of a device: keys and values of [`PAGE`] positions in every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageId(pub u32);

/// A place for what recurrent blocks keep of one sequence at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateId(pub u32);

/// An open sequence. A number that is never used again, so that a closed one is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId {
    /// Which [`crate::Sequences`] opened it.
    pub(crate) book: u32,
    pub(crate) slot: u32,
    pub(crate) opened: u32,
}

/// Pages and states of a pool, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// Pages that sequences hold, each counted once.
    pub in_use: usize,
    /// Of those, pages that several sequences hold.
    pub shared: usize,
    /// Pages that have memory and are held by nobody: the next ones to be given out.
    pub free: usize,
    /// Pages there may be beside the states; `None` for as many as memory has room for.
    pub budget: Option<usize>,
    /// Bytes of one page.
    pub page_bytes: usize,
    /// Recurrent states that sequences hold, each counted once; 0 for a model without recurrent blocks.
    pub states: usize,
    /// States that have memory and are held by nobody.
    pub free_states: usize,
    /// Bytes of one state.
    pub state_bytes: usize,
}
