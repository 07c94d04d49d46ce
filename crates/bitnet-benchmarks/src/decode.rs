//! Generation: every step reads all weights once for all sequences.

use std::time::Instant;

use bitnet_device::{Choose, Need, Output, Span, Support};
use bitnet_inference::argmax;

use crate::{
    BenchmarkError,
    measure::{Bench, Repetition},
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

/// The greedy choice behind every span, as a session makes it: with as many logits as a proof takes.
pub(crate) struct Greedy<'a>(pub(crate) &'a mut Vec<Choice>);

impl Greedy<'_> {
    fn take(&mut self, output: usize, choice: Choice) {
        if self.0.len() <= output {
            self.0.resize(output + 1, Choice { id: 0, logit: f32::NAN });
        }
        self.0[output] = choice;
    }
}

impl Choose for Greedy<'_> {
    fn need(&self, _: usize) -> Option<Need<'_>> {
        Some(Need { best: 1, ..Need::default() })
    }

    fn some(&mut self, output: usize, found: &Support<'_>) -> bool {
        let best = Choice::of(found.logits);
        let proven = found.ids.get(best.id as usize).filter(|_| best.logit >= found.floor);
        if let Some(&id) = proven {
            self.take(output, Choice { id, ..best });
        }
        proven.is_some()
    }

    fn all(&mut self, output: usize, logits: &[f32]) {
        self.take(output, Choice::of(logits));
    }
}

impl Bench<'_> {
    /// `tokens` greedy steps of `batch` sequences that hold `depth` positions. Forward passes and the choice of tokens are timed.
    pub(crate) fn generate(
        &mut self,
        tokens: usize,
        depth: usize,
        batch: usize,
    ) -> Result<Repetition, BenchmarkError> {
        let vocab = self.subject.model().config().vocab;
        let mut ids: Vec<u32> = (0..batch).map(|i| ((i * 7919 + 1) % vocab) as u32).collect();
        self.rewind(depth)?;
        let (mut seconds, mut checksum, mut finite) = (0.0, Checksum::new(), true);
        let mut choices = Vec::with_capacity(batch);
        let span = |&sequence: &_| Span { sequence, tokens: 1, output: Output::Last };
        let spans: Vec<_> = self.sequences[..batch].iter().map(span).collect();
        for _ in 0..tokens {
            if self.watcher.stopped() {
                return Err(BenchmarkError::Stopped);
            }
            choices.clear();
            let started = Instant::now();
            self.subject.runner.step(&ids, &spans, &mut Greedy(&mut choices), None)?;
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
