//! From a token's vector to int8: absmax rounding.
//!
//! With `amax = max(max|x|, 1e-5)`: `q = round_to_even(x * a)` and `step = amax / 127`, so that `q * step` stands for `x`.
//! The factor is `a = 127 * (1 / amax)`, rounded twice: PyTorch divides a number by a tensor in this way, models were
//! trained and are checked with it, and where `x * a` comes out halfway between two integers (weights in bf16 make
//! that happen) the last bit of `a` decides. BitNet models were trained with one step per token. Models that were trained with float
//! activations lose less with one step per [`BLOCK`] columns.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose, ThreadPool};

/// The largest magnitude is never taken below this, so that an all-zero vector has a finite reciprocal.
pub const MIN_AMAX: f32 = 1e-5;
/// Columns that share a step in [`Activations::Int8PerBlock`].
pub const BLOCK: usize = 32;
/// Rows of [`QuantizedRows`] are padded with zeros to a multiple of this many columns: one 64-byte vector.
pub const ROW_ALIGNMENT: usize = 64;

/// What a projection multiplies its trits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activations {
    /// int8 with one step per token, as W1.58A8 models are trained.
    Int8PerToken,
    /// int8 with one step per [`BLOCK`] columns, for models trained with float activations.
    Int8PerBlock,
    /// The f32 vector itself, which is not quantized.
    Float,
}

/// Quantizes one vector (or one block of it) and returns its step. `out.len() >= x.len()`; the rest becomes 0.
///
/// A vector with a number that is infinite or NaN has an infinite step and codes of 0: every product with it is NaN, so that the fault
/// shows in the result.
pub fn quantize(x: &[f32], out: &mut [i8]) -> f32 {
    let size = |v: &f32| if v.is_nan() { f32::INFINITY } else { v.abs() };
    let amax = x.iter().map(size).fold(MIN_AMAX, f32::max);
    let scale = 127.0 * (1.0 / amax);
    let (head, tail) = out.split_at_mut(x.len());
    // `as` saturates and turns NaN into 0.
    head.iter_mut().zip(x).for_each(|(q, v)| *q = (v * scale).round_ties_even() as i8);
    tail.fill(0);
    amax / 127.0
}

/// Quantized vectors of several tokens, made once and read by every projection that shares them.
///
/// Codes are row-major `[tokens, stride]` with `stride` the columns rounded up to [`ROW_ALIGNMENT`], padding 0.
#[derive(Debug)]
pub struct QuantizedRows {
    capacity: usize,
    cols: usize,
    stride: usize,
    blocks: usize,
    codes: Buffer<i8>,
    steps: Buffer<f32>,
    sums: Buffer<i32>,
}

impl QuantizedRows {
    /// Room for `capacity` tokens of at most `cols` columns in either int8 form.
    ///
    /// # Errors
    /// When the pool has no memory.
    pub fn new(pool: &HybridMemoryPool, capacity: usize, cols: usize) -> bitnet_core::Result<Self> {
        let stride = cols.next_multiple_of(ROW_ALIGNMENT);
        let blocks = stride / BLOCK;
        let allocate = |per_token: usize| capacity.saturating_mul(per_token);
        Ok(Self {
            capacity,
            cols,
            stride,
            blocks,
            codes: pool.allocate(Purpose::State, allocate(stride))?,
            steps: pool.allocate(Purpose::State, allocate(blocks))?,
            sums: pool.allocate(Purpose::State, allocate(blocks))?,
        })
    }

    /// The largest number of tokens that can be held.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Elements of a token's vector, without padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes from one token's codes to the next.
    #[inline]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The codes of `token`, padded with zeros to `stride`.
    #[inline]
    pub fn codes(&self, token: usize) -> &[i8] {
        &self.codes[token * self.stride..(token + 1) * self.stride]
    }

    /// The step of `token` (per-token form).
    #[inline]
    pub fn step(&self, token: usize) -> f32 {
        self.steps[token * self.blocks]
    }

    /// The sum of the codes of `token` (per-token form).
    #[inline]
    pub fn sum(&self, token: usize) -> i32 {
        self.sums[token * self.blocks]
    }

    /// The steps of the blocks of `token` (per-block form).
    #[inline]
    pub fn block_steps(&self, token: usize) -> &[f32] {
        &self.steps[token * self.blocks..(token + 1) * self.blocks]
    }

    /// The sums of the codes of the blocks of `token` (per-block form).
    #[inline]
    pub fn block_sums(&self, token: usize) -> &[i32] {
        &self.sums[token * self.blocks..(token + 1) * self.blocks]
    }

    /// One token's parts for a kernel to fill: codes (`stride`), steps and sums (one per block; the per-token form uses the first).
    pub fn row_mut(&mut self, token: usize) -> (&mut [i8], &mut [f32], &mut [i32]) {
        (
            &mut self.codes[token * self.stride..(token + 1) * self.stride],
            &mut self.steps[token * self.blocks..(token + 1) * self.blocks],
            &mut self.sums[token * self.blocks..(token + 1) * self.blocks],
        )
    }

