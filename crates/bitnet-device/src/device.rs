//! The device and its passes.

use bitnet_model::{GateActivation, MatrixForm, ModelError, Part, Weight};
use bitnet_quant::Activations;

use crate::{Batch, Observe, PageId, Screening, Skipping, Stage};

/// Why a device could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Memory.
    #[error(transparent)]
    Memory(#[from] bitnet_core::Error),
    /// A matrix or sizes of a model that this device cannot hold or compute with.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device itself.
    #[error("the device failed at {operation}: {reason}")]
    Failed {
        /// What it was doing.
        operation: &'static str,
        /// What it says.
        reason: String,
    },
}

/// Sizes of the keys and values of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Blocks of the model.
    pub layers: usize,
    /// Key heads.
    pub heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
}

/// One matrix of a [`Pass::project`] step.
pub struct Job<'a, D: Device> {
    /// `[out, in]`.
    pub weight: &'a D::Matrix,
    /// `[out]`, added last.
    pub bias: Option<&'a D::Vector>,
    /// `[tokens, out]`.
    pub out: &'a mut D::Rows,
}

/// Where a model's matrices, activations, keys and values are, and who computes with them.
pub trait Device: Send + Sync + Sized {
    /// A projection, an embedding or a head.
    type Matrix: Send + Sync;
    /// A norm's weight or a bias.
    type Vector: Send + Sync;
    /// f32 activations `[capacity, width]`.
    type Rows: Send;
    /// Quantized activations of up to `capacity` tokens.
    type Codes: Send;
    /// Keys and values of all sequences, in pages.
    type Pages: Send;
    /// Working memory of attention: partial results, one set per thread.
    type Scratch: Send;
    /// The operations of one step.
    type Pass<'a>: Pass<'a, Self>
    where
        Self: 'a;
    /// How it screens heads, if it does: [`crate::NoScreen`] says that it does not.
    type Screen: Screening<Self>;
    /// How it leaves out rows whose gate is closed, if it does: [`crate::NoSkip`] says that it does not.
    type Skip: Skipping<Self>;

    /// Puts the matrix of `part`, which the file calls `name`, on the device in the form that the plan of layouts names; a
    /// device that has forms of its own may take another.
    ///
    /// # Errors
    /// When the device has no room, or cannot multiply this matrix exactly.
    fn matrix(
        &self,
        part: Part,
        name: &str,
        weight: Weight,
        form: MatrixForm,
    ) -> Result<Self::Matrix, DeviceError>;

    /// Puts a vector on the device.
    ///
    /// # Errors
    /// When the device has no room.
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, DeviceError>;

    /// Whether `matrix` holds trits, so that it takes quantized activations.
    fn is_ternary(&self, matrix: &Self::Matrix) -> bool;

    /// Bytes that a product of all rows with one token reads.
    fn bytes_read(&self, matrix: &Self::Matrix) -> usize;

    /// A buffer of `[capacity, width]`.
    ///
    /// # Errors
    /// When the device has no room.
    fn rows(&self, capacity: usize, width: usize) -> Result<Self::Rows, DeviceError>;

    /// Room for the quantized form of rows of `width`.
    ///
    /// # Errors
    /// When the device has no room.
    fn codes(&self, capacity: usize, width: usize) -> Result<Self::Codes, DeviceError>;

    /// Keys and values of a model of `shape`: no page yet.
    ///
    /// # Errors
    /// When the device cannot keep keys and values of that shape.
    fn pages(&self, shape: KvShape) -> Result<Self::Pages, DeviceError>;

    /// Bytes of one page of [`crate::PAGE`] positions.
    fn page_bytes(&self, pages: &Self::Pages) -> usize;

    /// Adds one page; its number is how many there were.
    ///
    /// # Errors
    /// When the device has no room.
    fn add_page(&self, pages: &mut Self::Pages) -> Result<(), DeviceError>;

    /// Copies what a page holds into another one.
    ///
    /// # Errors
    /// When the device fails.
    fn copy_page(&self, pages: &mut Self::Pages, from: PageId, to: PageId) -> Result<(), DeviceError>;

    /// Working memory for attention of `heads` query heads over sequences of up to `context` positions, in steps of up to
    /// `tokens`.
    ///
    /// # Errors
    /// When the device has no room.
    fn scratch(
        &self,
        shape: KvShape,
        heads: usize,
        context: usize,
        tokens: usize,
    ) -> Result<Self::Scratch, DeviceError>;

