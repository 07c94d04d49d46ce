//! A device that tells which operation runs, for those who want to know where the time goes. It computes nothing itself;
//! models that nobody watches do not know of it.

use std::marker::PhantomData;

use bitnet_quant::{Activations, ScreenTable};

use crate::{
    Batch, Device, DeviceError, Gated, Job, KvShape, Needs, Observe, PageId, Pass, Recur, ScreenCounts,
    Screening, SequenceShape, Skipping, Stage, Support, Transform,
};
use bitnet_model::{GateActivation, MatrixForm, Part, Projection, Weight};

/// What a step of a forward pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Rows of the embedding, and rows moved together.
    Embed,
    /// Norms.
    Norm,
    /// Activations into the basis of folded weights.
    Transform,
    /// Activations to int8.
    Quantize,
    /// Queries, keys, values and their gates.
    Qkv,
    /// Angles of the positions and their rotation.
    Rope,
    /// Keys and values into the cache.
    Append,
    /// Attention.
    Attend,
    /// Convolution and recurrence of the blocks that have no attention.
    Recur,
    /// The output projection.
    Output,
    /// Gate and up.
    GateUp,
    /// The gate's nonlinearity.
    Gate,
    /// The down projection.
    Down,
    /// Residual sums.
    Add,
    /// The head.
    Head,
}

impl Operation {
    /// All of them, in the order in which a token meets them.
    pub const ALL: [Self; 15] = [
        Self::Embed,
        Self::Norm,
        Self::Transform,
        Self::Quantize,
        Self::Qkv,
        Self::Rope,
        Self::Append,
        Self::Attend,
        Self::Recur,
        Self::Output,
        Self::GateUp,
        Self::Gate,
        Self::Down,
        Self::Add,
        Self::Head,
    ];

    fn of(part: Part) -> Self {
        match part {
            Part::Weight(_, projection) => match projection {
                Projection::Query
                | Projection::Key
                | Projection::Value
                | Projection::AttentionGate
                | Projection::DeltaInput
                | Projection::DeltaGate
                | Projection::DeltaBeta
                | Projection::DeltaDecay => Self::Qkv,
                Projection::Output | Projection::DeltaOutput => Self::Output,
                Projection::Gate | Projection::Up => Self::GateUp,
                Projection::Down => Self::Down,
            },
            _ => Self::Head,
        }
    }
}

/// Runs every operation, and may look at a clock before and after.
pub trait Watch: Send + Sync {
    /// Runs `work`, which is `operation` and reads `bytes` bytes of matrices.
    fn run<R>(&self, operation: Operation, bytes: usize, work: impl FnOnce() -> R) -> R;
}

/// `D`, watched by `W`.
pub struct Watched<D, W> {
    inner: D,
    watch: W,
}

impl<D, W> Watched<D, W> {
    /// `inner`, watched by `watch`.
    pub fn new(inner: D, watch: W) -> Self {
        Self { inner, watch }
    }

    /// The device that does the work.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The watcher.
    pub fn watch(&self) -> &W {
        &self.watch
    }
}

/// A matrix and what it is.
pub struct Marked<M> {
    part: Part,
    matrix: M,
}

impl<D: Device, W: Watch> Job<'_, Watched<D, W>> {
    fn unmarked(&mut self) -> Job<'_, D> {
        Job { weight: &self.weight.matrix, bias: self.bias, out: self.out }
    }
}

impl<D: Device, W: Watch> Device for Watched<D, W> {
    type Matrix = Marked<D::Matrix>;
    type Vector = D::Vector;
    type Rows = D::Rows;
    type Codes = D::Codes;
    type Pages = D::Pages;
    type Scratch = D::Scratch;
    type Pass<'a>
        = WatchedPass<'a, D, W>
    where
        Self: 'a;
    type Screen = WatchedScreen<D::Screen>;
    type Skip = WatchedSkip<D::Skip>;

    fn matrix(
        &self,
        part: Part,
        name: &str,
        weight: Weight,
        form: MatrixForm,
    ) -> Result<Self::Matrix, DeviceError> {
        Ok(Marked { part, matrix: self.inner.matrix(part, name, weight, form)? })
    }

    fn vector(&self, values: &[f32]) -> Result<Self::Vector, DeviceError> {
        self.inner.vector(values)
    }

    fn is_ternary(&self, matrix: &Self::Matrix) -> bool {
        self.inner.is_ternary(&matrix.matrix)
    }

    fn bytes_read(&self, matrix: &Self::Matrix) -> usize {
        self.inner.bytes_read(&matrix.matrix)
    }

    fn rows(&self, capacity: usize, width: usize) -> Result<Self::Rows, DeviceError> {
        self.inner.rows(capacity, width)
    }

