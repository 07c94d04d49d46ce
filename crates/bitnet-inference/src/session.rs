//! A sequence of tokens that is continued.

use std::sync::PoisonError;

use bitnet_device::{Choose, Observe, Output, SequenceId, Span};

use crate::{Choices, EngineError, InferenceEngine, Turn, prompt};

impl InferenceEngine {
    /// An empty session. It takes pages of keys and values as it grows, and gives them back when it is dropped.
    ///
    /// # Errors
    /// When memory is short.
    pub fn session(&self) -> Result<Session, EngineError> {
        Session::new(self)
    }
}

/// One sequence: its tokens, whose keys and values the engine keeps.
pub struct Session {
    engine: InferenceEngine,
    sequence: SequenceId,
    /// What the sequence holds.
    tokens: Vec<u32>,
    prefill: usize,
    /// Tokens of a step.
    ids: Vec<u32>,
    /// Logits that were asked for, `[vocab]`; empty until then.
    logits: Vec<f32>,
}

impl Session {
    pub(crate) fn new(engine: &InferenceEngine) -> Result<Self, EngineError> {
        let mut tokens = Vec::new();
        reserve(&mut tokens, engine.context())?;
        Ok(Self::of(engine, engine.runs().open(), tokens, engine.inner.prefill))
    }

    fn of(engine: &InferenceEngine, sequence: SequenceId, tokens: Vec<u32>, prefill: usize) -> Self {
        let ids = Vec::with_capacity(prefill);
        Self { engine: engine.clone(), sequence, tokens, prefill, ids, logits: Vec::new() }
    }

    /// A session of its own that holds the first `len` tokens of this one, or as many as [`Session::truncate`] would leave. It
    /// shares their memory; whatever either does afterwards, the other does not notice.
    ///
    /// # Errors
    /// When memory is short.
    pub fn fork(&self, len: usize) -> Result<Self, EngineError> {
        let mut tokens = Vec::new();
        reserve(&mut tokens, self.context())?;
        let sequence = self.engine.runs().fork(self.sequence, len)?;
        tokens.extend_from_slice(&self.tokens[..self.engine.runs().len(sequence)?]);
        Ok(Self::of(&self.engine, sequence, tokens, self.prefill))
    }

    /// The engine it belongs to.
    pub fn engine(&self) -> &InferenceEngine {
        &self.engine
    }

    /// Tokens whose keys and values it holds.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Positions there is room for.
    pub fn context(&self) -> usize {
        self.engine.context()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Forgets tokens until at most `len` are left, and returns how many are: `len`, unless the model has recurrent blocks. Those
    /// go back only to where a prompt began or ended, of the last two such places, or to the very beginning; the tokens
    /// between have to be fed again.
    pub fn truncate(&mut self, len: usize) -> usize {
        let truncated = self.engine.runs().truncate(self.sequence, len);
        debug_assert!(truncated.is_ok(), "a session's sequence is open as long as the session");
        self.tokens.truncate(truncated.unwrap_or(0));
        self.len()
    }

    /// Lets the session go back to where it is now.
    fn keep(&self) {
        let kept = self.engine.runs().keep(self.sequence);
        debug_assert!(kept.is_ok(), "a session's sequence is open as long as the session");
    }

    /// Sets how many tokens of a prompt go through the model at once, from 1 to what the session was opened with. Results do
    /// not depend on it.
    pub fn set_prefill(&mut self, tokens: usize) {
        self.prefill = tokens.clamp(1, self.engine.inner.prefill);
    }

    /// Appends tokens and returns the logits behind the last one, `[vocab]`.
    ///
    /// # Errors
    /// For an id outside the vocabulary, or when the context is full: the session is then as it was.
    pub fn feed(&mut self, ids: &[u32]) -> Result<&[f32], EngineError> {
        self.feed_and_look(ids, None)
    }

    /// [`Session::feed`], with a look at the rows of the stages that `observer` wants, step by step. An observer must not ask
    /// the engine or its sessions for anything: they are in the middle of a step.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_observed(&mut self, ids: &[u32], observer: &mut dyn Observe) -> Result<&[f32], EngineError> {
        self.feed_and_look(ids, Some(observer))
    }

