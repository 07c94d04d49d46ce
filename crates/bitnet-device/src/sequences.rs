//! Which pages and states hold what is kept of which sequence. Kept by the host; devices know places only.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{
    Batch, DeviceError, PAGE, PageId, PageUse, Place, Recurrence, SequenceError, SequenceId, Span, StateId,
    counted::{Counted, FEW},
    states::States,
};

/// The memory behind the numbers of pages and states, which a device has.
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

    /// Makes one recurrent state more; its number is how many there were.
    ///
    /// # Errors
    /// When there is no memory.
    fn add_state(&mut self) -> Result<(), DeviceError>;
}

/// Sizes of what sequences hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceSizes {
    /// Positions that a sequence may hold.
    pub capacity: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Bytes of a recurrent state; 0 for a model that has none.
    pub state_bytes: usize,
    /// Bytes that the pages and states that sequences hold may take, free ones that keep their memory not counted; as many as memory has room for when `None`.
    pub budget: Option<usize>,
}

/// What is known of one sequence.
#[derive(Default)]
struct Sequence {
    /// How often this slot has been opened; `SequenceId`s of earlier times are refused.
    opened: u32,
    open: bool,
    pages: Vec<PageId>,
    states: States,
    len: usize,
}

/// The open sequences of a model, and the pages and states they hold.
pub struct Sequences {
    /// Tells its sequences from those of another model.
    book: u32,
    slots: Vec<Sequence>,
    closed: Vec<u32>,
    pages: Counted,
    states: Counted,
    sizes: SequenceSizes,
    step: Step,
}

/// A [`Batch`]'s lists, kept so that a step allocates nothing.
#[derive(Default)]
struct Step {
    places: Vec<Place>,
    pages: Vec<PageId>,
    outputs: Vec<u32>,
    /// The states that the step writes, which no sequence holds yet: one for each span that has tokens.
    states: Vec<StateId>,
}

impl Sequences {
    /// None yet.
    pub fn new(sizes: SequenceSizes) -> Self {
        static BOOKS: AtomicU32 = AtomicU32::new(0);
        Self {
            book: BOOKS.fetch_add(1, Ordering::Relaxed),
            slots: Vec::new(),
            closed: Vec::new(),
            pages: Counted::new(),
            states: Counted::new(),
            sizes,
            step: Step { pages: Vec::with_capacity(FEW), ..Step::default() },
        }
    }

    /// Positions that a sequence may hold.
    pub fn capacity(&self) -> usize {
        self.sizes.capacity
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
        sequence.pages.reserve(self.sizes.capacity.div_ceil(PAGE).min(FEW));
        if self.sizes.state_bytes > 0 {
            sequence.states.reserve();
        }
        SequenceId { book: self.book, slot, opened: sequence.opened }
    }

