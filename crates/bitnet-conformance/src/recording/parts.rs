//! What a recording device and its passes consist of.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bitnet_device::{Batch, Device, DeviceError, Observe};

/// Records operations and runs them on `D` when the pass is submitted: until then nothing has been computed, so whoever reads
/// a result in the middle of a pass finds none. Any operation can be made to fail.
#[derive(Clone)]
pub struct Recording<D> {
    pub(super) inner: D,
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
    pub(super) fn count(&self, operation: &'static str) -> Result<(), DeviceError> {
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
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows on the device, and what the host has fetched of them.
pub struct RecordedRows<R> {
    pub(super) rows: Handle<R>,
    pub(super) fetched: Arc<OnceLock<Vec<f32>>>,
}

type Operation<'a, D> = Box<dyn FnOnce(&mut <D as Device>::Pass<'a>) + 'a>;

/// A pass of which nothing has been computed yet.
pub struct RecordedPass<'a, D: Device + 'a> {
    pub(super) device: &'a Recording<D>,
    pub(super) batch: Batch<'a>,
    pub(super) pages: &'a mut D::Pages,
    pub(super) observer: Option<&'a mut (dyn Observe + 'a)>,
    pub(super) operations: Vec<Operation<'a, D>>,
    pub(super) failure: Option<DeviceError>,
}

impl<'a, D: Device> RecordedPass<'a, D> {
    pub(super) fn record(&mut self, name: &'static str, operation: impl FnOnce(&mut D::Pass<'a>) + 'a) {
        match self.device.count(name) {
            Ok(()) if self.failure.is_none() => self.operations.push(Box::new(operation)),
            Ok(()) => {}
            Err(error) => self.failure = Some(error),
        }
    }
}
