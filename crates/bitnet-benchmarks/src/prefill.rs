//! Prompts: weights are unpacked once for many tokens.

use std::time::Instant;

use bitnet_device::{Output, Span};

use crate::{
    BenchmarkError,
    decode::{Checksum, Greedy},
    measure::{Bench, CHUNK, Repetition},
};

impl Bench<'_> {
    /// A prompt of `tokens`, shared out evenly over `batch` sequences that hold `depth` positions, up to the logits behind
    /// each one's last token.
    pub(crate) fn prompt(
        &mut self,
        tokens: usize,
        depth: usize,
        batch: usize,
    ) -> Result<Repetition, BenchmarkError> {
        let (each, vocab) = ((tokens / batch).max(1), self.subject.model().config().vocab);
        let ids: Vec<u32> = (0..each * batch).map(|i| ((i * 6151 + 3) % vocab) as u32).collect();
        self.rewind(depth)?;
        let (mut seconds, mut passes, mut checksum, mut finite) = (0.0, 0, Checksum::new(), true);
        let mut choices = Vec::with_capacity(batch);
        // So many sequences fit into one pass, and so many tokens of each.
        let (together, part) = if each >= CHUNK { (1, CHUNK) } else { (CHUNK / each, each) };
        let sequences = self.sequences[..batch].chunks(together);
        for (ids, sequences) in ids.chunks(each * together).zip(sequences) {
            let mut start = 0;
            while start < each {
                if self.watcher.stopped() {
                    return Err(BenchmarkError::Stopped);
                }
                let tokens = part.min(each - start);
                let last = start + tokens == each;
                let pass: Vec<u32> =
                    ids.chunks(each).flat_map(|own| &own[start..start + tokens]).copied().collect();
                let output = if last { Output::Last } else { Output::None };
                let span = |&sequence: &_| Span { sequence, tokens, output };
                let spans: Vec<_> = sequences.iter().map(span).collect();
                choices.clear();
                let started = Instant::now();
                self.subject.runner.step(&pass, &spans, &mut Greedy(&mut choices), None)?;
                passes += 1;
                seconds += started.elapsed().as_secs_f64();
                finite &= choices.iter().all(|c| c.logit.is_finite());
                choices.iter().for_each(|&choice| checksum.add(choice));
                start += tokens;
            }
        }
        Ok(Repetition { seconds, tokens: each * batch, passes, checksum: checksum.0, finite })
    }
}
