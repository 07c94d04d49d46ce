//! What an instruction set brings, and how a generic operation is compiled for it.
//!
//! An operation is a value that implements [`Op`]; its `eval` is generic over [`Isa`] and always inlined. Each
//! instruction set has one `#[target_feature]` function `run`, so the same body is compiled once per set and
//! the compiler may use that set's vectors for the fixed 16-lane loops. Floats are only ever added, multiplied
//! and divided in an order that the source fixes (Rust never contracts to fused operations), so every
//! compilation gives the same bits.

/// One 64-byte block of a strip: 16 rows by 16 columns, see `bitnet_quant::PackedTernary`.
pub(crate) type Block = [u8; 64];
/// The activations of the 16 columns of one block.
pub(crate) type Word = [i8; 16];
/// One value per row of a strip.
pub(crate) type Lanes<T> = [T; 16];

/// An instruction set. Holding a value proves that this CPU has it, since values can only be made inside
/// functions compiled for the set.
pub(crate) trait Isa: Copy {
    /// Strips in the widest tile of [`Isa::tile`].
    const STRIPS: usize;
    /// Tokens in the widest tile.
    const TOKENS: usize;

    /// `sum(code * x)` per row of a strip, over `blocks.len()` blocks and as many words of activations.
    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32>;

    /// The same for `S` strips times `T` tokens: `out[s][t] = dot(strips[s], x[t])`.
    /// All slices have one length. Called with `S <= STRIPS`, `T <= TOKENS`.
    fn tile<const S: usize, const T: usize>(
        self,
        strips: [&[Block]; S],
        x: [&[Word]; T],
        out: &mut [[Lanes<i32>; T]; S],
    );

    /// Widens 16 binary16 values, exactly (a signalling NaN becomes quiet).
    #[inline(always)]
    fn f16_to_f32(self, halves: &[u16; 16]) -> Lanes<f32> {
        let mut out = [0.0; 16];
        for (o, &h) in out.iter_mut().zip(halves) {
            *o = crate::float::half::widen(h);
        }
        out
    }

    /// Rounds 16 values to binary16, ties to even (a signalling NaN becomes quiet).
    #[inline(always)]
    fn f32_to_f16(self, values: &Lanes<f32>) -> [u16; 16] {
        let mut out = [0; 16];
        for (o, &v) in out.iter_mut().zip(values) {
            *o = crate::float::half::round(v);
        }
        out
    }
}

/// An operation written once for all instruction sets.
pub(crate) trait Op {
    /// What it returns.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`, as is everything hot that they call.
    fn eval<I: Isa>(self, isa: I) -> Self::Output;
}

/// The four activation bytes that plane `p` of a block meets, as one little-endian word.
#[inline(always)]
pub(crate) fn plane_word(x: &Word, p: usize) -> i32 {
    i32::from_le_bytes([x[4 * p] as u8, x[4 * p + 1] as u8, x[4 * p + 2] as u8, x[4 * p + 3] as u8])
}
