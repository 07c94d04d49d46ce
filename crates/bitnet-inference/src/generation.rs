//! Generation, as an iterator.

use std::time::{Duration, Instant};

use bitnet_text::StreamDecoder;

use crate::{EngineError, SamplingOptions, Session, TokenLogprobs, stop::StopMatcher};

/// What is generated and when it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// How each is chosen; greedy by default.
    pub sampling: SamplingOptions,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// Go on behind the tokens that end a text.
    pub ignore_eos: bool,
    /// Log-probabilities of each token and of this many alternatives.
    pub logprobs: Option<usize>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingOptions::default(),
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended the text.
    EndOfText,
    /// A stop string was met.
    StopString,
    /// As many tokens as asked for.
    Length,
    /// The context is full.
    ContextFull,
}

/// One token, with the text that it completes. The text may be empty: half characters, and what could become a stop string,
/// are held back.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The token, or `None` for text that was held back until the end.
    pub id: Option<u32>,
    /// Text that is certain now.
    pub text: String,
    /// When asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// [`Piece`] without an allocation of its own.
#[derive(Debug)]
pub struct Step<'a> {
    /// The token, or `None` for text that was held back until the end.
    pub id: Option<u32>,
    /// Text that is certain now.
    pub text: &'a str,
    /// When asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// Counts and times of a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GenerationStats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Time until the first logits.
    pub prompt_time: Duration,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Time from the first logits to the last token.
    pub decode_time: Duration,
}

/// Where a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first token waits.
    First,
    /// This token has been handed out, but not fed.
    Fed(u32),
    /// All tokens are out; held-back text may remain.
    Ending,
    /// Nothing remains.
    Done,
}

/// A generation under way: an iterator of [`Piece`]s that borrows its session.
///
/// Dropping it early leaves the session with the tokens handed out so far, the last excepted.
pub struct Generation<'s> {
    session: &'s mut Session,
    options: GenerateOptions,
    decoder: Option<StreamDecoder>,
    stops: StopMatcher,
    /// The first token, chosen when the prompt was fed, until it is handed out.
    first: Option<(u32, Option<TokenLogprobs>)>,
    phase: Phase,
    finish: Option<FinishReason>,
    /// Text that was held back until the end.
    held: String,
    stats: GenerationStats,
    began: Instant,
}

impl<'s> Generation<'s> {
    pub(crate) fn new(
        session: &'s mut Session,
        ids: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, EngineError> {
        options.sampling.check().map_err(EngineError::Sampling)?;
        options.sampling.check_ids(session.engine.config().vocab).map_err(EngineError::Sampling)?;
        let start = Instant::now();
        let history = [session.tokens(), ids].concat();
        session.sampler.start(options.sampling.clone(), &history);
        let first = Some(session.choose_after(ids, options.logprobs)?);
        let prompt =
            GenerationStats { prompt_tokens: ids.len(), prompt_time: start.elapsed(), ..Default::default() };
        let decoder = session.engine.tokenizer().map(|tokenizer| {
            // Leading-space rules hold for a text's beginning only.
            let mut decoder = StreamDecoder::new(tokenizer);
            for &id in &history {
                decoder.push(id);
            }
            decoder
        });
        Ok(Self {
            decoder,
            stops: StopMatcher::new(&options.stop),
            options: options.clone(),
            session,
            first,
            phase: Phase::First,
            finish: None,
            held: String::new(),
            stats: prompt,
            began: Instant::now(),
        })
    }

    /// Why it ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Counts and times so far.
    pub fn stats(&self) -> GenerationStats {
        self.stats
    }

    /// The next token and its text, without an allocation (unless log-probabilities are asked for); `None` at the end.
    ///
    /// # Errors
    /// When the model refuses, which it does not after a prompt that it took.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, EngineError> {
        let (id, logprobs) = match self.phase {
            Phase::Done => return Ok(None),
            Phase::Ending => return Ok(self.rest()),
            _ if self.stats.new_tokens == self.options.max_new_tokens => {
                return Ok(self.end(FinishReason::Length));
            }
            Phase::Fed(_) if self.session.len() == self.session.context() => {
                return Ok(self.end(FinishReason::ContextFull));
            }
            Phase::Fed(id) => self.session.choose_after(&[id], self.options.logprobs)?,
            Phase::First => match self.first.take() {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        self.stats.decode_time = self.began.elapsed();
        if !self.options.ignore_eos && self.session.engine.stop_tokens().contains(&id) {
            return Ok(self.end(FinishReason::EndOfText));
        }
        self.session.sampler.accept(id);
        self.stats.new_tokens += 1;
        self.phase = Phase::Fed(id);
        let piece = self.decoder.as_mut().map_or("", |decoder| decoder.push(id));
        let (text, met) = self.stops.push(piece);
        if met {
            (self.finish, self.phase) = (Some(FinishReason::StopString), Phase::Done);
        }
        Ok(Some(Step { id: Some(id), text, logprobs }))
    }

    fn end(&mut self, reason: FinishReason) -> Option<Step<'_>> {
        (self.finish, self.phase) = (Some(reason), Phase::Ending);
        self.rest()
    }

    /// Text that was held back, if there is any.
    fn rest(&mut self) -> Option<Step<'_>> {
        self.phase = Phase::Done;
        let tail = self.decoder.as_mut().map_or("", |decoder| decoder.finish());
        let (text, met) = self.stops.push(tail);
        // Once a generation: two parts of held-back text become one piece.
        self.held.push_str(text);
        if met {
            self.finish = Some(FinishReason::StopString);
        } else {
            self.held.push_str(self.stops.finish());
        }
        (!self.held.is_empty()).then_some(Step { id: None, text: &self.held, logprobs: None })
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(step) => {
                step.map(|Step { id, text, logprobs }| Ok(Piece { id, text: text.to_owned(), logprobs }))
            }
            Err(error) => {
                self.phase = Phase::Done;
                Some(Err(error))
            }
        }
    }
}
