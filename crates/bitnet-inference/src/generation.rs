//! Generation, as an iterator.

use crate::{
    EngineError, FinishReason, GenerateOptions, GenerationStats, Session, Step, TokenLogprobs, Turn,
};

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

/// A generation under way: an iterator of [`Piece`]s that borrows its session.
///
/// Dropping it early leaves the session with the tokens handed out so far, the last excepted.
pub struct Generation<'s> {
    session: &'s mut Session,
    turn: Turn,
}

impl<'s> Generation<'s> {
    pub(crate) fn new(
        session: &'s mut Session,
        ids: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, EngineError> {
        let mut turn = Turn::new(session.engine(), session.tokens(), ids, options)?;
        session.feed_turn(&mut turn)?;
        Ok(Self { session, turn })
    }

    /// Why it ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.turn.finish_reason()
    }

    /// Counts and times so far.
    pub fn stats(&self) -> GenerationStats {
        self.turn.stats()
    }

    /// The next token and its text, without an allocation (unless log-probabilities are asked for); `None` at the end.
    ///
    /// # Errors
    /// When the model refuses (pages have run out, the device failed), or its logits are no finite numbers.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, EngineError> {
        self.session.feed_turn(&mut self.turn)?;
        self.turn.step()
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
                self.turn.abandon();
                Some(Err(error))
            }
        }
    }
}

impl Session {
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
        let tokenizer = self.engine().tokenizer().ok_or(EngineError::NoTokenizer)?;
        let encode = bitnet_text::EncodeOptions { add_special: self.is_empty(), parse_special: false };
        let mut ids = tokenizer.encode(prompt, encode)?;
        if ids.is_empty() && self.is_empty() {
            ids.extend(self.engine().config().bos);
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
        Generation::new(self, ids, options)
    }
}