    fn codes(&self, capacity: usize, width: usize) -> Result<Self::Codes, DeviceError> {
        self.inner.codes(capacity, width)
    }

    fn pages(&self, shape: SequenceShape, context: usize) -> Result<Self::Pages, DeviceError> {
        self.inner.pages(shape, context)
    }

    fn page_bytes(&self, pages: &Self::Pages) -> usize {
        self.inner.page_bytes(pages)
    }

    fn add_page(&self, pages: &mut Self::Pages) -> Result<(), DeviceError> {
        self.inner.add_page(pages)
    }

    fn state_bytes(&self, pages: &Self::Pages) -> usize {
        self.inner.state_bytes(pages)
    }

    fn add_state(&self, pages: &mut Self::Pages) -> Result<(), DeviceError> {
        self.inner.add_state(pages)
    }

    fn copy_page(&self, pages: &mut Self::Pages, from: PageId, to: PageId) -> Result<(), DeviceError> {
        self.inner.copy_page(pages, from, to)
    }

    fn scratch(
        &self,
        shape: KvShape,
        heads: usize,
        context: usize,
        tokens: usize,
    ) -> Result<Self::Scratch, DeviceError> {
        self.inner.scratch(shape, heads, context, tokens)
    }

    fn begin<'a>(
        &'a self,
        batch: Batch<'a>,
        pages: &'a mut Self::Pages,
        observer: Option<&'a mut (dyn Observe + 'a)>,
    ) -> Result<Self::Pass<'a>, DeviceError> {
        Ok(WatchedPass { inner: self.inner.begin(batch, pages, observer)?, watched: self })
    }

    fn read<'a>(&self, rows: &'a Self::Rows, count: usize) -> &'a [f32] {
        self.inner.read(rows, count)
    }
}

/// A step whose operations are watched.
pub struct WatchedPass<'a, D: Device + 'a, W> {
    inner: D::Pass<'a>,
    watched: &'a Watched<D, W>,
}

impl<'a, D: Device, W: Watch> Pass<'a, Watched<D, W>> for WatchedPass<'a, D, W> {
    type Pending = <D::Pass<'a> as Pass<'a, D>>::Pending;

    fn embed(&mut self, table: &Marked<D::Matrix>, out: &mut D::Rows) {
        self.watched.watch.run(Operation::Embed, 0, || self.inner.embed(&table.matrix, out));
    }

    fn gather(&mut self, x: &D::Rows, rows: &[u32], out: &mut D::Rows) {
        self.watched.watch.run(Operation::Embed, 0, || self.inner.gather(x, rows, out));
    }

    fn rms_norm(&mut self, x: &D::Rows, tokens: usize, weight: &D::Vector, eps: f32, out: &mut D::Rows) {
        let work = || self.inner.rms_norm(x, tokens, weight, eps, out);
        self.watched.watch.run(Operation::Norm, 0, work);
    }

    fn rms_norm_heads(&mut self, x: &mut D::Rows, tokens: usize, weight: &D::Vector, eps: f32) {
        let work = || self.inner.rms_norm_heads(x, tokens, weight, eps);
        self.watched.watch.run(Operation::Norm, 0, work);
    }

    fn quantize(&mut self, x: &D::Rows, tokens: usize, form: Activations, out: &mut D::Codes) {
        self.watched.watch.run(Operation::Quantize, 0, || self.inner.quantize(x, tokens, form, out));
    }

    fn project(
        &mut self,
        x: &D::Rows,
        codes: &D::Codes,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Watched<D, W>>],
    ) {
        let operation = jobs.first().map_or(Operation::Head, |job| Operation::of(job.weight.part));
        let bytes = jobs.iter().map(|job| self.watched.bytes_read(job.weight)).sum();
        let mut inner = |jobs: &mut [Job<'_, D>]| self.inner.project(x, codes, form, tokens, jobs);
        self.watched.watch.run(operation, bytes, || match jobs {
            [a, b, c] => inner(&mut [a.unmarked(), b.unmarked(), c.unmarked()]),
            [a, b] => inner(&mut [a.unmarked(), b.unmarked()]),
            others => others.iter_mut().for_each(|job| inner(&mut [job.unmarked()])),
        });
    }

    fn angles(&mut self, frequencies: &D::Vector, factor: f32, out: &mut D::Rows) {
        self.watched.watch.run(Operation::Rope, 0, || self.inner.angles(frequencies, factor, out));
    }

    fn transform(
        &mut self,
        x: &D::Rows,
        tokens: usize,
        how: Transform,
        block: usize,
        signs: Option<&D::Vector>,
        out: &mut D::Rows,
    ) {
        let work = || self.inner.transform(x, tokens, how, block, signs, out);
        self.watched.watch.run(Operation::Transform, 0, work);
    }

    fn rope(&mut self, x: &mut D::Rows, tokens: usize, head_dim: usize, angles: &D::Rows) {
        self.watched.watch.run(Operation::Rope, 0, || self.inner.rope(x, tokens, head_dim, angles));
    }

    fn convolve(&mut self, layer: usize, x: &mut D::Rows, weights: &D::Vector) {
        self.watched.watch.run(Operation::Recur, 0, || self.inner.convolve(layer, x, weights));
    }

    fn recur(&mut self, layer: usize, inputs: Recur<'_, Watched<D, W>>, out: &mut D::Rows) {
        let Recur { mixed, beta, decay, rate, bias } = inputs;
        let work = || self.inner.recur(layer, Recur { mixed, beta, decay, rate, bias }, out);
        self.watched.watch.run(Operation::Recur, 0, work);
    }

    fn append(&mut self, layer: usize, k: &D::Rows, v: &D::Rows) {
        self.watched.watch.run(Operation::Append, 0, || self.inner.append(layer, k, v));
    }

    fn attend(&mut self, layer: usize, q: &D::Rows, scratch: &mut D::Scratch, out: &mut D::Rows) {
        self.watched.watch.run(Operation::Attend, 0, || self.inner.attend(layer, q, scratch, out));
    }

    fn gate(&mut self, activation: GateActivation, gate: &mut D::Rows, up: &D::Rows, tokens: usize) {
        self.watched.watch.run(Operation::Gate, 0, || self.inner.gate(activation, gate, up, tokens));
    }

    fn sigmoid_gate(&mut self, gate: &mut D::Rows, x: &D::Rows, tokens: usize) {
        self.watched.watch.run(Operation::Gate, 0, || self.inner.sigmoid_gate(gate, x, tokens));
    }

    fn add(&mut self, x: &mut D::Rows, y: &D::Rows, tokens: usize) {
        self.watched.watch.run(Operation::Add, 0, || self.inner.add(x, y, tokens));
    }

    fn look(&mut self, stage: Stage, rows: &D::Rows, tokens: usize) {
        self.inner.look(stage, rows, tokens);
    }

    fn fetch(&mut self, rows: &mut D::Rows, count: usize) {
        self.inner.fetch(rows, count);
    }

    fn submit(self) -> Result<Self::Pending, DeviceError> {
        self.inner.submit()
    }
}

