//! Generation: every step reads all weights once for all sequences.

use std::time::Instant;

use bitnet_inference::argmax;
use bitnet_model::{Logits, Span};

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

    pub(crate) fn add(&mut self, values: &[f32]) {
        for value in values {
            self.0 = (self.0 ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
        }
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
        let vocab = self.subject.model.config().vocab;
        let mut ids: Vec<u32> = (0..batch).map(|i| ((i * 7919 + 1) % vocab) as u32).collect();
        self.sequences.iter_mut().for_each(|s| s.truncate(depth));
        let (mut seconds, mut checksum, mut finite) = (0.0, Checksum::new(), true);
        for _ in 0..tokens {
            if self.watcher.stopped() {
                return Err(BenchmarkError::Stopped);
            }
            let mut spans: Vec<_> =
                self.sequences[..batch].iter_mut().map(|sequence| Span { sequence, tokens: 1 }).collect();
            let started = Instant::now();
            let model = &self.subject.model;
            let logits = model.forward(&mut self.state, &ids, &mut spans, Logits::Last, |_, _| {})?;
            for (id, logits) in ids.iter_mut().zip(logits.chunks_exact(vocab)) {
                *id = argmax(logits);
            }
            seconds += started.elapsed().as_secs_f64();
            finite &= logits.iter().all(|l| l.is_finite());
            checksum.add(logits);
        }
        Ok(Repetition { seconds, tokens: tokens * batch, passes: tokens, checksum: checksum.0, finite })
    }
}
