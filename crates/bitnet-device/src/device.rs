//! The device, its passes, and the abilities that it may have.

use bitnet_model::{DeltaNet, GateActivation, MatrixForm, Part, Weight};
use bitnet_quant::{Activations, ScreenTable};

use crate::{Batch, DeviceError, Need, Observe, PageId, ScreenCounts, Stage, Support};

/// Sizes of what the sequences of a model hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceShape {
    /// Of keys and values.
    pub kv: KvShape,
    /// Of recurrent states, where there are any.
    pub recurrent: Option<RecurrentShape>,
}

/// Sizes of the states of a model's recurrent blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Recurrent blocks of the model.
    pub layers: usize,
    /// Their heads and convolutions.
    pub sizes: DeltaNet,
}

/// Sizes of the keys and values of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Blocks of the model that have attention.
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

/// What a [`Pass::recur`] step reads besides the states.
pub struct Recur<'a, D: Device> {
    /// Queries, keys and values side by side, `[tokens, channels]`. Queries and keys are normed in place.
    pub mixed: &'a mut D::Rows,
    /// Before its sigmoid, `[tokens, value_heads]`: how much each head takes in.
    pub beta: &'a D::Rows,
    /// Before its nonlinearity, `[tokens, value_heads]`: how much each head forgets.
    pub decay: &'a D::Rows,
    /// [`bitnet_model::Part::DecayRate`].
    pub rate: &'a D::Vector,
    /// [`bitnet_model::Part::DecayBias`].
    pub bias: &'a D::Vector,
}