    fn feed_and_look(
        &mut self,
        ids: &[u32],
        mut observer: Option<&mut dyn Observe>,
    ) -> Result<&[f32], EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let (before, mut fed) = (self.len(), 0);
        if ids.len() > 1 {
            self.keep();
        }
        let mut logits = std::mem::take(&mut self.logits);
        let mut keep = |_: usize, row: &[f32]| {
            logits.clear();
            logits.extend_from_slice(row);
        };
        let mut result = Ok(());
        while result.is_ok() && fed < ids.len() {
            let (tokens, output) = prompt::cut(ids.len() - fed, self.prefill);
            let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn Observe);
            result = self.step(&ids[fed..fed + tokens], output, &mut keep, observer);
            fed += tokens;
        }
        self.logits = logits;
        if let Err(error) = result {
            self.truncate(before);
            return Err(error);
        }
        if ids.len() > 1 {
            self.keep();
        }
        Ok(&self.logits)
    }

    /// Appends tokens in one step.
    fn step(
        &mut self,
        ids: &[u32],
        output: Output,
        choose: &mut dyn Choose,
        observer: Option<&mut dyn Observe>,
    ) -> Result<(), EngineError> {
        let span = Span { sequence: self.sequence, tokens: ids.len(), output };
        self.engine.runs().step(ids, &[span], choose, observer)?;
        self.tokens.extend_from_slice(ids);
        Ok(())
    }

    /// Feeds what a turn waits for, up to the choice of its next token.
    pub(crate) fn feed_turn(&mut self, turn: &mut Turn) -> Result<(), EngineError> {
        let before = self.len();
        // One token is one step, which leaves everything as it was where it fails.
        let is_prompt = turn.pending().len() > 1;
        if is_prompt {
            self.keep();
        }
        let engine = self.engine.clone();
        let mut ids = std::mem::take(&mut self.ids);
        let mut result = Ok(());
        while result.is_ok() && !turn.pending().is_empty() {
            let (tokens, output) = prompt::cut(turn.pending().len(), self.prefill);
            ids.clear();
            ids.extend_from_slice(&turn.pending()[..tokens]);
            let turns = std::slice::from_mut(turn);
            // Once a step, so that other sessions' steps come between those of a long prompt.
            let mut memory = engine.inner.sampling.lock().unwrap_or_else(PoisonError::into_inner);
            let mut choices = Choices { turns, outputs: &[0], memory: &mut memory };
            result = self.step(&ids, output, &mut choices, None);
            drop(memory);
            if result.is_ok() {
                turn.fed(tokens);
            }
        }
        self.ids = ids;
        if result.is_err() {
            self.truncate(before);
            return result;
        }
        if is_prompt {
            self.keep();
        }
        turn.refusal().map_or(Ok(()), Err)
    }

    /// Keeps what the session's tokens and `ids` have in common at their beginning, as far as [`Session::truncate`] can go back
    /// to it, forgets the rest, and returns how many tokens are kept. The last of `ids` is never kept, so that feeding the others gives its logits: a conversation
    /// is continued without computing its beginning again.
    pub fn keep_prefix(&mut self, ids: &[u32]) -> usize {
        self.truncate(prompt::kept(&self.tokens, ids))
    }

    /// Appends tokens and calls `visit` with the logits behind each, `[vocab]`, in order. `visit` must not ask the engine or its
    /// sessions for anything: they are in the middle of a step.
    ///
    /// # Errors
    /// As [`Session::feed`]; tokens before the failing batch stay.
    pub fn logits(&mut self, ids: &[u32], mut visit: impl FnMut(&[f32])) -> Result<(), EngineError> {
        for part in ids.chunks(self.prefill) {
            self.step(part, Output::All, &mut |_: usize, logits: &[f32]| visit(logits), None)?;
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.engine.runs().close(self.sequence);
    }
}

/// Room for the ids of a whole context, so that a generated token allocates nothing.
fn reserve(tokens: &mut Vec<u32>, context: usize) -> Result<(), EngineError> {
    tokens.try_reserve_exact(context).map_err(|_| EngineError::ContextTooLarge { context })
}
