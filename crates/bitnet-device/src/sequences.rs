//! Which pages hold the keys and values of which sequence. Kept by the host; devices know pages only.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Batch, DeviceError, PAGE, PageId, Place, SequenceId, Span};

/// Why a step over these sequences cannot be made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// A sequence that was closed, or is another model's.
    #[error("the sequence has been closed, or belongs to another model")]
    Closed,
    /// Two spans of one step continue the same sequence.
    #[error("one step was to continue a sequence twice: put its tokens into one span")]
    Twice,
    /// More positions than a sequence may hold.
    #[error("the context is full: {needed} positions are needed, {capacity} are there")]
    ContextFull {
        /// Positions needed.
        needed: usize,
        /// Positions there are.
        capacity: usize,
    },
    /// More pages than the budget allows.
    #[error(
        "keys and values have used up their memory: {needed} pages of {PAGE} positions are needed, {free} of {budget} are \
         free; close sequences, or raise the budget"
    )]
    NoPages {
        /// Pages that the step needs.
        needed: usize,
        /// Pages that nobody uses.
        free: usize,
        /// Pages there may be.
        budget: usize,
    },
}

/// Pages of a pool, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// Pages that sequences hold, each counted once.
    pub in_use: usize,
    /// Of those, pages that several sequences hold.
    pub shared: usize,
    /// Pages that have memory and are held by nobody: the next ones to be given out.
    pub free: usize,
    /// Pages there may be; `None` for as many as memory has room for.
    pub budget: Option<usize>,
    /// Bytes of one page.
    pub page_bytes: usize,
}

/// The memory behind page numbers, which a device has.
pub trait PageStore {
    /// Makes one page more; its number is how many there were.
    ///
    /// # Errors
    /// When there is no memory.
    fn add(&mut self) -> Result<(), DeviceError>;

    /// Copies a page's keys and values.
    ///
    /// # Errors
    /// When the device fails.
    fn copy(&mut self, from: PageId, to: PageId) -> Result<(), DeviceError>;
}

/// So many pages are counted without an allocation beside their own memory; more grow the lists now and then.
const FEW_PAGES: usize = 1024;

/// What is known of one sequence.
#[derive(Default)]
struct Sequence {
    /// How often this slot has been opened; `SequenceId`s of earlier times are refused.
    opened: u32,
    open: bool,
    pages: Vec<PageId>,
    len: usize,
}

/// The open sequences of a model and the pages they hold.
pub struct Sequences {
    /// Tells its sequences from those of another model.
    book: u32,
    slots: Vec<Sequence>,
    closed: Vec<u32>,
    /// How many sequences hold each page.
    holders: Vec<u32>,
    free: Vec<PageId>,
    budget: Option<usize>,
    page_bytes: usize,
    capacity: usize,
    step: Step,
}

/// A [`Batch`]'s lists, kept so that a step allocates nothing.
#[derive(Default)]
struct Step {
    places: Vec<Place>,
    pages: Vec<PageId>,
    outputs: Vec<u32>,
}

impl Sequences {
    /// None yet. A sequence holds up to `capacity` positions; all together hold up to `budget` bytes, a page taking
    /// `page_bytes`.
    pub fn new(capacity: usize, page_bytes: usize, budget: Option<usize>) -> Self {
        static BOOKS: AtomicU32 = AtomicU32::new(0);
        Self {
            book: BOOKS.fetch_add(1, Ordering::Relaxed),
            slots: Vec::new(),
            closed: Vec::new(),
            holders: Vec::with_capacity(FEW_PAGES),
            free: Vec::with_capacity(FEW_PAGES),
            budget: budget.map(|bytes| bytes / page_bytes.max(1)),
            page_bytes,
            capacity,
            step: Step { pages: Vec::with_capacity(FEW_PAGES), ..Step::default() },
        }
    }

