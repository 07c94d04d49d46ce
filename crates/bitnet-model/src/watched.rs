//! A backend that tells which operation runs, for those who want to know where the time goes. It computes nothing itself;
//! models that nobody watches do not know of it.

use bitnet_quant::{Activations, ScreenTable};

use crate::{
    Backend, GateActivation, Job, KvShape, MatrixForm, ModelError, Need, Part, Projection, ScreenCounts,
    Span, Support, Weight,
};

/// What a step of a forward pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Rows of the embedding.
    Embed,
    /// Norms.
    Norm,
    /// Activations to int8.
    Quantize,
    /// Queries, keys and values.
    Qkv,
    /// Angles of the positions and their rotation.
    Rope,
    /// Keys and values into the cache.
    Append,
    /// Attention.
    Attend,
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
    pub const ALL: [Self; 13] = [
        Self::Embed,
        Self::Norm,
        Self::Quantize,
        Self::Qkv,
        Self::Rope,
        Self::Append,
        Self::Attend,
        Self::Output,
        Self::GateUp,
        Self::Gate,
        Self::Down,
        Self::Add,
        Self::Head,
    ];

    fn of(part: Part) -> Self {
        match part {
            Part::Weight(_, Projection::Query | Projection::Key | Projection::Value) => Self::Qkv,
            Part::Weight(_, Projection::Output) => Self::Output,
            Part::Weight(_, Projection::Gate | Projection::Up) => Self::GateUp,
            Part::Weight(_, Projection::Down) => Self::Down,
            _ => Self::Head,
        }
    }
}

/// Runs every operation, and may look at a clock before and after.
pub trait Watch: Send + Sync {
    /// Runs `work`, which is `operation` and reads `bytes` bytes of matrices.
    fn run<R>(&self, operation: Operation, bytes: usize, work: impl FnOnce() -> R) -> R;
}

/// `B`, watched by `W`.
pub struct Watched<B, W> {
    inner: B,
    watch: W,
}

impl<B, W> Watched<B, W> {
    /// `inner`, watched by `watch`.
    pub fn new(inner: B, watch: W) -> Self {
        Self { inner, watch }
    }

    /// The backend that does the work.
    pub fn inner(&self) -> &B {
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

impl<B: Backend, W: Watch> Job<'_, Watched<B, W>> {
    fn unmarked(&mut self) -> Job<'_, B> {
        Job { weight: &self.weight.matrix, bias: self.bias, out: self.out }
    }
}

impl<B: Backend, W: Watch> Backend for Watched<B, W> {
    type Matrix = Marked<B::Matrix>;
    type Vector = B::Vector;
    type Rows = B::Rows;
    type Codes = B::Codes;
    type Kv = B::Kv;
    type Scratch = B::Scratch;
    type Screen = B::Screen;
    type ScreenRoom = B::ScreenRoom;

    fn matrix(
        &self,
        part: Part,
        name: &str,
        weight: Weight,
        form: MatrixForm,
    ) -> Result<Self::Matrix, ModelError> {
        Ok(Marked { part, matrix: self.inner.matrix(part, name, weight, form)? })
    }

    fn vector(&self, values: &[f32]) -> Result<Self::Vector, ModelError> {
        self.inner.vector(values)
    }

    fn is_ternary(&self, matrix: &Self::Matrix) -> bool {
        self.inner.is_ternary(&matrix.matrix)
    }

    fn skips_rows(&self, matrix: &Self::Matrix) -> bool {
        self.inner.skips_rows(&matrix.matrix)
    }

    fn bytes_read(&self, matrix: &Self::Matrix) -> usize {
        self.inner.bytes_read(&matrix.matrix)
    }

    fn kv_bytes(&self, kv: &Self::Kv) -> usize {
        self.inner.kv_bytes(kv)
    }

    fn rows(&self, capacity: usize, width: usize) -> Result<Self::Rows, ModelError> {
        self.inner.rows(capacity, width)
    }

    fn codes(&self, capacity: usize, width: usize) -> Result<Self::Codes, ModelError> {
        self.inner.codes(capacity, width)
    }

    fn kv(&self, shape: KvShape) -> Result<Self::Kv, ModelError> {
        self.inner.kv(shape)
    }

    fn copy_kv(&self, from: &Self::Kv, positions: usize, to: &mut Self::Kv) -> Result<(), ModelError> {
        self.inner.copy_kv(from, positions, to)
    }

    fn scratch(&self, shape: KvShape, heads: usize, tokens: usize) -> Result<Self::Scratch, ModelError> {
        self.inner.scratch(shape, heads, tokens)
    }

