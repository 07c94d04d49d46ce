//! What a model asks of a device.
//!
//! A [`Backend`] sits at the level of transformer operations: not a tensor library, not a whole forward pass. The CPU
//! backend is the specification; any other proves itself by equal results. A backend computes an operation as
//! specified here or refuses the model when it is loaded.
//!
//! Activations are `rows`: `[tokens, width]` in f32, where `tokens` are the positions of one batch. All buffers
//! are made when a session opens; no operation allocates.

use bitnet_quant::{Activations, PackedTernary, ScreenTable, TernaryMatrix};

use crate::{GateActivation, MatrixForm, ModelError, Need, Part, ScreenCounts, Support, Table};

/// A matrix as it comes from a file.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Exact trits and scales, to be packed for the device.
    Ternary(TernaryMatrix),
    /// Trits in the layout of the CPU kernels, mapped from a file.
    Packed(PackedTernary),
    /// The sum of two matrices of trits, each with scales of its own: what [`Weight::planes`] gives.
    Planes(Box<[Weight; 2]>),
    /// Floats, or blocks that stand for floats: embeddings, heads and projections that stay dense.
    Table(Table),
}

impl Weight {
    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Ternary(m) => [m.rows(), m.cols()],
            Self::Packed(m) => [m.rows(), m.cols()],
            Self::Planes(planes) => planes[0].shape(),
            Self::Table(t) => [t.rows(), t.cols()],
        }
    }

    /// The sum of two matrices of trits of one shape, or `None` when they are no such.
    pub fn planes(first: Self, second: Self) -> Option<Self> {
        let trits = |w: &Self| matches!(w, Self::Ternary(_) | Self::Packed(_));
        let fits = trits(&first) && trits(&second) && first.shape() == second.shape();
        fits.then(|| Self::Planes(Box::new([first, second])))
    }
}

/// Sizes of a key-value cache.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    /// Blocks of the model.
    pub layers: usize,
    /// Key heads.
    pub heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Positions there is room for.
    pub capacity: usize,
}

/// One matrix of a [`Backend::project`] step.
pub struct Job<'a, B: Backend> {
    /// `[out, in]`.
    pub weight: &'a B::Matrix,
    /// `[out]`, added last.
    pub bias: Option<&'a B::Vector>,
    /// `[tokens, out]`.
    pub out: &'a mut B::Rows,
}

/// One sequence, `K` being how a device holds its keys and values ([`Backend::Kv`]).
pub struct Sequence<K> {
    /// The device's part.
    pub kv: K,
    len: usize,
    capacity: usize,
}

impl<K> Sequence<K> {
    pub(crate) fn new(kv: K, capacity: usize) -> Self {
        Self { kv, len: 0, capacity }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The cache holds `len` positions now.
    pub(crate) fn hold(&mut self, len: usize) {
        self.len = len;
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// Which positions of a span get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// None: the tokens only fill the cache.
    None,
    /// The last.
    Last,
    /// Every one.
    All,
}

/// The next tokens of one sequence, as its share of a batch.
pub struct Span<'a, K> {
    /// The sequence that they continue.
    pub sequence: &'a mut Sequence<K>,
    /// How many of the batch's tokens.
    pub tokens: usize,
    /// Which of them get logits.
    pub output: Output,
}

impl<K> Span<'_, K> {
    /// How many of its positions get logits.
    pub fn outputs(&self) -> usize {
        match self.output {
            Output::None => 0,
            Output::Last => self.tokens.min(1),
            Output::All => self.tokens,
        }
    }

    /// All blocks have seen the span: the sequence holds it now.
    pub(crate) fn commit(&mut self) {
        self.sequence.len += self.tokens;
    }
}

/// A device that runs the operations of a decoder.
pub trait Backend: Send + Sync + Sized {
    /// A projection, an embedding or a head.
    type Matrix: Send + Sync;
    /// A norm's weight or a bias.
    type Vector: Send + Sync;
    /// f32 activations `[capacity, width]`.
    type Rows: Send;
    /// Quantized activations of up to `capacity` tokens.
    type Codes: Send;
    /// The keys and values of one sequence.
    type Kv: Send;
    /// What attention needs besides.
    type Scratch: Send;
    /// What tells which rows of a head can matter.
    type Screen: Send + Sync;
    /// The screen's results for some positions, and its scratch.
    type ScreenRoom: Send;

    /// Puts the matrix of `part`, which the file calls `name`, on the device in the form that the plan of layouts names; a device
    /// that has forms of its own may take another.
    ///
    /// # Errors
    /// When the device has no room, or cannot multiply this matrix exactly.
    fn matrix(
        &self,
        part: Part,
        name: &str,
        weight: Weight,
        form: MatrixForm,
    ) -> Result<Self::Matrix, ModelError>;

    /// Puts a vector on the device.
    ///
    /// # Errors
    /// When the device has no room.
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, ModelError>;

    /// Whether `matrix` holds trits, so that it takes quantized activations.
    fn is_ternary(&self, matrix: &Self::Matrix) -> bool;

    /// Whether rows of `matrix` can be left out, so that [`Backend::gate_live`] may be called with it.
    fn skips_rows(&self, matrix: &Self::Matrix) -> bool;

    /// Bytes that a product of all rows with one token reads.
    fn bytes_read(&self, matrix: &Self::Matrix) -> usize;

    /// Bytes of keys and values that attention reads for each position it sees, over all blocks.
    fn kv_bytes(&self, kv: &Self::Kv) -> usize;

    /// A buffer of `[capacity, width]`.
    ///
    /// # Errors
    /// When the device has no room.
    fn rows(&self, capacity: usize, width: usize) -> Result<Self::Rows, ModelError>;

