//! Final norm and head: all logits, or those that matter.

use super::{Logits, Model, State};
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

    /// [`Model::forward`] with the logits behind the last token of each span as far as `needs`, one for each span, ask
    /// for them: [`Model::outcome`] has them until the next call. What is told is bit-equal to what `forward` gives.
    ///
    /// # Errors
    /// As [`Model::forward`].
    ///
    /// # Panics
    /// As [`Model::forward`], and when there is not one need for each span.
    pub fn forward_support(
        &self,
        state: &mut State<B>,
        ids: &[u32],
        spans: &mut [Span<'_, B::Kv>],
        needs: &[Need<'_>],
        mut observe: impl FnMut(Stage, &[f32]),
    ) -> Result<(), ModelError> {
        assert_eq!(spans.len(), needs.len(), "one need for each span");
        self.blocks(state, ids, spans, &mut observe)?;
        let rows = self.final_norm(state, ids.len(), spans, Logits::Last, &mut observe);
        (state.rows, state.full) = (rows, false);
        let found = match (&self.weights.screen, &mut state.screened) {
            (Some(screen), Some(s)) if rows <= s.positions => {
                self.backend.find(screen, self.head_matrix(), &state.x.rows, needs, &mut s.room)
            }
            _ => {
                state.screened_rows = 0;
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

    /// What the last [`Model::forward_support`] gave for a span.
    ///
    /// # Panics
    /// When there was no such span.
    pub fn outcome<'s>(&self, state: &'s State<B>, span: usize) -> Outcome<'s> {
        assert!(span < state.rows, "span {span} of {}", state.rows);
        let screened = state.screened.as_ref().filter(|_| span < state.screened_rows);
        match screened.and_then(|s| self.backend.support(&s.room, span)) {
            Some(support) => Outcome::Part(support),
            None => {
                let vocab = self.config.vocab;
                Outcome::All(&self.backend.read(&state.logits, state.rows)[span * vocab..][..vocab])
            }
        }
    }

    /// All logits behind the spans of the last [`Model::forward_support`], `[spans, vocab]`: for a caller to whom the part
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
        tokens: usize,
        spans: &[Span<'_, B::Kv>],
        logits: Logits,
        observe: &mut impl FnMut(Stage, &[f32]),
    ) -> &'s [f32] {
        if logits == Logits::None {
            return &[];
        }
        let rows = self.final_norm(s, tokens, spans, logits, observe);
        (s.rows, s.full, s.screened_rows) = (rows, true, 0);
        self.multiply_head(s, rows);
        self.backend.read(&s.logits, rows)
    }

    /// Leaves the rows that the head reads in `s.x`; returns how many they are.
    fn final_norm(
        &self,
        s: &mut State<B>,
        tokens: usize,
        spans: &[Span<'_, B::Kv>],
        logits: Logits,
        observe: &mut impl FnMut(Stage, &[f32]),
    ) -> usize {
        let b = &self.backend;
        let rows = if logits == Logits::Last {
            b.last_rows(&s.h, spans, &mut s.x.rows);
            std::mem::swap(&mut s.h, &mut s.x.rows);
            spans.len()
        } else {
            tokens
        };
        assert!(rows <= s.logits_capacity, "{rows} rows of logits exceed the state's {}", s.logits_capacity);
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
