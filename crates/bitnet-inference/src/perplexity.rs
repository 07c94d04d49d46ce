//! Perplexity: how surprised a model is by a text.

use crate::{EngineError, Session};

/// How a text is cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens of a window, the one that begins a text included.
    pub window: usize,
    /// Tokens that are scored anew in each window; the others are context only. At most the window's.
    pub stride: usize,
    /// Put before every window, if any.
    pub bos: Option<u32>,
}

/// How surprised a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct Perplexity {
    /// Mean negative log-likelihood, nats per token.
    pub mean_nll: f64,
    /// `e^mean_nll`.
    pub perplexity: f64,
    /// Tokens that were scored.
    pub tokens_scored: usize,
    /// Mean negative log-likelihood of each window.
    pub windows: Vec<f64>,
}

/// Scores `ids` (without a token that begins a text: `options.bos` is it) in windows. A tail that does not fill a
/// window's stride is left out, unless it is all there is. Calls `progress(done, total)` after each window.
///
/// # Errors
/// When the window does not fit the session or leaves nothing to score, or an id is outside the vocabulary.
pub fn perplexity(
    session: &mut Session,
    ids: &[u32],
    options: &PerplexityOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Perplexity, EngineError> {
    let PerplexityOptions { window, stride, bos } = *options;
    let body = window.saturating_sub(usize::from(bos.is_some()));
    // Without a first token that is given, the first of the text is not predicted from anything.
    let most = if bos.is_some() { body } else { body.saturating_sub(1) };
    if window > session.context() || stride == 0 || stride > most {
        return Err(EngineError::Window(format!(
            "a window of {window} tokens with a stride of {stride} cannot be: the window is at most the context ({}), the stride from 1 to {most}",
            session.context()
        )));
    }
    let body = body.min(ids.len());
    let starts: Vec<usize> = (0..=ids.len() - body).step_by(stride).collect();
    let (mut total, mut scored, mut means) = (0.0, 0, Vec::with_capacity(starts.len()));
    for (done, &start) in starts.iter().enumerate() {
        // All of the first window, then what each adds.
        let fresh = if start == 0 { body } else { stride };
        let (nll, tokens) = score(session, bos, &ids[start..start + body], fresh)?;
        total += nll;
        scored += tokens;
        means.push(nll / tokens.max(1) as f64);
        progress(done + 1, starts.len());
    }
    if scored == 0 {
        return Err(EngineError::Window("the text is too short: nothing to score".into()));
    }
    let mean_nll = total / scored as f64;
    Ok(Perplexity { mean_nll, perplexity: mean_nll.exp(), tokens_scored: scored, windows: means })
}

/// Sum of the negative log-likelihoods of the last `fresh` tokens of a window, and how many they are.
fn score(
    session: &mut Session,
    bos: Option<u32>,
    window: &[u32],
    fresh: usize,
) -> Result<(f64, usize), EngineError> {
    session.reset();
    let inputs: Vec<u32> = bos.into_iter().chain(window.iter().copied()).collect();
    // The logits behind input `i` predict input `i + 1`; those behind the last predict nothing here.
    let first = inputs.len() - fresh;
    let (mut nll, mut tokens, mut position) = (0.0, 0, 0);
    let kernel = session.engine().kernel();
    session.logits(&inputs[..inputs.len() - 1], |logits| {
        position += 1;
        if position >= first {
            let logprob = logits[inputs[position] as usize] - kernel.log_sum_exp(logits);
            nll -= f64::from(logprob);
            tokens += 1;
        }
    })?;
    Ok((nll, tokens))
}
