//! A model at work: its open sequences, their pages, and one set of buffers for all of them.

use crate::{
    DecoderError, Model,
    state::{State, logits_at_once},
};
use bitnet_device::{
    Batch, Choose, Device, DeviceError, Observe, PageId, PageStore, PageUse, Pass, Pending, ScreenCounts,
    SequenceSizes, Sequences, Span,
};

/// How large a [`Runner`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerOptions {
    /// Tokens of a step that there is room for from the beginning; larger steps make more room.
    pub tokens: usize,
    /// Positions that a sequence may hold.
    pub context: usize,
    /// Bytes of keys, values and recurrent states that all sequences together may hold; as many as memory has room for when `None`.
    pub kv_bytes: Option<usize>,
}

/// A model at work on its open sequences, one step at a time.
///
/// A row's numbers depend on its own sequence only, never on what shares the step or how the tokens were cut into steps.
pub struct Runner<D: Device> {
    model: Model<D>,
    sequences: Sequences,
    pages: D::Pages,
    state: State<D>,
}

/// The pages of a device, by number.
struct Store<'a, D: Device> {
    device: &'a D,
    pages: &'a mut D::Pages,
}

impl<D: Device> PageStore for Store<'_, D> {
    fn add(&mut self) -> Result<(), DeviceError> {
        self.device.add_page(self.pages)
    }

    fn copy(&mut self, from: PageId, to: PageId) -> Result<(), DeviceError> {
        self.device.copy_page(self.pages, from, to)
    }

    fn add_state(&mut self) -> Result<(), DeviceError> {
        self.device.add_state(self.pages)
    }
}

impl<D: Device> Runner<D> {
    /// `model` without a sequence.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(model: Model<D>, options: RunnerOptions) -> Result<Self, DecoderError> {
        let (pages, sequences, state) = rooms(&model, options)?;
        Ok(Self { model, sequences, pages, state })
    }

    /// The model.
    pub fn model(&self) -> &Model<D> {
        &self.model
    }

    /// Closes all sequences and becomes as large as `options` say.
    ///
    /// # Errors
    /// When the device has no room; nothing has changed then.
    pub fn resize(&mut self, options: RunnerOptions) -> Result<(), DecoderError> {
        (self.pages, self.sequences, self.state) = rooms(&self.model, options)?;
        Ok(())
    }

    /// Runs the model through another handle of the same device from now on: with other threads, for instance.
    pub fn set_device(&mut self, device: D) {
        self.model.set_device(device);
    }

    /// The model, without its sequences.
    pub fn into_model(self) -> Model<D> {
        self.model
    }

    /// The open sequences: to open, fork, truncate and close them.
    pub fn sequences(&mut self) -> &mut Sequences {
        &mut self.sequences
    }

    /// What pages and states are used for.
    pub fn pages(&self) -> PageUse {
        self.sequences.pages()
    }

    /// How often the screen of the head was enough.
    pub fn screen_counts(&self) -> ScreenCounts {
        self.state.head.screen_counts(self.model.weights.screen.as_ref())
    }

    /// Runs one step: `ids` are the next tokens of the spans' sequences, one span after another. `choose` is given the logits
    /// of every position that the spans want logits of; `observer` sees the stages that it wants.
    ///
    /// # Errors
    /// [`DecoderError::Token`] for an id outside the vocabulary, [`DecoderError::Sequence`] when a sequence is closed or full or
    /// pages run out, [`DecoderError::Device`] when the device fails: every sequence is then as it was.
    ///
    /// # Panics
    /// When the spans do not add up to `ids`.
    pub fn step(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        choose: &mut dyn Choose,
        observer: Option<&mut dyn Observe>,
    ) -> Result<(), DecoderError> {
        let vocab = self.model.config.vocab;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(DecoderError::Token { id, vocab });
        }
        let Self { model, sequences, pages, state, .. } = self;
        let mut store = Store { device: &model.device, pages: &mut *pages };
        sequences.plan::<DecoderError>(ids, spans, &mut store)?;
        let result = run(model, state, pages, sequences.batch(ids), sequences.capacity(), choose, observer);
        match result {
            Ok(()) => sequences.commit(spans),
            Err(_) => sequences.abandon(spans),
        }
        result
    }
}

/// What a runner of `model` works in: pages, sequences and the buffers of a step.
fn rooms<D: Device>(
    model: &Model<D>,
    options: RunnerOptions,
) -> Result<(D::Pages, Sequences, State<D>), DecoderError> {
    let RunnerOptions { tokens, context, kv_bytes } = options;
    let pages = model.device.pages(model.sequence_shape(), context)?;
    let sequences = Sequences::new(SequenceSizes {
        capacity: context,
        page_bytes: model.device.page_bytes(&pages),
        state_bytes: model.device.state_bytes(&pages),
        budget: kv_bytes,
    });
    Ok((pages, sequences, model.state(tokens.max(1), context)?))
}

/// One step over a planned batch.
fn run<D: Device>(
    model: &Model<D>,
    state: &mut State<D>,
    pages: &mut D::Pages,
    batch: Batch<'_>,
    context: usize,
    choose: &mut dyn Choose,
    observer: Option<&mut dyn Observe>,
) -> Result<(), DecoderError> {
    let (device, tokens) = (&model.device, batch.ids.len());
    if tokens > state.capacity {
        // To the next power of two, so that steps which grow one by one do not make all buffers anew each time.
        let counts = state.head.screen_counts(model.weights.screen.as_ref());
        *state = model.state(tokens.next_power_of_two(), context)?;
        state.head.counts = counts;
    }
    // Later passes compute logits only, which nobody observes.
    let mut pass = match observer {
        Some(observer) => device.begin(batch, pages, Some(observer))?,
        None => device.begin(batch, pages, None)?,
    };
    model.blocks(&mut pass, state, tokens);
    model.final_norm(&mut pass, state, batch.outputs, tokens);
    model.screen(&mut pass, state, batch.outputs.len(), choose)?;
    let mut done = 0;
    loop {
        let end = state.head.full.len().min(done + logits_at_once(model.config.vocab));
        model.logits(&mut pass, state, done..end, batch.outputs.len())?;
        pass.submit()?.wait()?;
        model.tell(state, done..end, choose);
        done = end;
        if done == state.head.full.len() {
            return Ok(());
        }
        pass = device.begin(batch, pages, None)?;
    }
}
