//! How well a model predicts text that it was not quantized with.

use bitnet_core::ThreadPool;
use bitnet_cpu::Cpu;
use bitnet_decoder::{DecoderError, Model, Runner, RunnerOptions};
use bitnet_device::{Output, Span};
use bitnet_model::{ActivationChoice, PartSource, Wishes};

/// Text in windows: each is a sequence of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    windows: Vec<Vec<u32>>,
}

impl Windows {
    /// Cuts `ids` into windows of `length` tokens, `bos` included where there is one. A tail of fewer than two tokens is left out.
    pub fn new(ids: &[u32], length: usize, bos: Option<u32>) -> Self {
        let body = length.saturating_sub(usize::from(bos.is_some())).max(1);
        let window = |ids: &[u32]| bos.into_iter().chain(ids.iter().copied()).collect::<Vec<_>>();
        Self { windows: ids.chunks(body).map(window).filter(|w| w.len() > 1).collect() }
    }

    /// The last `share`-th part of the windows, taken away from these: at least one, unless there is only one.
    #[must_use]
    pub fn split_off(&mut self, share: usize) -> Self {
        let held = (self.windows.len() / share.max(1)).max(1).min(self.windows.len().saturating_sub(1));
        Self { windows: self.windows.split_off(self.windows.len() - held) }
    }

    /// Tokens of all windows together.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }

    /// Tokens of the longest window, for buffers that fit every one.
    pub fn longest(&self) -> usize {
        self.windows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The windows in order, as ids.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.windows.iter().map(Vec::as_slice)
    }
}

/// Mean negative log-likelihood of every token of `text` but each window's first, in nats.
///
/// # Errors
/// When a part of the model cannot be read, or memory is short.
pub fn loss(
    source: &dyn PartSource,
    cpu: &Cpu,
    text: &Windows,
    choice: ActivationChoice,
) -> Result<f64, DecoderError> {
    let model = Model::load(source, cpu.clone(), cpu.threads(), choice, &Wishes::default(), &|_, _| {})?;
    let longest = text.longest();
    let vocab = model.config().vocab;
    let mut runner = Runner::new(model, RunnerOptions { tokens: longest, context: longest, kv_bytes: None })?;
    let (mut sum, mut count, mut logits) = (0.0, 0usize, Vec::new());
    for window in text.iter() {
        let sequence = runner.sequences().open();
        let span = Span { sequence, tokens: window.len(), output: Output::All };
        logits.clear();
        let mut keep = |_: usize, row: &[f32]| logits.extend_from_slice(row);
        runner.step(window, &[span], &mut keep, None)?;
        runner.sequences().close(sequence);
        let mut parts = vec![0.0f64; window.len() - 1];
        score(cpu, &logits, vocab, &window[1..], &mut parts);
        sum += parts.iter().sum::<f64>();
        count += parts.len();
    }
    Ok(sum / count.max(1) as f64)
}

/// The negative log-likelihood of each of `next`.
fn score(cpu: &Cpu, logits: &[f32], vocab: usize, next: &[u32], out: &mut [f64]) {
    let threads: &ThreadPool = cpu.threads();
    threads.for_each_chunk_mut(out, 1, |i, out| {
        let row = &logits[i * vocab..(i + 1) * vocab];
        out[0] = f64::from(cpu.kernel().log_sum_exp(row) - row[next[i] as usize]);
    });
}

/// What the backend of calibration and evaluation is: keys and values as they are, the head in full.
pub(crate) fn exact(cpu: Cpu) -> Cpu {
    cpu.with_kv(bitnet_cpu::KvType::F32).with_head(bitnet_cpu::HeadChoice::Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_every_token_once_and_begin_alike() {
        let ids: Vec<u32> = (10..23).collect();
        let windows = Windows::new(&ids, 5, Some(1));
        let all: Vec<&[u32]> = windows.iter().collect();
        assert_eq!(all[0], [1, 10, 11, 12, 13]);
        assert_eq!(all[3], [1, 22]);
        assert_eq!((windows.tokens(), windows.longest()), (17, 5));
        // Without a first token a single one predicts nothing.
        assert_eq!(Windows::new(&ids, 4, None).iter().count(), 3);
    }

    #[test]
    fn what_is_held_out_is_not_kept() {
        let mut windows = Windows::new(&(0..80).collect::<Vec<_>>(), 5, None);
        let held = windows.split_off(8);
        assert_eq!((windows.iter().count(), held.iter().count()), (14, 2));
        assert_eq!(held.iter().next().unwrap()[0], 70);
        let mut one = Windows::new(&[1, 2, 3], 5, None);
        assert_eq!(one.split_off(8).iter().count(), 0, "the only window stays");
    }
}