    fn read<'a>(&self, rows: &'a Self::Rows, tokens: usize) -> &'a [f32] {
        self.inner.read(rows, tokens)
    }

    fn embed(&self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Rows) {
        self.watch.run(Operation::Embed, 0, || self.inner.embed(&table.matrix, ids, out));
    }

    fn output_rows(&self, x: &Self::Rows, spans: &[Span<'_, Self::Kv>], out: &mut Self::Rows) {
        self.watch.run(Operation::Embed, 0, || self.inner.output_rows(x, spans, out));
    }

    fn rms_norm(&self, x: &Self::Rows, tokens: usize, weight: &Self::Vector, eps: f32, out: &mut Self::Rows) {
        self.watch.run(Operation::Norm, 0, || self.inner.rms_norm(x, tokens, weight, eps, out));
    }

    fn rms_norm_heads(&self, x: &mut Self::Rows, tokens: usize, weight: &Self::Vector, eps: f32) {
        self.watch.run(Operation::Norm, 0, || self.inner.rms_norm_heads(x, tokens, weight, eps));
    }

    fn quantize(&self, x: &Self::Rows, tokens: usize, form: Activations, out: &mut Self::Codes) {
        self.watch.run(Operation::Quantize, 0, || self.inner.quantize(x, tokens, form, out));
    }

    fn project(
        &self,
        x: &Self::Rows,
        codes: &Self::Codes,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Self>],
    ) {
        let operation = jobs.first().map_or(Operation::Head, |job| Operation::of(job.weight.part));
        let bytes = jobs.iter().map(|job| self.bytes_read(job.weight)).sum();
        let inner = |jobs: &mut [Job<'_, B>]| self.inner.project(x, codes, form, tokens, jobs);
        self.watch.run(operation, bytes, || match jobs {
            [a, b, c] => inner(&mut [a.unmarked(), b.unmarked(), c.unmarked()]),
            [a, b] => inner(&mut [a.unmarked(), b.unmarked()]),
            others => others.iter_mut().for_each(|job| inner(&mut [job.unmarked()])),
        });
    }

    fn screen(
        &self,
        head: &Self::Matrix,
        stored: Option<ScreenTable>,
    ) -> Result<Option<Self::Screen>, ModelError> {
        self.inner.screen(&head.matrix, stored)
    }

    fn screen_bytes(&self, screen: &Self::Screen) -> usize {
        self.inner.screen_bytes(screen)
    }

    fn screen_room(&self, screen: &Self::Screen, capacity: usize) -> Result<Self::ScreenRoom, ModelError> {
        self.inner.screen_room(screen, capacity)
    }

    fn find(
        &self,
        screen: &Self::Screen,
        head: &Self::Matrix,
        x: &Self::Rows,
        needs: &[Need<'_>],
        room: &mut Self::ScreenRoom,
    ) -> bool {
        let bytes = self.inner.screen_bytes(screen);
        self.watch.run(Operation::Head, bytes, || self.inner.find(screen, &head.matrix, x, needs, room))
    }

    fn support<'a>(&self, room: &'a Self::ScreenRoom, position: usize) -> Option<Support<'a>> {
        self.inner.support(room, position)
    }

    fn screen_counts(&self, room: &Self::ScreenRoom) -> ScreenCounts {
        self.inner.screen_counts(room)
    }

    fn angles(
        &self,
        frequencies: &Self::Vector,
        factor: f32,
        spans: &[Span<'_, Self::Kv>],
        out: &mut Self::Rows,
    ) {
        self.watch.run(Operation::Rope, 0, || self.inner.angles(frequencies, factor, spans, out));
    }

    fn rope(&self, x: &mut Self::Rows, tokens: usize, angles: &Self::Rows) {
        self.watch.run(Operation::Rope, 0, || self.inner.rope(x, tokens, angles));
    }

    fn append(&self, layer: usize, k: &Self::Rows, v: &Self::Rows, spans: &mut [Span<'_, Self::Kv>]) {
        self.watch.run(Operation::Append, 0, || self.inner.append(layer, k, v, spans));
    }

    fn attend(
        &self,
        layer: usize,
        q: &Self::Rows,
        spans: &[Span<'_, Self::Kv>],
        scratch: &mut Self::Scratch,
        out: &mut Self::Rows,
    ) {
        self.watch.run(Operation::Attend, 0, || self.inner.attend(layer, q, spans, scratch, out));
    }

    fn gate(&self, activation: GateActivation, gate: &mut Self::Rows, up: &Self::Rows, tokens: usize) {
        self.watch.run(Operation::Gate, 0, || self.inner.gate(activation, gate, up, tokens));
    }

    fn gate_live(
        &self,
        up: &Self::Matrix,
        codes: &Self::Codes,
        gate: &mut Self::Rows,
        spare: &mut Self::Rows,
        tokens: usize,
    ) {
        // How many rows it leaves out is not known here: these are the bytes of all of them.
        let bytes = self.bytes_read(up);
        let work = || self.inner.gate_live(&up.matrix, codes, gate, spare, tokens);
        self.watch.run(Operation::GateUp, bytes, work);
    }

    fn add(&self, x: &mut Self::Rows, y: &Self::Rows, tokens: usize) {
        self.watch.run(Operation::Add, 0, || self.inner.add(x, y, tokens));
    }
}
