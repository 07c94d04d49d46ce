//! One generation: the prompt in parts, so that progress shows and Ctrl-C works, then tokens one by one.

use std::time::Instant;

use bitnet_inference::{FinishReason, GenerateOptions, InferenceEngine, Session, Step, TokenLogprobs};
use serde::Serialize;

use crate::{
    failure::Result,
    human,
    interrupt::Guard,
    load,
    progress::{ProgressMeter, Unit},
    terminal,
};

/// Tokens of a prompt between two looks at Ctrl-C. Results do not depend on it.
const PART: usize = 128;

/// What a generation came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub ids: Vec<u32>,
    pub text: String,
    pub logprobs: Vec<TokenLogprobs>,
    /// Why it ended; none after Ctrl-C.
    pub finish: Option<FinishReason>,
    pub speed: Speed,
}

/// Tokens and seconds of prompt and answer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Speed {
    pub prompt_tokens: usize,
    pub prompt_seconds: f64,
    pub new_tokens: usize,
    pub decode_seconds: f64,
}

impl Speed {
    /// `prompt 12 tokens in 30 ms (400/s), answer 20 tokens in 1.0 s (20.0/s)`.
    pub fn words(&self) -> String {
        let part = |tokens: usize, seconds: f64| {
            let rate = tokens as f64 / seconds.max(1e-9);
            format!("{} tokens in {} ({rate:.1}/s)", human::count(tokens as u64), human::seconds(seconds))
        };
        // The first new token comes out of the prompt's last logits and costs no step of its own.
        let steps = self.new_tokens.saturating_sub(1);
        let decode = match steps {
            0 => String::new(),
            _ => format!(", then {}", part(steps, self.decode_seconds)),
        };
        format!("prompt {}{decode}", part(self.prompt_tokens, self.prompt_seconds))
    }
}

/// Appends `ids` to the session and generates. `show` gets every token with the text that it completes.
pub fn generate(
    session: &mut Session,
    ids: &[u32],
    options: &GenerateOptions,
    mut show: impl FnMut(&Step<'_>) -> Result<()>,
) -> Result<Outcome> {
    let guard = Guard::new();
    let start = Instant::now();
    let mut outcome = Outcome::default();
    let Some(last) = prefill(session, ids, &guard)? else { return Ok(outcome) };
    let mut generation = session.generate_ids(last, options).map_err(load::failure)?;
    outcome.speed.prompt_tokens = ids.len();
    outcome.speed.prompt_seconds = start.elapsed().as_secs_f64();
    while !guard.pressed() {
        let Some(mut step) = generation.step().map_err(load::failure)? else {
            outcome.finish = generation.finish_reason();
            break;
        };
        show(&step)?;
        outcome.ids.extend(step.id);
        outcome.text.push_str(step.text);
        outcome.logprobs.extend(step.logprobs.take());
    }
    outcome.speed.new_tokens = outcome.ids.len();
    outcome.speed.decode_seconds = generation.stats().decode_time.as_secs_f64();
    tracing::debug!(
        prompt_tokens = ids.len(),
        new_tokens = outcome.ids.len(),
        finish = finish_word(outcome.finish),
        "generated"
    );
    Ok(outcome)
}

/// Feeds all of `ids` but the last part, which is returned; none after Ctrl-C.
fn prefill<'a>(session: &mut Session, ids: &'a [u32], guard: &Guard) -> Result<Option<&'a [u32]>> {
    let room = session.context() - session.len();
    if ids.len() > room {
        return Err(load::too_long(session.engine(), ids.len(), room));
    }
    let progress = ProgressMeter::new("reading", ids.len() as u64, Unit::Items);
    let last = ids.len().saturating_sub(1) / PART * PART;
    for (n, part) in ids[..last].chunks(PART).enumerate() {
        session.feed(part).map_err(load::failure)?;
        progress.set(((n + 1) * PART) as u64, ids.len() as u64);
        if guard.pressed() {
            return Ok(None);
        }
    }
    Ok(Some(&ids[last..]))
}

/// Says why a text ended where the model did not end it.
pub fn note_end(engine: &InferenceEngine, outcome: &Outcome) {
    let tokens = outcome.ids.len();
    match outcome.finish {
        Some(FinishReason::Length) => {
            terminal::note(format_args!("ended after {tokens} new tokens; -n sets how many"));
        }
        Some(FinishReason::ContextFull) => {
            let (room, made_for) = (engine.info().context, engine.config().context);
            let more = match room < made_for {
                true => format!("; --context makes more, up to the {made_for} that the model was made for"),
                false => String::new(),
            };
            terminal::note(format_args!("ended because the room for {room} tokens is full{more}"));
        }
        _ => {}
    }
}

/// The reason in one word, as JSON has it.
pub fn finish_word(finish: Option<FinishReason>) -> &'static str {
    match finish {
        Some(FinishReason::EndOfText) => "end_of_text",
        Some(FinishReason::StopString) => "stop_string",
        Some(FinishReason::Length) => "length",
        Some(FinishReason::ContextFull) => "context_full",
        None => "interrupted",
    }
}
