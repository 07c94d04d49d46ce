//! How a text is cut into windows.

use crate::error::EvaluationError;

/// The cut of a text: windows of one length, at one distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens of a window, the one that begins a text included.
    pub window: usize,
    /// Tokens that are scored anew in each window; the others are context only. At most the window's.
    pub stride: usize,
    /// Put before every window, if any.
    pub bos: Option<u32>,
}

/// The windows of a text.
pub(crate) struct Windows<'a> {
    ids: &'a [u32],
    bos: Option<u32>,
    /// Tokens of the text in a window.
    body: usize,
    stride: usize,
    count: usize,
}

/// One of them.
pub(crate) struct Window {
    /// What the model reads; the last is only predicted.
    pub(crate) inputs: Vec<u32>,
    /// The first of them that is scored, at least 1: the logits behind input `i` predict input `i + 1`.
    pub(crate) first: usize,
}

impl<'a> Windows<'a> {
    /// # Errors
    /// For a window that does not fit `context`, or a stride that would leave tokens out.
    pub(crate) fn new(
        ids: &'a [u32],
        options: &PerplexityOptions,
        context: usize,
    ) -> Result<Self, EvaluationError> {
        let PerplexityOptions { window, stride, bos } = *options;
        let body = window.saturating_sub(usize::from(bos.is_some()));
        // Without a first token that is given, the first of the text is not predicted from anything.
        let most = if bos.is_some() { body } else { body.saturating_sub(1) };
        if window > context || stride == 0 || stride > most {
            return Err(EvaluationError::Window(format!(
                "a window of {window} tokens with a stride of {stride} cannot be: the window is at most the context \
                 ({context}), the stride from 1 to {most}",
            )));
        }
        if ids.is_empty() {
            return Err(EvaluationError::Window("the text is too short: nothing to score".into()));
        }
        let body = body.min(ids.len());
        Ok(Self { ids, bos, body, stride, count: (ids.len() - body) / stride + 1 })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, index: usize) -> Window {
        let start = index * self.stride;
        let text = &self.ids[start..start + self.body];
        let inputs: Vec<u32> = self.bos.into_iter().chain(text.iter().copied()).collect();
        // All of the first window, then what each adds.
        let fresh = if index == 0 { self.body } else { self.stride };
        let first = (inputs.len() - fresh).max(1);
        Window { inputs, first }
    }
}
