//! Generation: every step reads all weights once for all sequences.

use std::time::Instant;

use bitnet_inference::argmax;
use bitnet_model::{Model, Need, Outcome, Output, Span, State};

use crate::{
    BenchmarkError,
    measure::{Bench, Kv, Repetition},
    subject::Device,
};

/// FNV-1a over the bits of numbers.
pub(crate) struct Checksum(pub(crate) u64);

impl Checksum {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, choice: Choice) {
        for bits in [choice.id, choice.logit.to_bits()] {
            self.0 = (self.0 ^ u64::from(bits)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The token with the largest logit, and that logit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    pub(crate) logit: f32,
}

impl Choice {
    fn of(logits: &[f32]) -> Self {
        let id = argmax(logits);
        Self { id, logit: logits.get(id as usize).copied().unwrap_or(f32::NAN) }
    }
}

/// One pass and the greedy choice behind every span, as a session makes them: with as many logits as a proof takes.
pub(crate) fn choose(
    model: &Model<Device>,
    state: &mut State<Device>,
    ids: &[u32],
    spans: &mut [Span<'_, Kv>],
    choices: &mut Vec<Choice>,
) -> Result<(), BenchmarkError> {
    let needs = vec![Need { best: 1, ..Need::default() }; spans.len()];
    model.forward_support(state, ids, spans, &needs, |_, _| {})?;
    choices.clear();
    for span in 0..needs.len() {
        let chosen = match model.outcome(state, span) {
            Outcome::All(logits) => Some(Choice::of(logits)),
            Outcome::Part(support) => {
                let best = Choice::of(support.logits);
                let id = support.ids.get(best.id as usize);
                id.filter(|_| best.logit >= support.floor).map(|&id| Choice { id, ..best })
            }
        };
        match chosen {
            Some(choice) => choices.push(choice),
            None => break,
        }
    }
    if choices.len() < needs.len() {
        let vocab = model.config().vocab;
        choices.clear();
        choices.extend(model.complete(state).chunks_exact(vocab).map(Choice::of));
    }
    Ok(())
}

impl Bench<'_> {
    /// `tokens` greedy steps of `batch` sequences that hold `depth` positions. Forward passes and the choice of tokens are timed.
    pub(crate) fn generate(
        &mut self,
        tokens: usize,
        depth: usize,
        batch: usize,
    ) -> Result<Repetition, BenchmarkError> {
        let vocab = self.subject.model.config().vocab;
        let mut ids: Vec<u32> = (0..batch).map(|i| ((i * 7919 + 1) % vocab) as u32).collect();
        self.sequences.iter_mut().for_each(|s| s.truncate(depth));
        let (mut seconds, mut checksum, mut finite) = (0.0, Checksum::new(), true);
        let mut choices = Vec::with_capacity(batch);
        for _ in 0..tokens {
            if self.watcher.stopped() {
                return Err(BenchmarkError::Stopped);
            }
            let mut spans: Vec<_> = self.sequences[..batch]
                .iter_mut()
                .map(|sequence| Span { sequence, tokens: 1, output: Output::Last })
                .collect();
            let started = Instant::now();
            choose(&self.subject.model, &mut self.state, &ids, &mut spans, &mut choices)?;
            seconds += started.elapsed().as_secs_f64();
            for (id, &choice) in ids.iter_mut().zip(&choices) {
                *id = choice.id;
                finite &= choice.logit.is_finite();
                checksum.add(choice);
            }
        }
        Ok(Repetition { seconds, tokens: tokens * batch, passes: tokens, checksum: checksum.0, finite })
    }
}
