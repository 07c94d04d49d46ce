//! What runs a model's steps. The engine knows nothing of the device behind it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bitnet_decoder::{DecoderError, Runner};
use bitnet_device::{Choose, Device, Observe, PageUse, ScreenCounts, SequenceId, Span};

/// A loaded model on some device, with its open sequences. Steps are made one at a time, whoever asks.
pub trait Runs: Send + Sync {
    /// Opens an empty sequence. It takes pages as it grows.
    fn open(&self) -> SequenceId;

    /// Opens a sequence that holds the first `at` positions of another one, or as many as [`Runs::truncate`] would leave. It shares
    /// their memory.
    ///
    /// # Errors
    /// When `sequence` is closed.
    fn fork(&self, sequence: SequenceId, at: usize) -> Result<SequenceId, DecoderError>;

    /// Forgets positions of a sequence until at most `len` are left, and returns how many are: `len`, or fewer where the model has
    /// recurrent blocks and none of their states was kept there.
    ///
    /// # Errors
    /// When `sequence` is closed.
    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<usize, DecoderError>;

    /// Keeps what recurrent blocks know at the present end of a sequence, so that it can go back there.
    ///
    /// # Errors
    /// When `sequence` is closed.
    fn keep(&self, sequence: SequenceId) -> Result<(), DecoderError>;

    /// How many positions a sequence holds.
    ///
    /// # Errors
    /// When `sequence` is closed.
    fn len(&self, sequence: SequenceId) -> Result<usize, DecoderError>;

    /// Closes a sequence: its pages are others' now.
    fn close(&self, sequence: SequenceId);

    /// Runs one step: `ids` are the next tokens of the spans' sequences, one span after another. `choose` is given the logits
    /// of every position that the spans want logits of; `observer` sees the stages that it wants. Neither may call this model: it
    /// is in the middle of a step.
    ///
    /// # Errors
    /// As [`Runner::step`]: every sequence is then as it was.
    fn step(
        &self,
        ids: &[u32],
        spans: &[Span],
        choose: &mut dyn Choose,
        observer: Option<&mut dyn Observe>,
    ) -> Result<(), DecoderError>;

    /// What the pages of keys and values are used for.
    fn pages(&self) -> PageUse;

    /// How often the screen of the head was enough.
    fn screen_counts(&self) -> ScreenCounts;
}

fn lock<D: Device>(runner: &Mutex<Runner<D>>) -> MutexGuard<'_, Runner<D>> {
    // A step that panics has not been committed: its sequences are as they were.
    runner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Device> Runs for Mutex<Runner<D>> {
    fn open(&self) -> SequenceId {
        lock(self).sequences().open()
    }

    fn fork(&self, sequence: SequenceId, at: usize) -> Result<SequenceId, DecoderError> {
        Ok(lock(self).sequences().fork(sequence, at)?)
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<usize, DecoderError> {
        Ok(lock(self).sequences().truncate(sequence, len)?)
    }

    fn keep(&self, sequence: SequenceId) -> Result<(), DecoderError> {
        Ok(lock(self).sequences().keep(sequence)?)
    }

    fn len(&self, sequence: SequenceId) -> Result<usize, DecoderError> {
        Ok(lock(self).sequences().len(sequence)?)
    }

    fn close(&self, sequence: SequenceId) {
        lock(self).sequences().close(sequence);
    }

    fn step(
        &self,
        ids: &[u32],
        spans: &[Span],
        choose: &mut dyn Choose,
        observer: Option<&mut dyn Observe>,
    ) -> Result<(), DecoderError> {
        lock(self).step(ids, spans, choose, observer)
    }

    fn pages(&self) -> PageUse {
        lock(self).pages()
    }

    fn screen_counts(&self) -> ScreenCounts {
        lock(self).screen_counts()
    }
}
