//! A device that records operations and runs them on another one when the pass is submitted.

use std::sync::Arc;

use bitnet_device::{
    Batch, Device, DeviceError, Job, KvShape, Observe, PageId, Pass, Recur, SequenceShape, Stage, Transform,
};
use bitnet_model::{GateActivation, MatrixForm, Part, Weight};
use bitnet_quant::Activations;

mod abilities;
mod parts;

pub use abilities::{RecordedRoom, RecordedScreen, RecordedSkip};
pub use parts::{Handle, RecordedPass, RecordedRows, Recording};

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

    fn pages(&self, shape: SequenceShape, context: usize) -> Result<Self::Pages, DeviceError> {
        self.inner.pages(shape, context)
    }

    fn page_bytes(&self, pages: &Self::Pages) -> usize {
        self.inner.page_bytes(pages)
    }

    fn add_page(&self, pages: &mut Self::Pages) -> Result<(), DeviceError> {
        self.count("adding a page")?;
        self.inner.add_page(pages)
    }

    fn state_bytes(&self, pages: &Self::Pages) -> usize {
        self.inner.state_bytes(pages)
    }

    fn add_state(&self, pages: &mut Self::Pages) -> Result<(), DeviceError> {
        self.count("adding a state")?;
        self.inner.add_state(pages)
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

    fn transform(
        &mut self,
        x: &RecordedRows<D::Rows>,
        tokens: usize,
        how: Transform,
        block: usize,
        signs: Option<&Arc<D::Vector>>,
        out: &mut RecordedRows<D::Rows>,
    ) {
        let (x, signs, out) = (x.rows.share(), signs.cloned(), out.rows.share());
        self.record("transform", move |pass| {
            pass.transform(&x.lock(), tokens, how, block, signs.as_deref(), &mut out.lock());
        });
    }

    fn rope(
        &mut self,
        x: &mut RecordedRows<D::Rows>,
        tokens: usize,
        head_dim: usize,
        angles: &RecordedRows<D::Rows>,
    ) {
        let (x, angles) = (x.rows.share(), angles.rows.share());
        self.record("rope", move |pass| pass.rope(&mut x.lock(), tokens, head_dim, &angles.lock()));
    }

    fn convolve(&mut self, layer: usize, x: &mut RecordedRows<D::Rows>, weights: &Arc<D::Vector>) {
        let (x, weights) = (x.rows.share(), weights.clone());
        self.record("convolve", move |pass| pass.convolve(layer, &mut x.lock(), &weights));
    }

    fn recur(&mut self, layer: usize, inputs: Recur<'_, Recording<D>>, out: &mut RecordedRows<D::Rows>) {
        let Recur { mixed, beta, decay, rate, bias } = inputs;
        let (mixed, beta, decay) = (mixed.rows.share(), beta.rows.share(), decay.rows.share());
        let (rate, bias, out) = (rate.clone(), bias.clone(), out.rows.share());
        self.record("recur", move |pass| {
            let (mut mixed, beta, decay) = (mixed.lock(), beta.lock(), decay.lock());
            let inputs =
                Recur { mixed: &mut *mixed, beta: &*beta, decay: &*decay, rate: &*rate, bias: &*bias };
            pass.recur(layer, inputs, &mut out.lock());
        });
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

    fn sigmoid_gate(&mut self, gate: &mut RecordedRows<D::Rows>, x: &RecordedRows<D::Rows>, tokens: usize) {
        let (gate, x) = (gate.rows.share(), x.rows.share());
        self.record("sigmoid_gate", move |pass| pass.sigmoid_gate(&mut gate.lock(), &x.lock(), tokens));
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
