//! Multiple choice: which continuation a model thinks likeliest.

use bitnet_inference::{EngineError, Session};
use bitnet_text::{EncodeOptions, Tokenizer};

use crate::{
    error::EvaluationError,
    questions::{Question, TaskError, TaskErrorKind},
};

/// How a question was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The question's line.
    pub line: usize,
    /// The right choice.
    pub gold: usize,
    /// The likeliest choice, the first on a tie.
    pub chosen: usize,
    /// The likeliest per character.
    pub chosen_normalized: usize,
    /// Log-likelihood of each choice behind the context, nats.
    pub log_likelihoods: Vec<f64>,
    /// Tokens of each choice that were scored.
    pub tokens: Vec<usize>,
}

/// A share of questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// From 0 to 1.
    pub value: f64,
    /// Its standard error, `sqrt(p (1 - p) / (n - 1))`; `None` for one question.
    pub standard_error: Option<f64>,
}

/// How questions were answered.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResult {
    /// Share answered with the right choice, by log-likelihood.
    pub accuracy: Share,
    /// The same by log-likelihood over the characters of the choice.
    pub accuracy_normalized: Share,
    /// What blind guessing would get.
    pub chance: f64,
    /// One for each question.
    pub answers: Vec<Answer>,
}

/// Asks every question: the log-likelihood of each choice as the continuation of the context. Between the two stands `delimiter`,
/// unless the context is empty or ends in white space, or the choice begins with it.
///
/// Context and choice are cut into tokens together, as a reader meets them. White space at the end of the context belongs to the
/// choice. Scored are the tokens from the first on that the context alone would not have; where a token of one choice lies across the
/// boundary, all choices are scored from that token's place on, so that their likelihoods are of the same thing. Calls `progress(done, total)` after each question.
///
/// # Errors
/// [`TaskError`] for a question that does not fit the session; [`EngineError::NoTokenizer`]; [`EngineError::NotANumber`].
pub fn multiple_choice(
    session: &mut Session,
    questions: &[Question],
    delimiter: &str,
    mut progress: impl FnMut(usize, usize),
) -> Result<TaskResult, EvaluationError> {
    let engine = session.engine().clone();
    let tokenizer = engine.tokenizer().ok_or(EngineError::NoTokenizer)?;
    let mut answers = Vec::with_capacity(questions.len());
    for (done, question) in questions.iter().enumerate() {
        answers.push(ask(session, tokenizer, question, delimiter)?);
        progress(done + 1, questions.len());
    }
    let share = |right: fn(&Answer) -> usize| {
        Share::of(answers.iter().filter(|a| right(a) == a.gold).count(), answers.len())
    };
    let chances: f64 = questions.iter().map(|q| 1.0 / q.choices.len().max(1) as f64).sum();
    Ok(TaskResult {
        accuracy: share(|a| a.chosen),
        accuracy_normalized: share(|a| a.chosen_normalized),
        chance: chances / questions.len().max(1) as f64,
        answers,
    })
}

impl Share {
    fn of(part: usize, all: usize) -> Self {
        let value = part as f64 / all.max(1) as f64;
        let standard_error = (all > 1).then(|| (value * (1.0 - value) / (all - 1) as f64).sqrt());
        Self { value, standard_error }
    }
}

fn ask(
    session: &mut Session,
    tokenizer: &Tokenizer,
    question: &Question,
    delimiter: &str,
) -> Result<Answer, EvaluationError> {
    let refused = |kind| TaskError { line: question.line, kind };
    let cuts: Result<Vec<_>, _> =
        question.choices.iter().map(|choice| cut(tokenizer, &question.context, choice, delimiter)).collect();
    let cuts = cuts?;
    // One boundary for all, or the likelihoods would not be of the same thing.
    let first = cuts.iter().map(|(_, first)| *first).min().unwrap_or(0);
    // The last token is only predicted.
    let needed = cuts.iter().map(|(ids, _)| ids.len().saturating_sub(1)).max().unwrap_or(0);
    let room = session.context();
    if first == 0 {
        return Err(refused(TaskErrorKind::NothingBefore).into());
    }
    if needed > room {
        return Err(refused(TaskErrorKind::TooLong { needed, room }).into());
    }
    // White space alone, of which a tokenizer makes nothing.
    if let Some(at) = cuts.iter().position(|(ids, _)| ids.len() <= first) {
        return Err(refused(TaskErrorKind::Choice(at)).into());
    }
    let scores = cuts.iter().map(|(ids, _)| log_likelihood(session, ids, first));
    let log_likelihoods: Vec<f64> = scores.collect::<Result<_, _>>()?;
    let tokens = cuts.iter().map(|(ids, _)| ids.len() - first).collect();
    if log_likelihoods.iter().any(|l| !l.is_finite()) {
        return Err(EngineError::NotANumber.into());
    }
    let per_character = log_likelihoods.iter().zip(&question.choices);
    let per_character: Vec<f64> = per_character.map(|(l, c)| l / c.chars().count().max(1) as f64).collect();
    Ok(Answer {
        line: question.line,
        gold: question.gold,
        chosen: largest(&log_likelihoods),
        chosen_normalized: largest(&per_character),
        log_likelihoods,
        tokens,
    })
}

/// The first of the largest.
fn largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// The tokens of context and choice together, and the first that belongs to the choice.
fn cut(
    tokenizer: &Tokenizer,
    context: &str,
    choice: &str,
    delimiter: &str,
) -> Result<(Vec<u32>, usize), EvaluationError> {
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let kept = context.trim_end();
    let apart = context.is_empty() || kept.len() < context.len() || choice.starts_with(char::is_whitespace);
    let between = if apart { "" } else { delimiter };
    let whole = tokenizer.encode(&format!("{context}{between}{choice}"), plain)?;
    let before = tokenizer.encode(kept, plain)?;
    let common = before.iter().zip(&whole).take_while(|(a, b)| a == b).count();
    // A choice that adds no token of its own (its text melts into the context's last one) still has the last.
    let common = common.min(whole.len().saturating_sub(1));
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let ids: Vec<u32> = bos.into_iter().chain(whole).collect();
    Ok((ids, common + usize::from(bos.is_some())))
}

/// `ln p(ids[first..] | ids[..first])`. What the session holds already of the context is not computed again.
fn log_likelihood(session: &mut Session, ids: &[u32], first: usize) -> Result<f64, EvaluationError> {
    let common = session.tokens().iter().zip(&ids[..first - 1]).take_while(|(a, b)| a == b).count();
    let common = session.truncate(common);
    if common < first - 1 {
        session.feed(&ids[common..first - 1])?;
    }
    let kernel = session.engine().kernel();
    let (mut next, mut sum) = (first, 0.0);
    session.logits(&ids[first - 1..ids.len() - 1], |logits| {
        sum += f64::from(logits[ids[next] as usize] - kernel.log_sum_exp(logits));
        next += 1;
    })?;
    Ok(sum)
}