/// Which way [`Pass::transform`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// `H (s x)`: inputs of folded weights.
    Fold,
    /// `s (H x)`: rows of a folded embedding.
    Unfold,
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
    /// Keys and values of all sequences, in pages, and their recurrent states.
    type Pages: Send;
    /// Working memory of attention: partial results.
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

    /// What sequences of up to `context` positions of a model of `shape` hold: no page and no state yet.
    ///
    /// # Errors
    /// When the device cannot keep keys and values of that shape, or never has the memory for one whole sequence.
    fn pages(&self, shape: SequenceShape, context: usize) -> Result<Self::Pages, DeviceError>;

    /// Bytes of one page of [`crate::PAGE`] positions.
    fn page_bytes(&self, pages: &Self::Pages) -> usize;

    /// Adds one page; its number is how many there were.
    ///
    /// # Errors
    /// When the device has no room.
    fn add_page(&self, pages: &mut Self::Pages) -> Result<(), DeviceError>;

    /// Bytes of what the recurrent blocks keep of a sequence; 0 where there are none.
    fn state_bytes(&self, pages: &Self::Pages) -> usize;

    /// Adds one recurrent state; its number is how many there were.
    ///
    /// # Errors
    /// When the device has no room.
    fn add_state(&self, pages: &mut Self::Pages) -> Result<(), DeviceError>;

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

    /// `x` in the basis of folded weights, or out of it: a normalized Walsh-Hadamard transform (Sylvester's order) of every
    /// `block` numbers of a row, and signs, `[width]`, +1 where there are none.
    fn transform(
        &mut self,
        x: &D::Rows,
        tokens: usize,
        how: Transform,
        block: usize,
        signs: Option<&D::Vector>,
        out: &mut D::Rows,
    );

    /// Cosines and sines of every token's position, each times `factor`, `[tokens, rotary_dim]` (cosines, then sines); made
    /// once a step. `frequencies` are radians per position.
    fn angles(&mut self, frequencies: &D::Vector, factor: f32, out: &mut D::Rows);

    /// Rotates the first `rotary_dim` dimensions of every head of `head_dim` in rows of queries or keys:
    /// `(a, b) -> (a cos - b sin, b cos + a sin)` for dimension `i` and `i + rotary_dim / 2`.
    fn rope(&mut self, x: &mut D::Rows, tokens: usize, head_dim: usize, angles: &D::Rows);

    /// Puts keys and values of the attention block number `layer` behind what each sequence of the batch holds.
    fn append(&mut self, layer: usize, k: &D::Rows, v: &D::Rows);

    /// Causal depthwise convolution of every channel over its own sequence, then SiLU, in place, in the recurrent block number
    /// `layer`. Positions before the first are 0; `weights` are `[taps, channels]`, the oldest position first.
    fn convolve(&mut self, layer: usize, x: &mut D::Rows, weights: &D::Vector);

    /// The gated delta rule of the recurrent block number `layer`, token by token along each sequence of the batch
    /// (arXiv:2412.06464): with `q` and `k` of length 1 (epsilon 1e-6 under the root), `q` then divided by `sqrt(key_dim)`,
    /// `g = exp(rate * softplus(decay + bias))` and `b = sigmoid(beta)`,
    /// `S = g S; S = S + k (b (v - S^T k))^T; out = S^T q`, one state `S [key_dim, value_dim]` for each value head.
    fn recur(&mut self, layer: usize, inputs: Recur<'_, D>, out: &mut D::Rows);

    /// Causal attention of each query over its own sequence: `softmax(q k / sqrt(head_dim)) v`.
    fn attend(&mut self, layer: usize, q: &D::Rows, scratch: &mut D::Scratch, out: &mut D::Rows);

    /// `gate = activation(gate) * up`.
    fn gate(&mut self, activation: GateActivation, gate: &mut D::Rows, up: &D::Rows, tokens: usize);

    /// `gate = x / (1 + e^-gate)`: the gate of attention's result.
    fn sigmoid_gate(&mut self, gate: &mut D::Rows, x: &D::Rows, tokens: usize);

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

/// Tells which logits of one output matter.
pub type Needs<'a> = &'a dyn Fn(usize) -> Need<'a>;

/// An int8 copy of a head from which upper bounds of logits are computed: only rows whose bound is high enough are multiplied.
pub trait Screening<D: Device>: Send + Sync + Sized {
    /// The screen's results for some positions, and its working memory.
    type Room: Send;

    /// What screens `head`, or `None` where it is computed in full. `stored` is its int8 copy, where the file has one.
    ///
    /// # Errors
    /// When the device has no room.
    fn of(device: &D, head: &D::Matrix, stored: Option<ScreenTable>) -> Result<Option<Self>, DeviceError>;

    /// Bytes that screening one position reads.
    fn bytes_read(&self) -> usize;

    /// Room for up to `capacity` positions.
    ///
    /// # Errors
    /// When the device has no room.
    fn room(&self, device: &D, capacity: usize) -> Result<Self::Room, DeviceError>;

    /// For `wanted = (count, needs)`: finds what `needs(i)` asks for in each of the first `count` rows of `x`.
    fn find(
        &self,
        pass: &mut D::Pass<'_>,
        head: &D::Matrix,
        x: &D::Rows,
        wanted: (usize, Needs<'_>),
        room: &mut Self::Room,
    );

    /// What the last finished [`Screening::find`] has found for a position; `None` where the full head is needed.
    fn found<'a>(&self, room: &'a Self::Room, position: usize) -> Option<Support<'a>>;

    /// How often the screen was enough.
    fn counts(&self, room: &Self::Room) -> ScreenCounts;
}

/// What a gated product of squared ReLU reads and writes.
pub struct Gated<'a, D: Device> {
    /// The matrix whose rows may be left out.
    pub up: &'a D::Matrix,
    /// Its input, `[tokens, in]`.
    pub x: &'a D::Rows,
    /// The same, quantized with one step per token.
    pub codes: &'a D::Codes,
    /// The gate before its nonlinearity, then the result, `[tokens, out]`.
    pub gate: &'a mut D::Rows,
    /// A buffer of `gate`'s width.
    pub spare: &'a mut D::Rows,
}

/// How a device leaves out rows whose gate is closed. What is not overridden computes everything.
pub trait Skipping<D: Device> {
    /// Whether rows of `matrix` can be left out.
    fn applies(_matrix: &D::Matrix) -> bool {
        false
    }

    /// `gate = relu(gate)^2 * (up . codes)`, where rows of `up` whose gate is closed need not be read; a zero there may
    /// have another sign than [`Pass::gate`] gives it.
    fn gate(pass: &mut D::Pass<'_>, gated: Gated<'_, D>, tokens: usize) {
        let Gated { up, x, codes, gate, spare } = gated;
        let job = Job { weight: up, bias: None, out: &mut *spare };
        pass.project(x, codes, Activations::Int8PerToken, tokens, &mut [job]);
        pass.gate(GateActivation::SquaredRelu, gate, spare, tokens);
    }
}
