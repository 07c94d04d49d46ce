//! Tables of floats: embeddings, heads, projections that stay dense.

use std::sync::{
    Arc, Mutex, TryLockError,
    atomic::{AtomicBool, Ordering},
};

use bitnet_core::{
    Buffer, DenseMatrix, HybridMemoryPool, Purpose, SharedBytes, ThreadPool, tensor::Values,
    threads::ColumnsMut,
};
use bitnet_kernels::{BlockType, Blocks, Kernel};
use bitnet_quant::ScreenTable;

use crate::ModelError;

/// Rows of floats, or of blocks that stand for floats (GGUF's Q8_0, Q6_K and kin), kept in the file's own bytes.
#[derive(Clone, Debug)]
pub enum Table {
    /// f32, f16 or bf16.
    Dense(DenseMatrix),
    /// Blocks.
    Blocks(BlockTable),
}

impl Table {
    /// The table of `[rows, cols]` in blocks of type `ty`, which errors call `name`. The bytes are not copied.
    ///
    /// # Errors
    /// When the bytes are not those of such a table.
    pub fn blocks(
        name: &str,
        ty: BlockType,
        [rows, cols]: [usize; 2],
        bytes: SharedBytes,
    ) -> Result<Self, ModelError> {
        let (weights, size) = ty.size();
        let whole = cols.is_multiple_of(weights).then_some(cols / weights);
        let expected = whole.and_then(|blocks| rows.checked_mul(blocks)?.checked_mul(size));
        match expected.filter(|&len| len > 0) {
            Some(len) if len == bytes.len() => {
                Ok(Self::Blocks(BlockTable { ty, rows, cols, bytes, decoded: Arc::new([]) }))
            }
            expected => {
                let bytes_of = expected.map_or("whole blocks in every row".into(), |n| format!("{n} bytes"));
                let got = format!("{} bytes for {rows} x {cols}", bytes.len());
                Err(ModelError::config(name, bytes_of, got))
            }
        }
    }

    /// The table whose row `i` is row `order[i]` of this one, in memory of its own.
    ///
    /// # Errors
    /// When the order names a row that is not there.
    pub fn select_rows(&self, order: &[usize]) -> Result<Self, ModelError> {
        let stride = self.byte_len() / self.rows().max(1);
        let bytes = self.bytes();
        let row = |&row: &usize| bytes.get(row * stride..(row + 1) * stride);
        let rows: Option<Vec<&[u8]>> = order.iter().map(row).collect();
        let rows = rows.ok_or_else(|| {
            ModelError::config("an order of rows", format!("each of {} rows", self.rows()), "another row")
        })?;
        self.with_bytes(order.len(), SharedBytes::aligned(&rows))
    }

    /// The table whose columns `i * unit ..` are columns `order[i] * unit ..` of this one, for each of its runs of `unit`
    /// columns. `None` where such a run tears blocks.
    ///
    /// # Errors
    /// When the bytes are not those of such a table.
    pub(crate) fn reorder_columns(&self, unit: usize, order: &[usize]) -> Result<Option<Self>, ModelError> {
        let (weights, size) = match self {
            Self::Dense(m) => (1, m.dtype().size()),
            Self::Blocks(m) => m.ty.size(),
        };
        if !unit.is_multiple_of(weights) {
            return Ok(None);
        }
        let run = unit / weights * size;
        let rows = self.bytes().chunks_exact(run * order.len());
        let runs: Vec<&[u8]> =
            rows.flat_map(|row| order.iter().map(move |&i| &row[i * run..(i + 1) * run])).collect();
        self.with_bytes(self.rows(), SharedBytes::aligned(&runs)).map(Some)
    }

    fn bytes(&self) -> &SharedBytes {
        match self {
            Self::Dense(m) => m.bytes(),
            Self::Blocks(m) => &m.bytes,
        }
    }

    /// Other bytes of the same type and width.
    fn with_bytes(&self, rows: usize, bytes: SharedBytes) -> Result<Self, ModelError> {
        Ok(match self {
            Self::Dense(m) => Self::Dense(DenseMatrix::new(m.dtype(), rows, m.cols(), bytes)?),
            Self::Blocks(m) => Self::Blocks(BlockTable { bytes, rows, ..m.clone() }),
        })
    }

    /// Makes room for products on `threads` threads, up to `rows` rows at a time, so that they allocate nothing.
    pub fn prepare(self, threads: usize, rows: usize) -> Self {
        match self {
            Self::Blocks(mut table) => {
                let room = rows * table.cols;
                table.decoded = (0..threads).map(|_| Mutex::new(vec![0.0; room])).collect();
                Self::Blocks(table)
            }
            dense => dense,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(m) => m.rows(),
            Self::Blocks(m) => m.rows,
        }
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        match self {
            Self::Dense(m) => m.cols(),
            Self::Blocks(m) => m.cols,
        }
    }

