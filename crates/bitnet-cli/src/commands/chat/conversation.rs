//! What was said, and the session that holds it.

use std::path::Path;

use bitnet_inference::{GenerateOptions, InferenceEngine, Session, Step};
use bitnet_text::{Message, encode_chat};
use serde::Serialize;

use crate::{
    args::ChatArgs,
    failure::{Failure, Result},
    files::Draft,
    generate::{self, Outcome},
    load, terminal,
};

/// Tokens of an answer when nobody says how many.
const NEW_TOKENS: usize = 1024;
/// An answer has room for so many tokens at least, or the oldest turns are forgotten.
const ROOM: usize = 64;

/// A turn of the conversation as a file of it has it.
#[derive(Serialize)]
struct Said {
    role: String,
    content: String,
}

pub struct Conversation {
    engine: InferenceEngine,
    session: Session,
    options: GenerateOptions,
    system: Option<String>,
    /// Turns of the person and the model, in order.
    turns: Vec<Message>,
}

impl Conversation {
    pub fn new(engine: &InferenceEngine, args: &ChatArgs) -> Result<Self> {
        let options = GenerateOptions {
            max_new_tokens: args.max_new_tokens.map_or(NEW_TOKENS, |n| n as usize),
            sampling: load::sampling(&args.sampling, engine),
            stop: args.stop.clone(),
            ignore_eos: args.ignore_eos,
            ..GenerateOptions::default()
        };
        load::check_biases(engine, &options.sampling)?;
        let session = engine.session().map_err(load::failure)?;
        Ok(Self { engine: engine.clone(), session, options, system: args.system.clone(), turns: Vec::new() })
    }

    pub fn engine(&self) -> &InferenceEngine {
        &self.engine
    }

    /// The seed of the next answer; none when the likeliest token is always taken.
    pub fn seed(&self) -> Option<u64> {
        Some(self.options.sampling.seed).filter(|_| self.options.sampling.temperature != 0.0)
    }

    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub fn set_system(&mut self, text: Option<String>) {
        self.system = text;
    }

    /// Forgets everything but the system's words.
    pub fn reset(&mut self) {
        self.turns.clear();
        self.session.reset();
    }

    /// A turn of the person and the model's answer. When it fails the turn was not said, and nothing is forgotten for it.
    pub fn say(&mut self, text: &str, show: impl FnMut(&Step<'_>) -> Result<()>) -> Result<Outcome> {
        let turns = self.turns.clone();
        self.turns.push(Message::new("user", text));
        let answer = self.answer(show);
        match &answer {
            Ok(outcome) => self.turns.push(Message::new("assistant", outcome.text.trim())),
            Err(_) => self.turns = turns,
        }
        // Each answer continues the generator's stream, as one long text would.
        self.options.sampling.seed = self.options.sampling.seed.wrapping_add(1);
        answer
    }

    fn answer(&mut self, show: impl FnMut(&Step<'_>) -> Result<()>) -> Result<Outcome> {
        let ids = self.prompt()?;
        // What the session holds already need not be read again; at least one token must be.
        let held = self.session.keep_prefix(&ids);
        generate::generate(&mut self.session, &ids[held..], &self.options, show)
    }

    /// The ids of the conversation, without its oldest turns if they leave no room for an answer.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let context = self.session.context();
        let room = ROOM.min(self.options.max_new_tokens);
        // A question and its answer go together: templates insist that turns alternate.
        for forgotten in (0..self.turns.len()).step_by(2) {
            let ids = self.encode(&self.turns[forgotten..])?;
            let alone = forgotten + 1 == self.turns.len();
            if ids.len() + room > context && !alone {
                continue;
            }
            if ids.len() > context {
                return Err(load::too_long(&self.engine, ids.len(), context));
            }
            if forgotten > 0 {
                self.turns.drain(..forgotten);
                terminal::note(format_args!(
                    "the context is full: the {forgotten} oldest turns are forgotten"
                ));
            }
            return Ok(ids);
        }
        Ok(Vec::new())
    }

    fn encode(&self, turns: &[Message]) -> Result<Vec<u32>> {
        let (tokenizer, template) = self.engine.chat().map_err(load::failure)?;
        encode_chat(tokenizer, template, &self.with_system(turns), true).map_err(|e| load::failure(e.into()))
    }

    fn with_system(&self, turns: &[Message]) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(turns.iter().cloned()).collect()
    }

    /// Writes the conversation as a JSON array of `{"role", "content"}`; replaces a file only with `force`.
    pub fn save(&self, path: &Path, force: bool) -> Result<()> {
        let said = self.with_system(&self.turns).into_iter();
        let messages: Vec<_> = said.map(|Message { role, content }| Said { role, content }).collect();
        let text = serde_json::to_string_pretty(&messages).map_err(Failure::new)?;
        let mut draft = Draft::of_output(path, force)?;
        draft.write(text.as_bytes())?;
        draft.write(b"\n")?;
        draft.publish()
    }
}
