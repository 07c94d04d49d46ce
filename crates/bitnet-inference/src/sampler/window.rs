//! Which tokens stand in the window that penalties look at.

use super::SamplingOptions;

/// So many tokens are taken in without an allocation; more make room now and then.
const FEW_TOKENS: usize = 1 << 16;

/// A token seen before.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: u32,
    generated: bool,
}

/// How often a token stands in the window.
#[derive(Clone, Copy, Debug)]
struct Count {
    id: u32,
    /// In the prompt and in what was generated.
    all: u32,
    generated: u32,
}

/// The window of one generation. Without penalties it holds nothing: its memory follows the tokens, not the vocabulary.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Every token of the sequence; the window is its end.
    history: Vec<Seen>,
    /// By id.
    counts: Vec<Count>,
    /// Ids whose logits the chain can only lower, and those that it may raise.
    pub(super) lowered: Vec<u32>,
    pub(super) raised: Vec<u32>,
}

impl Window {
    /// What `prompt` leaves in the window, with room for `more` tokens, so that they allocate nothing.
    pub(super) fn new(options: &SamplingOptions, vocab: usize, prompt: &[u32], more: usize) -> Self {
        let history = if options.penalizes() { prompt.len() + more.min(FEW_TOKENS) } else { 0 };
        let room = history.min(vocab);
        let biases = options.logit_bias.len();
        let mut window = Self {
            history: Vec::with_capacity(history),
            counts: Vec::with_capacity(room),
            lowered: Vec::with_capacity(room + biases),
            raised: Vec::with_capacity(room + biases),
        };
        for &(id, bias) in &options.logit_bias {
            if bias > 0.0 { &mut window.raised } else { &mut window.lowered }.push(id);
        }
        prompt.iter().for_each(|&id| window.push(options, id, false));
        window
    }

    /// Takes in the next token, and lets go of the one that leaves the window.
    pub(super) fn push(&mut self, options: &SamplingOptions, id: u32, generated: bool) {
        if !options.penalizes() {
            return;
        }
        let seen = Seen { id, generated };
        let leaves =
            self.history.len().checked_sub(options.penalty_window).map(|at| self.history.get(at).copied());
        self.history.push(seen);
        self.enter(options, seen);
        // With a window of 0 the token itself leaves at once.
        if let Some(leaver) = leaves {
            self.leave(options, leaver.unwrap_or(seen));
        }
    }

    /// Lowers the logits of what stands in the window; `place` says where a token's logit is in `logits`.
    pub(super) fn penalize(
        &self,
        options: &SamplingOptions,
        logits: &mut [f32],
        place: impl Fn(u32) -> Option<usize>,
    ) {
        for &Count { id, generated, .. } in &self.counts {
            let Some(logit) = place(id).and_then(|place| logits.get_mut(place)) else { continue };
            *logit *=
                if *logit > 0.0 { 1.0 / options.repetition_penalty } else { options.repetition_penalty };
            if generated > 0 {
                *logit -= options.frequency_penalty * generated as f32 + options.presence_penalty;
            }
        }
    }

    fn enter(&mut self, options: &SamplingOptions, Seen { id, generated }: Seen) {
        let generated = u32::from(generated);
        match self.counts.binary_search_by_key(&id, |count| count.id) {
            Ok(at) => {
                self.counts[at].all += 1;
                self.counts[at].generated += generated;
            }
            Err(at) => {
                self.counts.insert(at, Count { id, all: 1, generated });
                self.list(options).push(id);
            }
        }
    }

    fn leave(&mut self, options: &SamplingOptions, Seen { id, generated }: Seen) {
        let Ok(at) = self.counts.binary_search_by_key(&id, |count| count.id) else { return };
        self.counts[at].all -= 1;
        self.counts[at].generated -= u32::from(generated);
        if self.counts[at].all == 0 {
            self.counts.remove(at);
            let list = self.list(options);
            if let Some(place) = list.iter().position(|&other| other == id) {
                list.swap_remove(place);
            }
        }
    }

    /// Where tokens in the window are listed.
    fn list(&mut self, options: &SamplingOptions) -> &mut Vec<u32> {
        if options.only_lowers() { &mut self.lowered } else { &mut self.raised }
    }
}