    /// Bytes that a product with all rows reads.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Dense(m) => m.bytes().len(),
            Self::Blocks(m) => m.bytes.len(),
        }
    }

    /// Row `row` as f32 into `out`, `out.len() == cols`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Dense(m) => m.row_to_f32(row, out),
            Self::Blocks(m) => m.row_to_f32(row, out),
        }
    }

    /// Whether a head is so large that reading its int8 copy saves time; a smaller one is read as quickly as the survivors
    /// are sorted out.
    pub fn is_worth_screening(&self) -> bool {
        const WORTH: usize = 1 << 20;
        self.byte_len() >= WORTH
    }

    /// The int8 copy of a head, or `None` when its shape cannot be screened or a weight is not finite.
    ///
    /// # Errors
    /// When memory is short.
    pub fn screen(
        &self,
        pool: &HybridMemoryPool,
        threads: &ThreadPool,
    ) -> Result<Option<ScreenTable>, ModelError> {
        let (rows, cols) = (self.rows(), self.cols());
        let Some(len) = ScreenTable::byte_len(rows, cols) else { return Ok(None) };
        // All kernels make the same copy, the last of them anywhere.
        let best = bitnet_kernels::select(None).ok();
        let Some(kernel) = best.or_else(anywhere) else { return Ok(None) };
        let mut bytes: Buffer<u8> = pool.allocate(Purpose::Weights, len)?;
        let spoiled = AtomicBool::new(false);
        threads.for_each_chunk_mut(&mut bytes, ScreenTable::strip_len(cols), |strip, bytes| {
            let first = strip * ScreenTable::STRIP;
            let mut weights = vec![0.0; (rows - first).min(ScreenTable::STRIP) * cols];
            self.rows_to_f32(kernel, first, &mut weights);
            if kernel.encode_strip(&weights, cols, bytes).is_err() {
                spoiled.store(true, Ordering::Relaxed);
            }
        });
        // A weight that is not finite is no mistake of the caller: such a head is computed in full.
        if spoiled.into_inner() {
            return Ok(None);
        }
        ScreenTable::from_bytes(rows, cols, bytes.into()).map(Some).map_err(ModelError::quant("head"))
    }

    /// Whole rows from `first` on as f32 into `out`.
    fn rows_to_f32(&self, kernel: &Kernel, first: usize, out: &mut [f32]) {
        let cols = self.cols();
        let range = first * cols..first * cols + out.len();
        match self {
            Self::Dense(m) => match m.values() {
                Values::F32(x) => kernel.widen(Values::F32(&x[range]), out),
                Values::F16(x) => kernel.widen(Values::F16(&x[range]), out),
                Values::Bf16(x) => kernel.widen(Values::Bf16(&x[range]), out),
            },
            Self::Blocks(m) => m.rows_to_f32(kernel, first, out),
        }
    }

    /// `out[i] = dot(row ids[i], x)`, bit-equal to what [`Table::matmul`] gives for those rows.
    pub fn rows_matmul(&self, kernel: &Kernel, x: &[f32], ids: &[u32], out: &mut [f32]) {
        match self {
            Self::Dense(m) => kernel.dense_rows(m.values(), m.cols(), x, ids, out),
            Self::Blocks(m) => kernel.block_rows(m.blocks(), x, ids, out),
        }
    }

    /// `out[t][i] = dot(row first + i, x[t])` in the kernels' lane order.
    pub fn matmul(&self, kernel: &Kernel, x: &[f32], first: usize, out: &mut ColumnsMut<'_, f32>) {
        match self {
            Self::Dense(m) => kernel.dense_matmul(m.values(), m.cols(), x, first, out),
            Self::Blocks(m) => m.matmul(kernel, x, first, out),
        }
    }
}

/// The kernel that every machine has. What it makes of blocks, all others make of them, too.
fn anywhere() -> Option<&'static Kernel> {
    bitnet_kernels::available().last()
}

/// Rows of quantized blocks.
#[derive(Clone, Debug)]
pub struct BlockTable {
    ty: BlockType,
    rows: usize,
    cols: usize,
    bytes: SharedBytes,
    /// Room for the decoded rows of one piece of work, for as many threads as there are.
    decoded: Arc<[Mutex<Vec<f32>>]>,
}

impl BlockTable {
    /// All of them, as kernels take them.
    pub fn blocks(&self) -> Blocks<'_> {
        Blocks { ty: self.ty, cols: self.cols, bytes: &self.bytes }
    }

    fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match anywhere() {
            Some(kernel) => self.rows_to_f32(kernel, row, out),
            None => out.fill(f32::NAN),
        }
    }

    /// Whole rows from `first` on.
    fn rows_to_f32(&self, kernel: &Kernel, first: usize, out: &mut [f32]) {
        let row = self.bytes.len() / self.rows;
        kernel.widen_blocks(self.ty, &self.bytes[first * row..][..out.len() / self.cols * row], out);
    }

    /// One token meets its weights where they are made; for several, rows are widened once.
    fn matmul(&self, kernel: &Kernel, x: &[f32], first: usize, out: &mut ColumnsMut<'_, f32>) {
        if out.rows() == 1 {
            return kernel.block_vector(self.blocks(), x, first, out);
        }
        assert!(!self.decoded.is_empty(), "a table of blocks is prepared before it is multiplied");
        // One room for each thread: one of them is always free. What a panicking thread left behind is overwritten.
        let mut free = self.decoded.iter().cycle().filter_map(|room| match room.try_lock() {
            Ok(room) => Some(room),
            Err(TryLockError::Poisoned(room)) => Some(room.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        let Some(mut decoded) = free.next() else { return };
        let rows = &mut decoded[..out.width() * self.cols];
        self.rows_to_f32(kernel, first, rows);
        kernel.dense_matmul(Values::F32(rows), self.cols, x, 0, out);
    }
}
