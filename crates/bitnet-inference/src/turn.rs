//! One generation, owned: what is to be fed, how the next token is chosen, and what text it completes. It holds no sequence and
//! no device, so a session, a scheduler of many generations or another language can drive it.

use std::time::{Duration, Instant};

use bitnet_device::{Choose, Need, Support};
use bitnet_text::StreamDecoder;

use crate::{
    EngineError, InferenceEngine, Sampler, SamplingMemory, SamplingOptions, TokenLogprobs, stop::StopMatcher,
};

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

/// One token, with the text that it completes, lent. The text may be empty: half characters, and what could become a stop
/// string, are held back.
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
    /// Time until the first token was chosen.
    pub prompt_time: Duration,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Time from the first choice to the last token.
    pub decode_time: Duration,
}

/// Where a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Tokens are fed and chosen.
    Running,
    /// All tokens are out; held-back text may remain.
    Ending,
    /// Nothing remains.
    Done,
}

/// One generation. Whoever drives it feeds [`Turn::pending`] to its sequence, lets it choose from the logits behind the last of
/// them ([`Choices`]), tells it what has been fed ([`Turn::fed`]), and takes [`Turn::step`], until nothing is pending and that is
/// `None`.
pub struct Turn {
    engine: InferenceEngine,
    options: GenerateOptions,
    /// Tokens to be fed: the prompt, or the token handed out last.
    pending: Vec<u32>,
    /// How many of them have been.
    fed: usize,
    /// Positions that the sequence has room for.
    room: usize,
    choice: Choice,
    decoder: Option<StreamDecoder>,
    stops: StopMatcher,
    phase: Phase,
    finish: Option<FinishReason>,
    /// Text that was held back until the end.
    held: String,
    stats: GenerationStats,
    began: Instant,
}

/// How a [`Turn`] chooses its next token.
struct Choice {
    sampler: Sampler,
    logprobs: Option<usize>,
    kernel: &'static bitnet_kernels::Kernel,
    chosen: Option<Result<(u32, Option<TokenLogprobs>), EngineError>>,
}