    /// Calls `work(token, codes, steps, sums)` for the first `tokens` tokens, `per_chunk` at a time on all threads;
    /// the slices are those of [`QuantizedRows::row_mut`].
    ///
    /// # Panics
    /// When there is no room for `tokens`.
    pub fn for_each_token_mut(
        &mut self,
        threads: &ThreadPool,
        tokens: usize,
        per_chunk: usize,
        work: impl Fn(usize, &mut [i8], &mut [f32], &mut [i32]) + Sync,
    ) {
        let (stride, blocks) = (self.stride, self.blocks);
        let codes = (&mut self.codes[..tokens * stride], per_chunk * stride);
        let steps = (&mut self.steps[..tokens * blocks], per_chunk * blocks);
        let sums = (&mut self.sums[..tokens * blocks], per_chunk * blocks);
        threads.for_each_chunk_mut3(codes, steps, sums, |chunk, codes, steps, sums| {
            let marks = steps.chunks_exact_mut(blocks).zip(sums.chunks_exact_mut(blocks));
            for (i, (codes, (steps, sums))) in codes.chunks_exact_mut(stride).zip(marks).enumerate() {
                work(chunk * per_chunk + i, codes, steps, sums);
            }
        });
    }

    /// Quantizes `x` as `token`, one step for all of it. The definition; kernels have faster equals.
    pub fn quantize_token(&mut self, token: usize, x: &[f32]) {
        assert_eq!(x.len(), self.cols);
        let (codes, steps, sums) = self.row_mut(token);
        steps[0] = quantize(x, codes);
        sums[0] = codes.iter().map(|&q| i32::from(q)).sum();
    }

    /// Quantizes `x` as `token`, one step per [`BLOCK`] columns. The definition; kernels have faster equals.
    pub fn quantize_blocks(&mut self, token: usize, x: &[f32]) {
        assert_eq!(x.len(), self.cols);
        let (codes, steps, sums) = self.row_mut(token);
        for (b, codes) in codes.chunks_exact_mut(BLOCK).enumerate() {
            let block = x.get(b * BLOCK..).unwrap_or(&[]);
            steps[b] = quantize(&block[..block.len().min(BLOCK)], codes);
            sums[b] = codes.iter().map(|&q| i32::from(q)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_becomes_127_and_halves_round_to_even() {
        let mut q = [9i8; 8];
        let step = quantize(&[127.0, 0.5, 1.5, -2.5, -0.49, -127.0], &mut q);
        assert_eq!((step, q), (1.0, [127, 0, 2, -2, 0, -127, 0, 0]));
    }

    #[test]
    fn the_factor_is_rounded_twice() {
        // NumPy in float32: rint(x * (127 * (1 / amax))). With 127 / amax in one rounding each of these codes is its neighbour.
        for (amax, x, code) in [
            (1.5, 0.572_834_7, 49),
            (0.796_875, 0.712_167_8, 114),
            (1.757_812_5, 0.034_602_61, 3),
            (0.656_25, 0.519_315_96, 101),
            (109.0, 25.318_897, 29),
            (96.0, 65.385_826, 87),
        ] {
            let mut q = [0i8; 3];
            assert_eq!(quantize(&[amax, x, -x], &mut q), amax / 127.0);
            assert_eq!(q, [127, code, -code], "{x} of {amax}");
        }
    }

    #[test]
    fn tiny_zero_and_broken_vectors_are_defined() {
        let mut q = [0i8; 2];
        assert_eq!((quantize(&[0.0, 0.0], &mut q), q), (MIN_AMAX / 127.0, [0, 0]));
        quantize(&[1e-6, -1e-5], &mut q);
        assert_eq!(q, [13, -127]);
        assert_eq!((quantize(&[f32::NAN, 127.0], &mut q), q), (f32::INFINITY, [0, 0]));
        assert!(quantize(&[f32::INFINITY, 1.0], &mut q).is_infinite());
    }

    #[test]
    fn rows_and_blocks_have_their_steps_and_sums() {
        let mut rows = QuantizedRows::new(&HybridMemoryPool::new(), 2, 70).unwrap();
        let x: Vec<f32> = (0..70).map(|i| i as f32 - 20.0).collect();
        rows.quantize_token(1, &x);
        assert_eq!(rows.stride(), 128);
        assert_eq!((rows.step(1), rows.codes(1)[69]), (49.0 / 127.0, 127));
        assert_eq!(rows.sum(1), rows.codes(1).iter().map(|&q| q as i32).sum::<i32>());
        rows.quantize_blocks(0, &x);
        assert_eq!(rows.block_steps(0)[..3], [20.0 / 127.0, 43.0 / 127.0, 49.0 / 127.0]);
        assert!(rows.codes(0)[70..].iter().all(|&q| q == 0));
    }
}