    /// Begins a step over `batch`, which `observer` may look at.
    ///
    /// # Errors
    /// When the device fails.
    fn begin<'a>(
        &'a self,
        batch: Batch<'a>,
        pages: &'a mut Self::Pages,
        observer: Option<&'a mut (dyn Observe + 'a)>,
    ) -> Result<Self::Pass<'a>, DeviceError>;

    /// The first `count` rows, for the host to read: those that the last finished pass was asked to [`Pass::fetch`].
    fn read<'a>(&self, rows: &'a Self::Rows, count: usize) -> &'a [f32];
}

/// The operations of one step, in the order in which they are called.
pub trait Pass<'a, D: Device> {
    /// What stands for the results until they are there.
    type Pending: Pending;

    /// Row `ids[t]` of `table` into row `t`, for the batch's ids.
    fn embed(&mut self, table: &D::Matrix, out: &mut D::Rows);

    /// Row `rows[i]` of `x` into row `i` of `out`, which has room for all of them.
    fn gather(&mut self, x: &D::Rows, rows: &[u32], out: &mut D::Rows);

    /// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row.
    fn rms_norm(&mut self, x: &D::Rows, tokens: usize, weight: &D::Vector, eps: f32, out: &mut D::Rows);

    /// The same for every run of `weight`'s length in a row (the heads), in place.
    fn rms_norm_heads(&mut self, x: &mut D::Rows, tokens: usize, weight: &D::Vector, eps: f32);

    /// Quantizes rows in `form`, which is one of the int8 forms.
    fn quantize(&mut self, x: &D::Rows, tokens: usize, form: Activations, out: &mut D::Codes);

    /// Up to three matrices times the same rows, in one step. Ternary matrices read `codes` in an int8 `form` and
    /// `x` when it is float; dense matrices always read `x`.
    fn project(
        &mut self,
        x: &D::Rows,
        codes: &D::Codes,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, D>],
    );

    /// Cosines and sines of every token's position, each times `factor`, `[tokens, head_dim]` (cosines, then sines); made
    /// once a step. `frequencies` are radians per position.
    fn angles(&mut self, frequencies: &D::Vector, factor: f32, out: &mut D::Rows);

    /// Rotates every head of rows of queries or keys: `(a, b) -> (a cos - b sin, b cos + a sin)` for dimension `i`
    /// and `i + head_dim / 2`.
    fn rope(&mut self, x: &mut D::Rows, tokens: usize, angles: &D::Rows);

    /// Puts keys and values of a block behind what each sequence of the batch holds.
    fn append(&mut self, layer: usize, k: &D::Rows, v: &D::Rows);

    /// Causal attention of each query over its own sequence: `softmax(q k / sqrt(head_dim)) v`.
    fn attend(&mut self, layer: usize, q: &D::Rows, scratch: &mut D::Scratch, out: &mut D::Rows);

    /// `gate = activation(gate) * up`.
    fn gate(&mut self, activation: GateActivation, gate: &mut D::Rows, up: &D::Rows, tokens: usize);

    /// `x = x + y`.
    fn add(&mut self, x: &mut D::Rows, y: &D::Rows, tokens: usize);

    /// Shows the first `tokens` rows to the observer, if there is one that wants `stage`.
    fn look(&mut self, stage: Stage, rows: &D::Rows, tokens: usize);

    /// Asks for the first `count` rows to be read by the host once the pass is finished ([`Device::read`]).
    fn fetch(&mut self, rows: &mut D::Rows, count: usize);

    /// Everything has been asked for.
    ///
    /// # Errors
    /// The first failure, as far as it is known already.
    fn submit(self) -> Result<Self::Pending, DeviceError>;
}

/// A submitted pass. It is also a future, for those who must not block: a page in a browser, or a server's executor.
pub trait Pending: Future<Output = Result<(), DeviceError>> + Unpin {
    /// Blocks until the results are there.
    ///
    /// # Errors
    /// The first failure of the pass.
    fn wait(self) -> Result<(), DeviceError>;
}

/// A pass whose results are there when it is submitted.
pub type Finished = std::future::Ready<Result<(), DeviceError>>;

impl Pending for Finished {
    fn wait(self) -> Result<(), DeviceError> {
        self.into_inner()
    }
}
