//! A device that records operations and runs them on another one when the pass is submitted.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bitnet_device::{
    Batch, Device, DeviceError, Gated, Job, KvShape, Need, Needs, Observe, PageId, Pass, ScreenCounts,
    Screening, Skipping, Stage, Support,
};
use bitnet_model::{GateActivation, MatrixForm, Part, Weight};
use bitnet_quant::{Activations, ScreenTable};

/// Records operations and runs them on `D` when the pass is submitted: until then nothing has been computed, so whoever reads
/// a result in the middle of a pass finds none. Any operation can be made to fail.
#[derive(Clone)]
pub struct Recording<D> {
    inner: D,
    operations: Arc<AtomicUsize>,
    /// The operation that fails, counted from the first; none when it is `usize::MAX`.
    failing: Arc<AtomicUsize>,
}

impl<D> Recording<D> {
    /// Records for `inner`.
    pub fn new(inner: D) -> Self {
        Self { inner, operations: Arc::default(), failing: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    /// Lets the operation that comes after `after` others fail; `None` lets none.
    pub fn fail(&self, after: Option<usize>) {
        let at = after.map_or(usize::MAX, |after| self.operations() + after);
        self.failing.store(at, Ordering::Relaxed);
    }

    /// How many operations have been called, pages added and copied among them.
    pub fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// Counts an operation, and fails if it is its turn.
    fn count(&self, operation: &'static str) -> Result<(), DeviceError> {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        if number == self.failing.load(Ordering::Relaxed) {
            return Err(DeviceError::Failed { operation, reason: "it was told to".into() });
        }
        Ok(())
    }
}

/// Something on the device that the host holds a handle of.
pub struct Handle<T>(Arc<Mutex<T>>);

impl<T> Handle<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    fn share(&self) -> Self {
        Self(self.0.clone())
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows on the device, and what the host has fetched of them.
pub struct RecordedRows<R> {
    rows: Handle<R>,
    fetched: Arc<OnceLock<Vec<f32>>>,
}

type Operation<'a, D> = Box<dyn FnOnce(&mut <D as Device>::Pass<'a>) + 'a>;

/// A pass of which nothing has been computed yet.
pub struct RecordedPass<'a, D: Device + 'a> {
    device: &'a Recording<D>,
    batch: Batch<'a>,
    pages: &'a mut D::Pages,
    observer: Option<&'a mut (dyn Observe + 'a)>,
    operations: Vec<Operation<'a, D>>,
    failure: Option<DeviceError>,
}

impl<'a, D: Device> RecordedPass<'a, D> {
    fn record(&mut self, name: &'static str, operation: impl FnOnce(&mut D::Pass<'a>) + 'a) {
        match self.device.count(name) {
            Ok(()) if self.failure.is_none() => self.operations.push(Box::new(operation)),
            Ok(()) => {}
            Err(error) => self.failure = Some(error),
        }
    }
}