/// A watched device's screen.
pub struct WatchedScreen<S>(S);

impl<D: Device, W: Watch> Screening<Watched<D, W>> for WatchedScreen<D::Screen> {
    type Room = <D::Screen as Screening<D>>::Room;

    fn of(
        device: &Watched<D, W>,
        head: &Marked<D::Matrix>,
        stored: Option<ScreenTable>,
    ) -> Result<Option<Self>, DeviceError> {
        Ok(D::Screen::of(&device.inner, &head.matrix, stored)?.map(Self))
    }

    fn bytes_read(&self) -> usize {
        self.0.bytes_read()
    }

    fn room(&self, device: &Watched<D, W>, capacity: usize) -> Result<Self::Room, DeviceError> {
        self.0.room(&device.inner, capacity)
    }

    fn find(
        &self,
        pass: &mut WatchedPass<'_, D, W>,
        head: &Marked<D::Matrix>,
        x: &D::Rows,
        wanted: (usize, Needs<'_>),
        room: &mut Self::Room,
    ) {
        let WatchedPass { inner, watched } = pass;
        let work = || self.0.find(inner, &head.matrix, x, wanted, room);
        watched.watch.run(Operation::Head, self.0.bytes_read(), work);
    }

    fn found<'a>(&self, room: &'a Self::Room, position: usize) -> Option<Support<'a>> {
        self.0.found(room, position)
    }

    fn counts(&self, room: &Self::Room) -> ScreenCounts {
        self.0.counts(room)
    }
}

/// How a watched device leaves out rows.
pub struct WatchedSkip<S>(PhantomData<S>);

impl<D: Device, W: Watch> Skipping<Watched<D, W>> for WatchedSkip<D::Skip> {
    fn applies(matrix: &Marked<D::Matrix>) -> bool {
        D::Skip::applies(&matrix.matrix)
    }

    fn gate(pass: &mut WatchedPass<'_, D, W>, gated: Gated<'_, Watched<D, W>>, tokens: usize) {
        let WatchedPass { inner, watched } = pass;
        // How many rows it leaves out is not known here: these are the bytes of all of them.
        let bytes = watched.bytes_read(gated.up);
        let Gated { up, x, codes, gate, spare } = gated;
        let work = || D::Skip::gate(inner, Gated { up: &up.matrix, x, codes, gate, spare }, tokens);
        watched.watch.run(Operation::GateUp, bytes, work);
    }
}
