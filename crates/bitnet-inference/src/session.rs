//! A sequence of tokens and the buffers to continue it.

use bitnet_model::{Backend, Cpu, Outcome, Output, ScreenCounts, Sequence, Span, Stage, State};

use crate::{EngineError, GenerateOptions, Generation, InferenceEngine, Sampler, TokenLogprobs};

/// Tokens of a prompt that go through the model at once when nobody has measured. Enough to reuse weights from cache, little enough that
/// activations stay a small part of the weights' memory.
pub const PREFILL: usize = 128;
/// Positions whose logits are made at once when all are wanted.
const LOGITS: usize = 16;

/// One sequence: its tokens, their keys and values, and all buffers that continuing it takes.
pub struct Session {
    pub(crate) engine: InferenceEngine,
    sequence: Sequence<<Cpu as Backend>::Kv>,
    state: State<Cpu>,
    /// What the cache holds.
    tokens: Vec<u32>,
    pub(crate) sampler: Sampler,
    prefill: usize,
    /// Positions whose screened logits did not prove the sampler's choice.
    unproven: u64,
}

impl Session {
    pub(crate) fn new(engine: &InferenceEngine) -> Result<Self, EngineError> {
        let (model, context) = (&engine.inner.model, engine.inner.context);
        let prefill = engine.inner.prefill;
        Ok(Self {
            engine: engine.clone(),
            sequence: model.sequence(context)?,
            state: model.with_support(model.state(prefill, 1, context)?, 1)?,
            tokens: Vec::with_capacity(context),
            sampler: Sampler::new(model.config().vocab, context + 1),
            prefill,
            unproven: 0,
        })
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
        self.sequence.capacity()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Forgets all tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.sequence.truncate(len);
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
        self.feed_observed(ids, |_, _| {})
    }

