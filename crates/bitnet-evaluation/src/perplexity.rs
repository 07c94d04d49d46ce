//! Perplexity: how surprised a model is by a text.

use bitnet_inference::{EngineError, Session};

use crate::{
    error::EvaluationError,
    windows::{PerplexityOptions, Windows},
};

/// How surprised a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct Perplexity {
    /// Mean negative log-likelihood, nats per token.
    pub mean_nll: f64,
    /// `e^mean_nll`.
    pub perplexity: f64,
    /// Tokens that were scored.
    pub tokens_scored: usize,
    /// Bits per byte of the text that the scored tokens say, which models with different tokenizers can be compared by.
    /// `None` for a model without a tokenizer.
    pub bits_per_byte: Option<f64>,
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
) -> Result<Perplexity, EvaluationError> {
    let windows = Windows::new(ids, options, session.context())?;
    let mut sum = Sum::default();
    for index in 0..windows.len() {
        let window = windows.get(index);
        session.reset();
        let kernel = session.engine().kernel();
        let mut position = 0;
        session.logits(&window.inputs[..window.inputs.len() - 1], |logits| {
            position += 1;
            if position >= window.first {
                let id = window.inputs[position];
                sum.add(id, f64::from(kernel.log_sum_exp(logits) - logits[id as usize]));
            }
        })?;
        sum.end_window();
        progress(index + 1, windows.len());
    }
    sum.finish(session)
}

/// Negative log-likelihoods of the tokens of a text, as they come.
#[derive(Default)]
pub(crate) struct Sum {
    ids: Vec<u32>,
    total: f64,
    window: f64,
    before: usize,
    means: Vec<f64>,
}

impl Sum {
    /// The next token, and how unlikely it was.
    pub(crate) fn add(&mut self, id: u32, nll: f64) {
        self.ids.push(id);
        self.window += nll;
    }

    pub(crate) fn end_window(&mut self) {
        let tokens = self.ids.len() - self.before;
        self.means.push(self.window / tokens.max(1) as f64);
        self.total += self.window;
        self.before = self.ids.len();
        self.window = 0.0;
    }

    pub(crate) fn finish(self, session: &Session) -> Result<Perplexity, EvaluationError> {
        if self.ids.is_empty() {
            return Err(EvaluationError::Window("the text is too short: nothing to score".into()));
        }
        if !self.total.is_finite() {
            return Err(EngineError::NotANumber.into());
        }
        let bytes = session.engine().tokenizer().map(|tokenizer| {
            self.ids.iter().map(|&id| tokenizer.token_bytes(id).map_or(0, <[u8]>::len)).sum::<usize>()
        });
        let mean_nll = self.total / self.ids.len() as f64;
        Ok(Perplexity {
            mean_nll,
            perplexity: libm::exp(mean_nll),
            tokens_scored: self.ids.len(),
            bits_per_byte: bytes.filter(|&b| b > 0).map(|b| self.total / std::f64::consts::LN_2 / b as f64),
            windows: self.means,
        })
    }
}