    /// Opens a sequence that holds the first `at` positions of `id`, or as many of them as [`Sequences::truncate`] would leave.
    /// It shares their pages; whoever continues inside a shared page gets a copy of it first.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn fork(&mut self, id: SequenceId, at: usize) -> Result<SequenceId, SequenceError> {
        let len = self.reach(id, at)?;
        let from = self.get(id)?;
        let pages = from.pages[..len.div_ceil(PAGE)].to_vec();
        let state = from.states.behind(len);
        pages.iter().for_each(|page| self.pages.hold(page.0));
        if let Some(state) = state {
            self.states.hold(state.0);
        }
        let fork = self.open();
        let sequence = &mut self.slots[fork.slot as usize];
        sequence.pages.extend_from_slice(&pages);
        sequence.len = len;
        if let Some(state) = state {
            sequence.states.push(len, state, |_| ());
        }
        Ok(fork)
    }

    /// Closes a sequence: its pages are others' now. One that is closed already stays so.
    pub fn close(&mut self, id: SequenceId) {
        if self.get(id).is_err() {
            return;
        }
        self.cut(id.slot, 0);
        self.slots[id.slot as usize].open = false;
        self.closed.push(id.slot);
    }

    /// Forgets positions until at most `len` are left, gives back the pages that held none before, and returns how many are
    /// left: `len` itself, unless the model has recurrent blocks. They go back only to where a state was kept
    /// ([`Sequences::keep`]), or to the beginning.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<usize, SequenceError> {
        let len = self.reach(id, len)?;
        self.cut(id.slot, len);
        Ok(len)
    }

    /// Keeps the present state of the recurrent blocks, so that the sequence can be truncated to its present length later. A
    /// sequence keeps its newest few; a model without recurrent blocks needs none.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn keep(&mut self, id: SequenceId) -> Result<(), SequenceError> {
        self.get(id)?;
        let Self { slots, states, .. } = self;
        slots[id.slot as usize].states.keep(|state| states.release(state.0));
        Ok(())
    }

    /// Positions that a sequence holds.
    ///
    /// # Errors
    /// [`SequenceError::Closed`].
    pub fn len(&self, id: SequenceId) -> Result<usize, SequenceError> {
        Ok(self.get(id)?.len)
    }

    /// What pages and states are used for.
    pub fn pages(&self) -> PageUse {
        PageUse {
            in_use: self.pages.made() - self.pages.free(),
            shared: self.pages.shared(),
            free: self.pages.free(),
            budget: self.page_budget(self.states.made() - self.states.free()),
            page_bytes: self.sizes.page_bytes,
            states: self.states.made() - self.states.free(),
            free_states: self.states.free(),
            state_bytes: self.sizes.state_bytes,
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
        // A step that panicked has left pages without positions, and states without a sequence.
        self.abandon(spans);
        self.check(spans)?;
        let taken = spans.iter().try_for_each(|span| self.take(span, store));
        if let Err(error) = taken {
            self.abandon(spans);
            return Err(error.into());
        }
        let Self { slots, step, .. } = self;
        step.places.clear();
        step.pages.clear();
        step.outputs.clear();
        let (mut row, mut states) = (0, step.states.iter());
        for span in spans {
            let Sequence { len, pages, states: held, .. } = &slots[span.sequence.slot as usize];
            let to = if span.tokens > 0 { states.next() } else { None };
            let recurrence = to.map(|&to| Recurrence { from: held.last(), to });
            let table = step.pages.len();
            step.places.push(Place { row, tokens: span.tokens, position: *len, table, recurrence });
            step.pages.extend_from_slice(pages);
            row += span.tokens;
            step.outputs.extend((row - span.outputs()..row).map(|row| row as u32));
        }
        Ok(())
    }

    /// The batch that [`Sequences::plan`] has planned for `ids`.
    pub fn batch<'a>(&'a self, ids: &'a [u32]) -> Batch<'a> {
        let Step { places, pages, outputs, .. } = &self.step;
        Batch { ids, places, pages, outputs }
    }

    /// All blocks have seen the spans: their sequences hold them now.
    pub fn commit(&mut self, spans: &[Span]) {
        let Self { slots, states, step, .. } = self;
        for (span, place) in spans.iter().zip(&step.places) {
            let sequence = &mut slots[span.sequence.slot as usize];
            sequence.len += span.tokens;
            if let Some(Recurrence { to, .. }) = place.recurrence {
                sequence.states.push(sequence.len, to, |state| states.release(state.0));
            }
        }
        step.states.clear();
    }

    /// Gives back what [`Sequences::plan`] has taken for positions that nobody holds.
    pub fn abandon(&mut self, spans: &[Span]) {
        for span in spans {
            if let Ok(kept) = self.get(span.sequence).map(|s| s.len.div_ceil(PAGE)) {
                self.give_back(span.sequence.slot, kept);
            }
        }
        let Self { states, step, .. } = self;
        step.states.drain(..).for_each(|state| states.release(state.0));
    }

    fn get(&self, id: SequenceId) -> Result<&Sequence, SequenceError> {
        let sequence = self
            .slots
            .get(id.slot as usize)
            .filter(|s| s.open && s.opened == id.opened && id.book == self.book);
        sequence.ok_or(SequenceError::Closed)
    }

    /// How many of the first `len` positions of a sequence it can return to.
    fn reach(&self, id: SequenceId, len: usize) -> Result<usize, SequenceError> {
        let sequence = self.get(id)?;
        let len = len.min(sequence.len);
        Ok(if self.sizes.state_bytes > 0 { sequence.states.reach(len) } else { len })
    }

    /// Pages that the budget leaves beside so many states.
    fn page_budget(&self, states: usize) -> Option<usize> {
        let SequenceSizes { page_bytes, state_bytes, budget, .. } = self.sizes;
        Some(budget?.saturating_sub(states.saturating_mul(state_bytes)) / page_bytes.max(1))
    }

    /// Everything that can be said against the spans before anything is done.
    fn check(&self, spans: &[Span]) -> Result<(), SequenceError> {
        let (mut needed, mut states) = (0, 0);
        for (i, span) in spans.iter().enumerate() {
            let sequence = self.get(span.sequence)?;
            if spans[..i].iter().any(|other| other.sequence == span.sequence) {
                return Err(SequenceError::Twice);
            }
            let capacity = self.sizes.capacity;
            if span.tokens > capacity - sequence.len {
                let needed = sequence.len.saturating_add(span.tokens);
                return Err(SequenceError::ContextFull { needed, capacity });
            }
            let whole = (sequence.len + span.tokens).div_ceil(PAGE);
            needed += whole - sequence.pages.len() + usize::from(self.copies(spans, i));
            states += usize::from(self.takes_state(span));
        }
        let states = self.states.made() - self.states.free() + states;
        let Some(budget) = self.page_budget(states) else { return Ok(()) };
        let in_use = self.pages.made() - self.pages.free();
        let SequenceSizes { state_bytes, budget: Some(bytes), .. } = self.sizes else { return Ok(()) };
        if in_use + needed <= budget && states.saturating_mul(state_bytes) <= bytes {
            return Ok(());
        }
        let of_states = needed == 0 || states.saturating_mul(state_bytes) > bytes;
        Err(match of_states {
            true => SequenceError::NoStates { states, state_bytes, budget: bytes },
            false => SequenceError::NoPages { needed, free: budget.saturating_sub(in_use), budget },
        })
    }

    /// Whether a span needs a state to write.
    fn takes_state(&self, span: &Span) -> bool {
        self.sizes.state_bytes > 0 && span.tokens > 0
    }

    /// Whether span `i` needs a copy of the page that it begins in: all but the last holder do.
    fn copies(&self, spans: &[Span], i: usize) -> bool {
        let page = |span: &Span| {
            let at = self.writes_shared(span)?;
            Some(self.slots[span.sequence.slot as usize].pages[at])
        };
        let Some(shared) = page(&spans[i]) else { return false };
        let before = spans[..i].iter().filter(|other| page(other) == Some(shared)).count();
        before + 1 < self.pages.holders(shared.0)
    }

    /// Which of its sequence's pages a span begins in, when others hold that page too.
    fn writes_shared(&self, span: &Span) -> Option<usize> {
        let sequence = &self.slots[span.sequence.slot as usize];
        let first = sequence.len / PAGE;
        let page = sequence.pages.get(first).filter(|_| span.tokens > 0)?;
        (self.pages.holders(page.0) > 1).then_some(first)
    }

    /// A page of its own where the span begins inside a shared one, empty ones behind, and a state to write.
    fn take(&mut self, span: &Span, store: &mut impl PageStore) -> Result<(), DeviceError> {
        let slot = span.sequence.slot as usize;
        if let Some(at) = self.writes_shared(span) {
            let own = PageId(self.pages.take(|| store.add())?);
            let shared = std::mem::replace(&mut self.slots[slot].pages[at], own);
            if let Err(error) = store.copy(shared, own) {
                self.slots[slot].pages[at] = shared;
                self.pages.release(own.0);
                return Err(error);
            }
            self.pages.release(shared.0);
        }
        let Sequence { len, ref pages, .. } = self.slots[slot];
        for _ in pages.len()..(len + span.tokens).div_ceil(PAGE) {
            let page = PageId(self.pages.take(|| store.add())?);
            self.slots[slot].pages.push(page);
        }
        if self.takes_state(span) {
            self.step.states.push(StateId(self.states.take(|| store.add_state())?));
        }
        Ok(())
    }

    /// Leaves the first `len` positions of a sequence, which it can return to.
    fn cut(&mut self, slot: u32, len: usize) {
        self.give_back(slot, len.div_ceil(PAGE));
        let Self { slots, states, .. } = self;
        let sequence = &mut slots[slot as usize];
        sequence.len = len;
        sequence.states.truncate(len, |state| states.release(state.0));
    }

    /// Takes all pages but the first `kept` from a sequence.
    fn give_back(&mut self, slot: u32, kept: usize) {
        while self.slots[slot as usize].pages.len() > kept {
            if let Some(page) = self.slots[slot as usize].pages.pop() {
                self.pages.release(page.0);
            }
        }
    }
}