impl<D: Device + 'static> Device for Recording<D> {
    type Matrix = Arc<D::Matrix>;
    type Vector = Arc<D::Vector>;
    type Rows = RecordedRows<D::Rows>;
    type Codes = Handle<D::Codes>;
    type Pages = D::Pages;
    type Scratch = Handle<D::Scratch>;
    type Pass<'a> = RecordedPass<'a, D>;
    type Screen = RecordedScreen<D::Screen>;
    type Skip = RecordedSkip;

    fn matrix(
        &self,
        part: Part,
        name: &str,
        weight: Weight,
        form: MatrixForm,
    ) -> Result<Self::Matrix, DeviceError> {
        Ok(Arc::new(self.inner.matrix(part, name, weight, form)?))
    }

    fn vector(&self, values: &[f32]) -> Result<Self::Vector, DeviceError> {
        Ok(Arc::new(self.inner.vector(values)?))
    }

    fn is_ternary(&self, matrix: &Self::Matrix) -> bool {
        self.inner.is_ternary(matrix)
    }

    fn bytes_read(&self, matrix: &Self::Matrix) -> usize {
        self.inner.bytes_read(matrix)
    }

    fn rows(&self, capacity: usize, width: usize) -> Result<Self::Rows, DeviceError> {
        let rows = Handle::new(self.inner.rows(capacity, width)?);
        Ok(RecordedRows { rows, fetched: Arc::default() })
    }

    fn codes(&self, capacity: usize, width: usize) -> Result<Self::Codes, DeviceError> {
        Ok(Handle::new(self.inner.codes(capacity, width)?))
    }

    fn pages(&self, shape: KvShape, context: usize) -> Result<Self::Pages, DeviceError> {
        self.inner.pages(shape, context)
    }

    fn page_bytes(&self, pages: &Self::Pages) -> usize {
        self.inner.page_bytes(pages)
    }

    fn add_page(&self, pages: &mut Self::Pages) -> Result<(), DeviceError> {
        self.count("adding a page")?;
        self.inner.add_page(pages)
    }

    fn copy_page(&self, pages: &mut Self::Pages, from: PageId, to: PageId) -> Result<(), DeviceError> {
        self.count("copying a page")?;
        self.inner.copy_page(pages, from, to)
    }

    fn scratch(
        &self,
        shape: KvShape,
        heads: usize,
        context: usize,
        tokens: usize,
    ) -> Result<Self::Scratch, DeviceError> {
        Ok(Handle::new(self.inner.scratch(shape, heads, context, tokens)?))
    }

    fn begin<'a>(
        &'a self,
        batch: Batch<'a>,
        pages: &'a mut Self::Pages,
        observer: Option<&'a mut (dyn Observe + 'a)>,
    ) -> Result<Self::Pass<'a>, DeviceError> {
        self.count("the beginning of a pass")?;
        let operations = Vec::new();
        Ok(RecordedPass { device: self, batch, pages, observer, operations, failure: None })
    }

    fn read<'a>(&self, rows: &'a Self::Rows, count: usize) -> &'a [f32] {
        // What has not been fetched is not there.
        let fetched = rows.fetched.get().map_or(&[][..], Vec::as_slice);
        let width = fetched.len() / count.max(1);
        &fetched[..count * width]
    }
}

impl<'a, D: Device + 'static> Pass<'a, Recording<D>> for RecordedPass<'a, D> {
    type Pending = <D::Pass<'a> as Pass<'a, D>>::Pending;

    fn embed(&mut self, table: &Arc<D::Matrix>, out: &mut RecordedRows<D::Rows>) {
        let (table, out) = (table.clone(), out.rows.share());
        self.record("embed", move |pass| pass.embed(&table, &mut out.lock()));
    }

    fn gather(&mut self, x: &RecordedRows<D::Rows>, rows: &[u32], out: &mut RecordedRows<D::Rows>) {
        let (x, rows, out) = (x.rows.share(), rows.to_vec(), out.rows.share());
        self.record("gather", move |pass| pass.gather(&x.lock(), &rows, &mut out.lock()));
    }

    fn rms_norm(
        &mut self,
        x: &RecordedRows<D::Rows>,
        tokens: usize,
        weight: &Arc<D::Vector>,
        eps: f32,
        out: &mut RecordedRows<D::Rows>,
    ) {
        let (x, weight, out) = (x.rows.share(), weight.clone(), out.rows.share());
        self.record("rms_norm", move |pass| pass.rms_norm(&x.lock(), tokens, &weight, eps, &mut out.lock()));
    }

    fn rms_norm_heads(
        &mut self,
        x: &mut RecordedRows<D::Rows>,
        tokens: usize,
        weight: &Arc<D::Vector>,
        eps: f32,
    ) {
        let (x, weight) = (x.rows.share(), weight.clone());
        self.record("rms_norm_heads", move |pass| pass.rms_norm_heads(&mut x.lock(), tokens, &weight, eps));
    }

    fn quantize(
        &mut self,
        x: &RecordedRows<D::Rows>,
        tokens: usize,
        form: Activations,
        out: &mut Handle<D::Codes>,
    ) {
        let (x, out) = (x.rows.share(), out.share());
        self.record("quantize", move |pass| pass.quantize(&x.lock(), tokens, form, &mut out.lock()));
    }

