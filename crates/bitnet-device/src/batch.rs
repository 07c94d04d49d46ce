//! The tokens of one step, and where each of them stands.

use crate::{PageId, SequenceId, StateId};

/// Which positions of a span get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// None: the tokens only fill the sequence.
    None,
    /// The last.
    Last,
    /// Every one.
    All,
}

/// The next tokens of one sequence, as its share of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The sequence that they continue.
    pub sequence: SequenceId,
    /// How many of the step's tokens.
    pub tokens: usize,
    /// Which of them get logits.
    pub output: Output,
}

impl Span {
    /// How many of its positions get logits.
    pub fn outputs(&self) -> usize {
        match self.output {
            Output::None => 0,
            Output::Last => self.tokens.min(1),
            Output::All => self.tokens,
        }
    }
}

/// Between which states a span's tokens lead the recurrent blocks. A state is never written after its step, so that it can be
/// shared, returned to, and kept where a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// Behind the positions before the span; `None` for an empty sequence, whose state is zeros.
    pub from: Option<StateId>,
    /// Behind the span.
    pub to: StateId,
}

/// Where a span's tokens stand: in the batch, in their sequence, and in the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Row of its first token in the batch.
    pub row: usize,
    /// How many tokens.
    pub tokens: usize,
    /// Position of the first in its sequence.
    pub position: usize,
    /// Where the numbers of its sequence's pages begin in [`Batch::pages`].
    pub table: usize,
    /// Its states, in a model that has recurrent blocks; `None` also for a span without tokens.
    pub recurrence: Option<Recurrence>,
}

impl Place {
    /// The part of it in the rows `first .. end` of the batch, if there is one.
    pub fn within(&self, first: usize, end: usize) -> Option<Self> {
        let (from, to) = (first.max(self.row), end.min(self.row + self.tokens));
        (from < to).then(|| Self {
            row: from,
            tokens: to - from,
            position: self.position + from - self.row,
            ..*self
        })
    }
}

/// One step's tokens, as a device needs to know them: data that is uploaded once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// Token ids, span after span.
    pub ids: &'a [u32],
    /// Every span, in the order of the rows.
    pub places: &'a [Place],
    /// Numbers of the pages of every sequence: enough for the positions that the step adds.
    pub pages: &'a [PageId],
    /// Rows that get logits, rising.
    pub outputs: &'a [u32],
}

impl<'a> Batch<'a> {
    /// Tokens of the longest span.
    pub fn longest(&self) -> usize {
        self.places.iter().map(|place| place.tokens).max().unwrap_or(0)
    }

    /// The spans, in parts, that the rows `first .. end` consist of.
    pub fn within(&self, first: usize, end: usize) -> impl Iterator<Item = Place> + use<'a> {
        // The first span that ends behind `first` has it; spans without tokens may stand between those that follow.
        let skipped = self.places.partition_point(|place| place.row + place.tokens <= first);
        let reached = self.places[skipped..].iter().take_while(move |place| place.row < end);
        reached.filter_map(move |place| place.within(first, end))
    }

    /// The page of positions `page * PAGE ..` of a span's sequence.
    pub fn page(&self, place: &Place, page: usize) -> PageId {
        self.pages[place.table + page]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_their_spans_past_empty_ones() {
        let place = |row, tokens, position| Place { row, tokens, position, table: 0, recurrence: None };
        let places = [place(0, 0, 9), place(0, 2, 7), place(2, 0, 5), place(2, 3, 255), place(5, 0, 1)];
        let batch = Batch { ids: &[0; 5], places: &places, ..Batch::default() };
        let rows =
            |first, end| batch.within(first, end).map(|p| (p.row, p.tokens, p.position)).collect::<Vec<_>>();
        assert_eq!(rows(0, 5), [(0, 2, 7), (2, 3, 255)]);
        assert_eq!(rows(1, 4), [(1, 1, 8), (2, 2, 255)]);
        assert_eq!(rows(4, 9), [(4, 1, 257)]);
        assert_eq!(rows(5, 9), []);
        assert_eq!(batch.longest(), 3);
    }
}