    /// Positions that a sequence may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.slots.len() - self.closed.len()
    }

    /// Opens an empty sequence.
    pub fn open(&mut self) -> SequenceId {
        let slot = self.closed.pop().unwrap_or_else(|| {
            self.slots.push(Sequence::default());
            self.slots.len() as u32 - 1
        });
        let sequence = &mut self.slots[slot as usize];
        sequence.opened = sequence.opened.wrapping_add(1);
        sequence.open = true;
        // So that a step which enters a page allocates nothing beside it; more than this grows when it is needed.
        sequence.pages.reserve(self.capacity.div_ceil(PAGE).min(FEW_PAGES));
        SequenceId { book: self.book, slot, opened: sequence.opened }
    }

    /// Opens a sequence that holds the first `at` positions of `id`, at most all of them. It shares their pages; whoever
    /// continues inside a shared page gets a copy of it first.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn fork(&mut self, id: SequenceId, at: usize) -> Result<SequenceId, SequenceError> {
        let from = self.get(id)?;
        let len = at.min(from.len);
        let pages = from.pages[..len.div_ceil(PAGE)].to_vec();
        for page in &pages {
            self.holders[page.0 as usize] += 1;
        }
        let fork = self.open();
        let sequence = &mut self.slots[fork.slot as usize];
        sequence.pages.extend_from_slice(&pages);
        sequence.len = len;
        Ok(fork)
    }

    /// Closes a sequence: its pages are others' now. One that is closed already stays so.
    pub fn close(&mut self, id: SequenceId) {
        if self.get(id).is_err() {
            return;
        }
        self.give_back(id.slot, 0);
        let sequence = &mut self.slots[id.slot as usize];
        (sequence.open, sequence.len) = (false, 0);
        self.closed.push(id.slot);
    }

    /// Forgets all positions from `len` on and gives back the pages that held none before.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), SequenceError> {
        let len = len.min(self.get(id)?.len);
        self.slots[id.slot as usize].len = len;
        self.give_back(id.slot, len.div_ceil(PAGE));
        Ok(())
    }

    /// Positions that a sequence holds.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn len(&self, id: SequenceId) -> Result<usize, SequenceError> {
        Ok(self.get(id)?.len)
    }

    /// What the pages are used for.
    pub fn pages(&self) -> PageUse {
        PageUse {
            in_use: self.holders.len() - self.free.len(),
            shared: self.holders.iter().filter(|&&holders| holders > 1).count(),
            free: self.free.len(),
            budget: self.budget,
            page_bytes: self.page_bytes,
        }
    }

    /// Gives every span the pages that it writes to, its own ones, and says where its tokens stand. The sequences hold
    /// the new positions once [`Sequences::commit`] says so; [`Sequences::abandon`] makes them as they were.
    ///
    /// # Errors
    /// When a sequence is closed, named twice or full, or pages run out: nothing has changed then.
    ///
    /// # Panics
    /// When the spans do not add up to `ids`.
    pub fn plan<E: From<SequenceError> + From<DeviceError>>(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        store: &mut impl PageStore,
    ) -> Result<(), E> {
        assert_eq!(ids.len(), spans.iter().map(|s| s.tokens).sum::<usize>(), "spans and ids disagree");
        // A step that panicked has left pages without positions.
        for span in spans {
            if let Ok(kept) = self.get(span.sequence).map(|s| s.len.div_ceil(PAGE)) {
                self.give_back(span.sequence.slot, kept);
            }
        }
        self.check(spans)?;
        let taken = spans.iter().try_for_each(|span| self.take_pages(span, store));
        if let Err(error) = taken {
            self.abandon(spans);
            return Err(error.into());
        }
        let Self { slots, step, .. } = self;
        step.places.clear();
        step.pages.clear();
        step.outputs.clear();
        let mut row = 0;
        for span in spans {
            let sequence = &slots[span.sequence.slot as usize];
            let table = step.pages.len();
            step.places.push(Place { row, tokens: span.tokens, position: sequence.len, table });
            step.pages.extend_from_slice(&sequence.pages);
            row += span.tokens;
            step.outputs.extend((row - span.outputs()..row).map(|row| row as u32));
        }
        Ok(())
    }

    /// The batch that [`Sequences::plan`] has planned for `ids`.
    pub fn batch<'a>(&'a self, ids: &'a [u32]) -> Batch<'a> {
        let Step { places, pages, outputs } = &self.step;
        Batch { ids, places, pages, outputs }
    }

    /// All blocks have seen the spans: their sequences hold them now.
    pub fn commit(&mut self, spans: &[Span]) {
        for span in spans {
            self.slots[span.sequence.slot as usize].len += span.tokens;
        }
    }

    /// Gives back the pages that [`Sequences::plan`] has taken for positions that nobody holds.
    pub fn abandon(&mut self, spans: &[Span]) {
        for span in spans {
            let kept = self.slots[span.sequence.slot as usize].len.div_ceil(PAGE);
            self.give_back(span.sequence.slot, kept);
        }
    }

    fn get(&self, id: SequenceId) -> Result<&Sequence, SequenceError> {
        let sequence = self
            .slots
            .get(id.slot as usize)
            .filter(|s| s.open && s.opened == id.opened && id.book == self.book);
        sequence.ok_or(SequenceError::Closed)
    }

    /// Everything that can be said against the spans before anything is done.
    fn check(&self, spans: &[Span]) -> Result<(), SequenceError> {
        let mut needed = 0;
        for (i, span) in spans.iter().enumerate() {
            let sequence = self.get(span.sequence)?;
            if spans[..i].iter().any(|other| other.sequence == span.sequence) {
                return Err(SequenceError::Twice);
            }
            if span.tokens > self.capacity - sequence.len {
                let (needed, capacity) = (sequence.len.saturating_add(span.tokens), self.capacity);
                return Err(SequenceError::ContextFull { needed, capacity });
            }
            let whole = (sequence.len + span.tokens).div_ceil(PAGE);
            needed += whole - sequence.pages.len() + usize::from(self.copies(spans, i));
        }
        let Some(budget) = self.budget else { return Ok(()) };
        let free = budget.saturating_sub(self.holders.len()) + self.free.len();
        if needed > free { Err(SequenceError::NoPages { needed, free, budget }) } else { Ok(()) }
    }

    /// Whether span `i` needs a copy of the page that it begins in: all but the last holder do.
    fn copies(&self, spans: &[Span], i: usize) -> bool {
        let page = |span: &Span| {
            let at = self.writes_shared(span)?;
            Some(self.slots[span.sequence.slot as usize].pages[at])
        };
        let Some(shared) = page(&spans[i]) else { return false };
        let before = spans[..i].iter().filter(|other| page(other) == Some(shared)).count();
        before + 1 < self.holders[shared.0 as usize] as usize
    }

    /// Which of its sequence's pages a span begins in, when others hold that page too.
    fn writes_shared(&self, span: &Span) -> Option<usize> {
        let sequence = &self.slots[span.sequence.slot as usize];
        let first = sequence.len / PAGE;
        let page = sequence.pages.get(first).filter(|_| span.tokens > 0)?;
        (self.holders[page.0 as usize] > 1).then_some(first)
    }

    /// A page of its own where the span begins inside a shared one, and empty ones behind.
    fn take_pages(&mut self, span: &Span, store: &mut impl PageStore) -> Result<(), DeviceError> {
        let slot = span.sequence.slot as usize;
        if let Some(at) = self.writes_shared(span) {
            let own = self.take_page(store)?;
            let shared = std::mem::replace(&mut self.slots[slot].pages[at], own);
            if let Err(error) = store.copy(shared, own) {
                self.slots[slot].pages[at] = shared;
                self.release(own);
                return Err(error);
            }
            self.release(shared);
        }
        let Sequence { len, ref pages, .. } = self.slots[slot];
        for _ in pages.len()..(len + span.tokens).div_ceil(PAGE) {
            let page = self.take_page(store)?;
            self.slots[slot].pages.push(page);
        }
        Ok(())
    }

    fn take_page(&mut self, store: &mut impl PageStore) -> Result<PageId, DeviceError> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => {
                store.add()?;
                self.holders.push(0);
                PageId(self.holders.len() as u32 - 1)
            }
        };
        self.holders[page.0 as usize] = 1;
        Ok(page)
    }

    /// Takes all pages but the first `kept` from a sequence.
    fn give_back(&mut self, slot: u32, kept: usize) {
        while self.slots[slot as usize].pages.len() > kept {
            if let Some(page) = self.slots[slot as usize].pages.pop() {
                self.release(page);
            }
        }
    }

    /// One holder fewer.
    fn release(&mut self, page: PageId) {
        let holders = &mut self.holders[page.0 as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }
}
