//! Final norm and head: all logits, or those that matter.

use super::{Model, State};
use crate::{Backend, ModelError, Need, Outcome, ScreenCounts, Span, Stage, backend::Job};

/// The screened head's part of a [`State`].
pub(super) struct Screened<B: Backend> {
    room: B::ScreenRoom,
    positions: usize,
}

impl<B: Backend> Model<B> {
    /// The same buffers with room for the logits in part of up to `positions` positions. Without it, or where the model
    /// has no screen, [`Model::forward_support`] computes heads in full.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn with_support(&self, state: State<B>, positions: usize) -> Result<State<B>, ModelError> {
        let screened = match &self.weights.screen {
            Some(screen) => Some(Screened { room: self.backend.screen_room(screen, positions)?, positions }),
            None => None,
        };
        Ok(State { screened, ..state })
    }

    /// [`Model::forward`] with logits as far as `needs`, one for each position that the spans want logits of, ask for them:
    /// [`Model::outcome`] has them until the next call. What is told is bit-equal to what `forward` gives.
    ///
    /// # Errors
    /// As [`Model::forward`].
    ///
    /// # Panics
    /// As [`Model::forward`], and when there is not one need for each such position.
    pub fn forward_support(
        &self,
        state: &mut State<B>,
        ids: &[u32],
        spans: &mut [Span<'_, B::Kv>],
        needs: &[Need<'_>],
        mut observe: impl FnMut(Stage, &[f32]),
    ) -> Result<(), ModelError> {
        let outputs: usize = spans.iter().map(Span::outputs).sum();
        assert_eq!(needs.len(), outputs, "one need for each position that gets logits");
        self.blocks(state, ids, spans, &mut observe)?;
        let rows = self.final_norm(state, spans, &mut observe);
        (state.rows, state.full, state.screened_rows) = (rows, rows == 0, 0);
        if rows == 0 {
            return Ok(());
        }
        let found = match (&self.weights.screen, &mut state.screened) {
            (Some(screen), Some(s)) if rows <= s.positions => {
                self.backend.find(screen, self.head_matrix(), &state.x.rows, needs, &mut s.room)
            }
            _ => {
                self.complete(state);
                return Ok(());
            }
        };
        state.screened_rows = rows;
        if !found {
            self.complete(state);
        }
        Ok(())
    }

    /// What the last [`Model::forward_support`] gave for one of the positions that get logits, in their order.
    ///
    /// # Panics
    /// When there was no such position.
    pub fn outcome<'s>(&self, state: &'s State<B>, position: usize) -> Outcome<'s> {
        assert!(position < state.rows, "position {position} of {}", state.rows);
        let screened = state.screened.as_ref().filter(|_| position < state.screened_rows);
        match screened.and_then(|s| self.backend.support(&s.room, position)) {
            Some(support) => Outcome::Part(support),
            None => {
                let vocab = self.config.vocab;
                Outcome::All(&self.backend.read(&state.logits, state.rows)[position * vocab..][..vocab])
            }
        }
    }

    /// All logits of the last [`Model::forward_support`], `[positions, vocab]`: for a caller to whom the part
    /// was not enough.
    pub fn complete<'s>(&self, state: &'s mut State<B>) -> &'s [f32] {
        if !state.full {
            self.multiply_head(state, state.rows);
            state.full = true;
        }
        self.backend.read(&state.logits, state.rows)
    }

    /// How often the screen was enough in this state.
    pub fn screen_counts(&self, state: &State<B>) -> ScreenCounts {
        state.screened.as_ref().map_or(ScreenCounts::default(), |s| self.backend.screen_counts(&s.room))
    }

    fn head_matrix(&self) -> &B::Matrix {
        self.weights.head.as_ref().unwrap_or(&self.weights.embedding)
    }

    /// Final norm and head, for the positions asked for.
    pub(super) fn head<'s>(
        &self,
        s: &'s mut State<B>,
        spans: &[Span<'_, B::Kv>],
        observe: &mut impl FnMut(Stage, &[f32]),
    ) -> &'s [f32] {
        let rows = self.final_norm(s, spans, observe);
        (s.rows, s.full, s.screened_rows) = (rows, true, 0);
        if rows > 0 {
            self.multiply_head(s, rows);
        }
        self.backend.read(&s.logits, rows)
    }

    /// Leaves the rows that the head reads in `s.x`; returns how many they are.
    fn final_norm(
        &self,
        s: &mut State<B>,
        spans: &[Span<'_, B::Kv>],
        observe: &mut impl FnMut(Stage, &[f32]),
    ) -> usize {
        let b = &self.backend;
        let rows: usize = spans.iter().map(Span::outputs).sum();
        assert!(rows <= s.logits_capacity, "{rows} rows of logits exceed the state's {}", s.logits_capacity);
        if rows == 0 {
            return 0;
        }
        if spans.iter().any(|span| span.outputs() < span.tokens) {
            b.output_rows(&s.h, spans, s.x.fresh());
            std::mem::swap(&mut s.h, &mut s.x.rows);
        }
        b.rms_norm(&s.h, rows, &self.weights.final_norm, self.config.norm_eps, s.x.fresh());
        observe(Stage::FinalNorm, b.read(&s.x.rows, rows));
        rows
    }

    fn multiply_head(&self, s: &mut State<B>, rows: usize) {
        let (b, form) = (&self.backend, self.weights.head_form);
        s.x.quantize(b, rows, form);
        let job = Job { weight: self.head_matrix(), bias: None, out: &mut s.logits };
        b.project(&s.x.rows, &s.x.codes, form, rows, &mut [job]);
    }
}