    fn project(
        &mut self,
        x: &RecordedRows<D::Rows>,
        codes: &Handle<D::Codes>,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Recording<D>>],
    ) {
        let (x, codes) = (x.rows.share(), codes.share());
        let jobs: Vec<_> =
            jobs.iter().map(|job| (job.weight.clone(), job.bias.cloned(), job.out.rows.share())).collect();
        self.record("project", move |pass| {
            let mut outs: Vec<_> = jobs.iter().map(|(_, _, out)| out.lock()).collect();
            let mut jobs: Vec<_> = jobs
                .iter()
                .zip(&mut outs)
                .map(|((weight, bias, _), out)| Job {
                    weight: &**weight,
                    bias: bias.as_deref(),
                    out: &mut **out,
                })
                .collect();
            pass.project(&x.lock(), &codes.lock(), form, tokens, &mut jobs);
        });
    }

    fn angles(&mut self, frequencies: &Arc<D::Vector>, factor: f32, out: &mut RecordedRows<D::Rows>) {
        let (frequencies, out) = (frequencies.clone(), out.rows.share());
        self.record("angles", move |pass| pass.angles(&frequencies, factor, &mut out.lock()));
    }

    fn rope(&mut self, x: &mut RecordedRows<D::Rows>, tokens: usize, angles: &RecordedRows<D::Rows>) {
        let (x, angles) = (x.rows.share(), angles.rows.share());
        self.record("rope", move |pass| pass.rope(&mut x.lock(), tokens, &angles.lock()));
    }

    fn append(&mut self, layer: usize, k: &RecordedRows<D::Rows>, v: &RecordedRows<D::Rows>) {
        let (k, v) = (k.rows.share(), v.rows.share());
        self.record("append", move |pass| pass.append(layer, &k.lock(), &v.lock()));
    }

    fn attend(
        &mut self,
        layer: usize,
        q: &RecordedRows<D::Rows>,
        scratch: &mut Handle<D::Scratch>,
        out: &mut RecordedRows<D::Rows>,
    ) {
        let (q, scratch, out) = (q.rows.share(), scratch.share(), out.rows.share());
        self.record("attend", move |pass| {
            pass.attend(layer, &q.lock(), &mut scratch.lock(), &mut out.lock());
        });
    }

    fn gate(
        &mut self,
        activation: GateActivation,
        gate: &mut RecordedRows<D::Rows>,
        up: &RecordedRows<D::Rows>,
        tokens: usize,
    ) {
        let (gate, up) = (gate.rows.share(), up.rows.share());
        self.record("gate", move |pass| pass.gate(activation, &mut gate.lock(), &up.lock(), tokens));
    }

    fn add(&mut self, x: &mut RecordedRows<D::Rows>, y: &RecordedRows<D::Rows>, tokens: usize) {
        let (x, y) = (x.rows.share(), y.rows.share());
        self.record("add", move |pass| pass.add(&mut x.lock(), &y.lock(), tokens));
    }

    fn look(&mut self, stage: Stage, rows: &RecordedRows<D::Rows>, tokens: usize) {
        // What nobody wants is not even recorded.
        if self.observer.as_ref().is_some_and(|observer| observer.wants(stage)) {
            let rows = rows.rows.share();
            self.record("look", move |pass| pass.look(stage, &rows.lock(), tokens));
        }
    }

    fn fetch(&mut self, rows: &mut RecordedRows<D::Rows>, count: usize) {
        rows.fetched = Arc::default();
        let (device, rows, fetched) = (self.device, rows.rows.share(), rows.fetched.clone());
        self.record("fetch", move |pass| {
            let mut rows = rows.lock();
            pass.fetch(&mut rows, count);
            // The devices that this one records for compute at once, so the rows can be read here.
            let _ = fetched.set(device.inner.read(&rows, count).to_vec());
        });
    }

    fn submit(self) -> Result<Self::Pending, DeviceError> {
        self.device.count("the submission of a pass")?;
        let mut pass = self.device.inner.begin(self.batch, self.pages, self.observer)?;
        self.operations.into_iter().for_each(|operation| operation(&mut pass));
        match self.failure {
            Some(error) => Err(error),
            None => pass.submit(),
        }
    }
}