impl Turn {
    /// Continues a sequence that holds `held` with `prompt`.
    ///
    /// # Errors
    /// For options that cannot be, an empty prompt, or one that has no room.
    pub fn new(
        engine: &InferenceEngine,
        held: &[u32],
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, EngineError> {
        let vocab = engine.config().vocab;
        options.sampling.check().map_err(EngineError::Sampling)?;
        options.sampling.check_ids(vocab).map_err(EngineError::Sampling)?;
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let room = engine.context().saturating_sub(held.len());
        if prompt.len() > room {
            return Err(EngineError::PromptTooLong { tokens: prompt.len(), room });
        }
        let history = [held, prompt].concat();
        let decoder = engine.tokenizer().map(|tokenizer| {
            // Leading-space rules hold for a text's beginning only.
            let mut decoder = StreamDecoder::new(tokenizer);
            for &id in &history {
                decoder.push(id);
            }
            decoder
        });
        let more = options.max_new_tokens.min(room - prompt.len() + 1);
        Ok(Self {
            choice: Choice {
                sampler: Sampler::new(options.sampling.clone(), vocab, &history, more),
                logprobs: options.logprobs,
                kernel: engine.kernel(),
                chosen: None,
            },
            engine: engine.clone(),
            pending: prompt.to_vec(),
            fed: 0,
            room,
            decoder,
            stops: StopMatcher::new(&options.stop),
            options: options.clone(),
            phase: Phase::Running,
            finish: None,
            held: String::new(),
            stats: GenerationStats { prompt_tokens: prompt.len(), ..GenerationStats::default() },
            began: Instant::now(),
        })
    }

    /// Tokens to be fed before the next token can be chosen; none when [`Turn::step`] has something to tell.
    pub fn pending(&self) -> &[u32] {
        let over = self.phase != Phase::Running || self.due().is_some();
        if over { &[] } else { &self.pending[self.fed..] }
    }

    /// The next `tokens` of [`Turn::pending`] have been fed.
    pub fn fed(&mut self, tokens: usize) {
        self.fed += tokens;
        self.room = self.room.saturating_sub(tokens);
        if self.stats.new_tokens == 0 && self.fed == self.pending.len() {
            (self.stats.prompt_time, self.began) = (self.began.elapsed(), Instant::now());
        }
    }

    /// Why no token could be chosen from the last step's logits, if so. It is told once.
    pub(crate) fn refusal(&mut self) -> Option<EngineError> {
        let error = self.choice.chosen.take_if(|chosen| chosen.is_err())?.err();
        self.abandon();
        error
    }

    /// Ends it without a word: its sequence cannot go on.
    pub fn abandon(&mut self) {
        self.phase = Phase::Done;
    }

    /// Why it ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Counts and times so far.
    pub fn stats(&self) -> GenerationStats {
        self.stats
    }

    /// The next token and its text, without an allocation (unless log-probabilities are asked for); `None` at the end, and while
    /// tokens are pending.
    ///
    /// # Errors
    /// When no token could be chosen: the logits were no finite numbers.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, EngineError> {
        match self.phase {
            Phase::Done => return Ok(None),
            Phase::Ending => return Ok(self.rest()),
            Phase::Running => {}
        }
        if let Some(reason) = self.due() {
            return Ok(self.end(reason));
        }
        let (id, logprobs) = match self.choice.chosen.take() {
            None => return Ok(None),
            Some(Ok(chosen)) => chosen,
            Some(Err(error)) => {
                self.phase = Phase::Done;
                return Err(error);
            }
        };
        self.stats.decode_time = self.began.elapsed();
        if !self.options.ignore_eos && self.engine.stop_tokens().contains(&id) {
            return Ok(self.end(FinishReason::EndOfText));
        }
        self.choice.sampler.accept(id);
        self.stats.new_tokens += 1;
        self.pending.clear();
        self.pending.push(id);
        self.fed = 0;
        let piece = self.decoder.as_mut().map_or("", |decoder| decoder.push(id));
        let (text, met) = self.stops.push(piece);
        if met {
            (self.finish, self.phase) = (Some(FinishReason::StopString), Phase::Done);
        }
        Ok(Some(Step { id: Some(id), text, logprobs }))
    }

    /// Why no further token is chosen: a limit has been reached, and the token before it handed out.
    fn due(&self) -> Option<FinishReason> {
        if self.choice.chosen.is_none() && self.stats.new_tokens == 0 {
            // The prompt is fed in any case.
            None
        } else if self.stats.new_tokens == self.options.max_new_tokens {
            Some(FinishReason::Length)
        } else {
            (self.choice.chosen.is_none() && self.room == 0).then_some(FinishReason::ContextFull)
        }
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

/// The choices of one or several turns, made when a step has their logits. When the step fails after all, abandon its turns
/// ([`Turn::abandon`]): one that was given logits before may have drawn its token.
pub struct Choices<'a> {
    /// The turns.
    pub turns: &'a mut [Turn],
    /// Which turn has each output of the step.
    pub outputs: &'a [usize],
    /// Where the choices are made, one after another.
    pub memory: &'a mut SamplingMemory,
}

impl Choose for Choices<'_> {
    fn need(&self, output: usize) -> Option<Need<'_>> {
        let choice = &self.turns[self.outputs[output]].choice;
        // Log-probabilities are shares of all logits.
        if choice.logprobs.is_some() { None } else { choice.sampler.need() }
    }

    fn some(&mut self, output: usize, found: &Support<'_>) -> bool {
        let Choice { sampler, kernel, chosen, .. } = &mut self.turns[self.outputs[output]].choice;
        match sampler.sample_support(kernel, found, self.memory) {
            Some(id) => {
                *chosen = Some(Ok((id, None)));
                true
            }
            None => false,
        }
    }

    fn all(&mut self, output: usize, logits: &[f32]) {
        let Choice { sampler, kernel, chosen, logprobs } = &mut self.turns[self.outputs[output]].choice;
        *chosen = Some(finite(logits).map(|logits| {
            let id = sampler.sample(kernel, logits, self.memory);
            (id, logprobs.map(|count| TokenLogprobs::of(kernel, logits, id, count)))
        }));
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