    /// [`Session::feed`], with a look at the rows of every stage of every batch.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_observed(
        &mut self,
        ids: &[u32],
        mut observe: impl FnMut(Stage, &[f32]),
    ) -> Result<&[f32], EngineError> {
        let last = self.feed_front(ids, &mut observe)?;
        self.batch(&ids[last..], Output::Last, &mut observe)
    }

    /// Feeds all batches but the last, which is checked; returns where it begins.
    fn feed_front(
        &mut self,
        ids: &[u32],
        observe: &mut impl FnMut(Stage, &[f32]),
    ) -> Result<usize, EngineError> {
        let before = self.len();
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let last = (ids.len() - 1) / self.prefill * self.prefill;
        for chunk in ids[..last].chunks(self.prefill) {
            if let Err(error) = self.batch(chunk, Output::None, &mut *observe) {
                self.truncate(before);
                return Err(error);
            }
        }
        if let Err(error) = self.check(&ids[last..]) {
            self.truncate(before);
            return Err(error);
        }
        Ok(last)
    }

    fn check(&self, ids: &[u32]) -> Result<(), EngineError> {
        let vocab = self.engine.config().vocab;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(bitnet_model::ModelError::Token { id, vocab }.into());
        }
        let (needed, capacity) = (self.len() + ids.len(), self.context());
        if needed > capacity {
            return Err(bitnet_model::ModelError::ContextFull { needed, capacity }.into());
        }
        Ok(())
    }

    fn batch(
        &mut self,
        ids: &[u32],
        output: Output,
        observe: impl FnMut(Stage, &[f32]),
    ) -> Result<&[f32], EngineError> {
        let model = &self.engine.inner.model;
        let mut spans = [Span { sequence: &mut self.sequence, tokens: ids.len(), output }];
        let rows = model.forward(&mut self.state, ids, &mut spans, observe)?;
        self.tokens.extend_from_slice(ids);
        Ok(rows)
    }

    /// Appends tokens and lets the sampler choose the one behind them; with `logprobs` tells that many alternatives.
    pub(crate) fn choose_after(
        &mut self,
        ids: &[u32],
        logprobs: Option<usize>,
    ) -> Result<(u32, Option<TokenLogprobs>), EngineError> {
        let last = self.feed_front(ids, &mut |_, _| {})?;
        let (kernel, ids) = (self.engine.kernel(), &ids[last..]);
        let model = &self.engine.inner.model;
        let mut spans = [Span { sequence: &mut self.sequence, tokens: ids.len(), output: Output::Last }];
        if let (None, Some(need)) = (logprobs, self.sampler.need()) {
            model.forward_support(&mut self.state, ids, &mut spans, &[need], |_, _| {})?;
            self.tokens.extend_from_slice(ids);
            let chosen = match model.outcome(&self.state, 0) {
                Outcome::Part(support) => self.sampler.sample_support(kernel, &support),
                Outcome::All(logits) => Some(self.sampler.sample(kernel, finite(logits)?)),
            };
            if let Some(id) = chosen {
                return Ok((id, None));
            }
            self.unproven += 1;
            return Ok((self.sampler.sample(kernel, finite(model.complete(&mut self.state))?), None));
        }
        let logits = model.forward(&mut self.state, ids, &mut spans, |_, _| {})?;
        self.tokens.extend_from_slice(ids);
        let id = self.sampler.sample(kernel, finite(logits)?);
        Ok((id, logprobs.map(|count| TokenLogprobs::of(kernel, logits, id, count))))
    }

    /// How often the head was screened, and how often that was not enough.
    pub fn screen_counts(&self) -> ScreenCounts {
        let counts = self.engine.inner.model.screen_counts(&self.state);
        ScreenCounts { full: counts.full + self.unproven, ..counts }
    }

    /// Keeps what the session's tokens and `ids` have in common at their beginning, forgets the rest, and returns how many
    /// tokens that is. The last of `ids` is never kept, so that feeding the others gives its logits: a conversation
    /// is continued without computing its beginning again.
    pub fn keep_prefix(&mut self, ids: &[u32]) -> usize {
        let most = ids.len().saturating_sub(1);
        let common = self.tokens.iter().zip(&ids[..most]).take_while(|(a, b)| a == b).count();
        self.truncate(common);
        common
    }

    /// Appends tokens and calls `visit` with the logits behind each, `[vocab]`, in order.
    ///
    /// # Errors
    /// As [`Session::feed`]; tokens before the failing batch stay.
    pub fn logits(&mut self, ids: &[u32], mut visit: impl FnMut(&[f32])) -> Result<(), EngineError> {
        let model = &self.engine.inner.model;
        // Logits of many positions are large, so this state lives only as long as they are wanted.
        let batch = LOGITS.min(ids.len().max(1));
        let mut state = model.state(batch, batch, self.context())?;
        for chunk in ids.chunks(batch) {
            let mut spans = [Span { sequence: &mut self.sequence, tokens: chunk.len(), output: Output::All }];
            let rows = model.forward(&mut state, chunk, &mut spans, |_, _| {})?;
            rows.chunks_exact(model.config().vocab).for_each(&mut visit);
            self.tokens.extend_from_slice(chunk);
        }
        Ok(())
    }

    /// Continues a text. The text is added to what the session holds; the token that begins a text is put before it when
    /// the session is empty and the model wants one. Control tokens inside the text are plain text.
    ///
    /// # Errors
    /// Without a tokenizer, when the prompt does not fit, or for options that cannot be.
    pub fn generate(
        &mut self,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<Generation<'_>, EngineError> {
        let tokenizer = self.engine.tokenizer().ok_or(EngineError::NoTokenizer)?;
        let encode = bitnet_text::EncodeOptions { add_special: self.is_empty(), parse_special: false };
        let mut ids = tokenizer.encode(prompt, encode)?;
        if ids.is_empty() && self.is_empty() {
            ids.extend(self.engine.config().bos);
        }
        self.generate_ids(&ids, options)
    }

    /// Continues token ids, taken as they are and added to what the session holds.
    ///
    /// # Errors
    /// When there is nothing to continue, the ids do not fit or are outside the vocabulary, or for options that
    /// cannot be.
    pub fn generate_ids(
        &mut self,
        ids: &[u32],
        options: &GenerateOptions,
    ) -> Result<Generation<'_>, EngineError> {
        let room = self.context() - self.len();
        if ids.len() > room {
            return Err(EngineError::PromptTooLong { tokens: ids.len(), room });
        }
        Generation::new(self, ids, options)
    }
}

/// Logits among which a token can be chosen: none of them is NaN, and the largest is finite.
fn finite(logits: &[f32]) -> Result<&[f32], EngineError> {
    // One pass without a branch, a hundredth of what the head takes.
    let (nan, largest) = logits.iter().fold((false, f32::NEG_INFINITY), |(nan, largest), &x| {
        (nan | x.is_nan(), if x > largest { x } else { largest })
    });
    if nan || !largest.is_finite() { Err(EngineError::NotANumber) } else { Ok(logits) }
}