/// How a recording device leaves out rows.
pub struct RecordedSkip;

impl<D: Device + 'static> Skipping<Recording<D>> for RecordedSkip {
    fn applies(matrix: &Arc<D::Matrix>) -> bool {
        D::Skip::applies(matrix)
    }

    fn gate(pass: &mut RecordedPass<'_, D>, gated: Gated<'_, Recording<D>>, tokens: usize) {
        let Gated { up, x, codes, gate, spare } = gated;
        let (up, x, codes) = (up.clone(), x.rows.share(), codes.share());
        let (gate, spare) = (gate.rows.share(), spare.rows.share());
        pass.record("gated values", move |pass| {
            let (x, codes, mut gate, mut spare) = (x.lock(), codes.lock(), gate.lock(), spare.lock());
            let gated = Gated { up: &*up, x: &*x, codes: &*codes, gate: &mut *gate, spare: &mut *spare };
            D::Skip::gate(pass, gated, tokens);
        });
    }
}

/// A need whose lists are its own.
struct OwnNeed {
    best: usize,
    within: f32,
    lowered: Vec<u32>,
    raised: Vec<u32>,
}

/// What a screen found for one position: ids, logits and floor.
type Found = Option<(Vec<u32>, Vec<f32>, f32)>;

/// A recording device's screen.
pub struct RecordedScreen<S>(Arc<S>);

/// Its results, when they are there.
pub struct RecordedRoom<R> {
    room: Handle<R>,
    found: Arc<OnceLock<Vec<Found>>>,
}

impl<D: Device + 'static> Screening<Recording<D>> for RecordedScreen<D::Screen>
where
    D::Screen: 'static,
{
    type Room = RecordedRoom<<D::Screen as Screening<D>>::Room>;

    fn of(
        device: &Recording<D>,
        head: &Arc<D::Matrix>,
        stored: Option<ScreenTable>,
    ) -> Result<Option<Self>, DeviceError> {
        Ok(D::Screen::of(&device.inner, head, stored)?.map(|screen| Self(Arc::new(screen))))
    }

    fn bytes_read(&self) -> usize {
        self.0.bytes_read()
    }

    fn room(&self, device: &Recording<D>, capacity: usize) -> Result<Self::Room, DeviceError> {
        let room = Handle::new(self.0.room(&device.inner, capacity)?);
        Ok(RecordedRoom { room, found: Arc::default() })
    }

    fn find(
        &self,
        pass: &mut RecordedPass<'_, D>,
        head: &Arc<D::Matrix>,
        x: &RecordedRows<D::Rows>,
        (count, needs): (usize, Needs<'_>),
        room: &mut Self::Room,
    ) {
        let needs: Vec<OwnNeed> = (0..count)
            .map(needs)
            .map(|need| OwnNeed {
                best: need.best,
                within: need.within,
                lowered: need.lowered.to_vec(),
                raised: need.raised.to_vec(),
            })
            .collect();
        room.found = Arc::default();
        let (screen, head, x) = (self.0.clone(), head.clone(), x.rows.share());
        let (room, found) = (room.room.share(), room.found.clone());
        pass.record("the search for logits that matter", move |pass| {
            let need = |i: usize| {
                let OwnNeed { best, within, lowered, raised } = &needs[i];
                Need { best: *best, within: *within, lowered, raised }
            };
            let mut room = room.lock();
            screen.find(pass, &head, &x.lock(), (count, &need), &mut room);
            let own = |s: Support<'_>| (s.ids.to_vec(), s.logits.to_vec(), s.floor);
            let _ = found.set((0..count).map(|i| screen.found(&room, i).map(own)).collect());
        });
    }

    fn found<'a>(&self, room: &'a Self::Room, position: usize) -> Option<Support<'a>> {
        let (ids, logits, floor) = room.found.get()?.get(position)?.as_ref()?;
        Some(Support { ids, logits, floor: *floor })
    }

    fn counts(&self, room: &Self::Room) -> ScreenCounts {
        self.0.counts(&room.room.lock())
    }
}