    /// Room for the quantized form of rows of `width`.
    ///
    /// # Errors
    /// When the device has no room.
    fn codes(&self, capacity: usize, width: usize) -> Result<Self::Codes, ModelError>;

    /// An empty cache.
    ///
    /// # Errors
    /// When the device has no room.
    fn kv(&self, shape: KvShape) -> Result<Self::Kv, ModelError>;

    /// Copies the first `positions` positions of a cache of the same model and type; `to` has room for them.
    ///
    /// # Errors
    /// [`ModelError::ForeignCache`] for any other; nothing has changed then.
    fn copy_kv(&self, from: &Self::Kv, positions: usize, to: &mut Self::Kv) -> Result<(), ModelError>;

    /// Room for attention of `heads` query heads over caches of up to `shape`, in batches of up to `tokens`.
    ///
    /// # Errors
    /// When the device has no room.
    fn scratch(&self, shape: KvShape, heads: usize, tokens: usize) -> Result<Self::Scratch, ModelError>;

    /// The first `tokens` rows, for the host to read.
    fn read<'a>(&self, rows: &'a Self::Rows, tokens: usize) -> &'a [f32];

    /// Row `ids[t]` of `table` into row `t`.
    fn embed(&self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Rows);

    /// The rows of the positions that get logits, one after another. `out` has room for all of them.
    fn output_rows(&self, x: &Self::Rows, spans: &[Span<'_, Self::Kv>], out: &mut Self::Rows);

    /// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row.
    fn rms_norm(&self, x: &Self::Rows, tokens: usize, weight: &Self::Vector, eps: f32, out: &mut Self::Rows);

    /// The same for every run of `weight`'s length in a row (the heads), in place.
    fn rms_norm_heads(&self, x: &mut Self::Rows, tokens: usize, weight: &Self::Vector, eps: f32);

    /// Quantizes rows in `form`, which is one of the int8 forms.
    fn quantize(&self, x: &Self::Rows, tokens: usize, form: Activations, out: &mut Self::Codes);

    /// Several matrices times the same rows, in one step. Ternary matrices read `codes` in an int8 `form` and
    /// `x` when it is float; dense matrices always read `x`.
    fn project(
        &self,
        x: &Self::Rows,
        codes: &Self::Codes,
        form: Activations,
        tokens: usize,
        jobs: &mut [Job<'_, Self>],
    );

    /// What screens `head`, or `None` where it is computed in full. `stored` is its int8 copy, where the file has one.
    ///
    /// # Errors
    /// When the device has no room.
    fn screen(
        &self,
        head: &Self::Matrix,
        stored: Option<ScreenTable>,
    ) -> Result<Option<Self::Screen>, ModelError>;

    /// Bytes that screening one position reads.
    fn screen_bytes(&self, screen: &Self::Screen) -> usize;

    /// Room for the screened heads of up to `capacity` positions.
    ///
    /// # Errors
    /// When the device has no room.
    fn screen_room(&self, screen: &Self::Screen, capacity: usize) -> Result<Self::ScreenRoom, ModelError>;

    /// Finds what `needs` ask for, one for each of the first rows of `x`. False when a position needs the full head.
    fn find(
        &self,
        screen: &Self::Screen,
        head: &Self::Matrix,
        x: &Self::Rows,
        needs: &[Need<'_>],
        room: &mut Self::ScreenRoom,
    ) -> bool;

    /// What the last [`Backend::find`] found for a position, unless it needs the full head.
    fn support<'a>(&self, room: &'a Self::ScreenRoom, position: usize) -> Option<Support<'a>>;

    /// How often the screen was enough.
    fn screen_counts(&self, room: &Self::ScreenRoom) -> ScreenCounts;

    /// Cosines and sines of every token's position, each times `factor`, `[tokens, head_dim]` (cosines, then sines); made once
    /// a batch. `frequencies` are radians per position.
    fn angles(
        &self,
        frequencies: &Self::Vector,
        factor: f32,
        spans: &[Span<'_, Self::Kv>],
        out: &mut Self::Rows,
    );

    /// Rotates every head of rows of queries or keys: `(a, b) -> (a cos - b sin, b cos + a sin)` for dimension `i`
    /// and `i + head_dim / 2`.
    fn rope(&self, x: &mut Self::Rows, tokens: usize, angles: &Self::Rows);

    /// Puts keys and values of a block behind what each sequence's cache holds.
    fn append(&self, layer: usize, k: &Self::Rows, v: &Self::Rows, spans: &mut [Span<'_, Self::Kv>]);

    /// Causal attention of each query over its sequence's cache: `softmax(q k / sqrt(head_dim)) v`.
    fn attend(
        &self,
        layer: usize,
        q: &Self::Rows,
        spans: &[Span<'_, Self::Kv>],
        scratch: &mut Self::Scratch,
        out: &mut Self::Rows,
    );

    /// `gate = activation(gate) * up`.
    fn gate(&self, activation: GateActivation, gate: &mut Self::Rows, up: &Self::Rows, tokens: usize);

    /// `gate = relu(gate)^2 * (up . codes)`, where rows of `up` whose gate is closed need not be read; a zero there may have
    /// another sign than [`Backend::gate`] gives it. `codes` have one step per token. `spare` is a buffer of `gate`'s width.
    fn gate_live(
        &self,
        up: &Self::Matrix,
        codes: &Self::Codes,
        gate: &mut Self::Rows,
        spare: &mut Self::Rows,
        tokens: usize,
    );

    /// `x = x + y`.
    fn add(&self, x: &mut Self::Rows, y: &Self::Rows, tokens: usize);
}
