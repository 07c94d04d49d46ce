//! The recurrent states that one sequence holds: behind its last position, and behind a few earlier ones that it can return to.

use crate::StateId;

/// Earlier states that a sequence keeps, the newest ones: each costs the memory of a whole state.
pub(crate) const KEPT: usize = 2;

/// A state, and behind how many positions it stands.
#[derive(Clone, Copy)]
struct Behind {
    positions: usize,
    state: StateId,
    /// Whether it stays when the sequence goes on.
    kept: bool,
}

/// A sequence's states in the order of their positions. The last one stands behind all positions.
#[derive(Default)]
pub(crate) struct States(Vec<Behind>);

impl States {
    /// Room for as many as it may hold.
    pub(crate) fn reserve(&mut self) {
        self.0.reserve(KEPT + 2);
    }

    /// The one that the next position continues.
    pub(crate) fn last(&self) -> Option<StateId> {
        self.0.last().map(|behind| behind.state)
    }

    /// The most of `positions` that can be returned to.
    pub(crate) fn reach(&self, positions: usize) -> usize {
        self.0.iter().rev().find(|behind| behind.positions <= positions).map_or(0, |behind| behind.positions)
    }

    /// The one behind `positions`.
    pub(crate) fn behind(&self, positions: usize) -> Option<StateId> {
        self.0.iter().find(|behind| behind.positions == positions).map(|behind| behind.state)
    }

    /// Lets the last one stay when the sequence goes on. Where that is one too many, the oldest kept one goes.
    pub(crate) fn keep(&mut self, mut release: impl FnMut(StateId)) {
        let Some(last) = self.0.last_mut() else { return };
        last.kept = true;
        if self.0.len() > KEPT {
            release(self.0.remove(0).state);
        }
    }

    /// Puts the state behind `positions` last; the one before goes unless it is kept.
    pub(crate) fn push(&mut self, positions: usize, state: StateId, mut release: impl FnMut(StateId)) {
        if let Some(last) = self.0.pop_if(|last| !last.kept) {
            release(last.state);
        }
        self.0.push(Behind { positions, state, kept: false });
    }

    /// Lets all go that stand behind more than `positions`.
    pub(crate) fn truncate(&mut self, positions: usize, mut release: impl FnMut(StateId)) {
        while let Some(last) = self.0.pop_if(|last| last.positions > positions) {
            release(last.state);
        }
    }
}
