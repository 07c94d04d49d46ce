//! The shapes that all instruction sets read and write: blocks of codes, words of activations, lanes.

/// One 64-byte block of a strip: 16 rows by 16 columns, see `bitnet_quant::PackedTernary`.
pub(crate) type Block = [u8; 64];

/// The activations of the 16 columns of one block.
pub(crate) type Word = [i8; 16];

/// One value for each of the 16 rows of a strip.
pub(crate) type Lanes<T> = [T; 16];

/// The four activation bytes that plane `p` of a block meets, as one little-endian word.
#[inline(always)]
pub(crate) fn plane_word(x: &Word, p: usize) -> i32 {
    i32::from_le_bytes([x[4 * p] as u8, x[4 * p + 1] as u8, x[4 * p + 2] as u8, x[4 * p + 3] as u8])
}

/// The activations of four columns as one little-endian word.
#[inline(always)]
pub(crate) fn four_word(x: &Four) -> i32 {
    let [a, b, c, d] = *x;
    i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
}

/// `[of(0), of(1), ..]`. In hot code instead of `std::array::from_fn` and `map`: those may become functions of their own, which are
/// compiled without the instruction set of the code around them. `N` is at least 1.
#[inline(always)]
pub(crate) fn array<T: Copy, const N: usize>(of: impl Fn(usize) -> T) -> [T; N] {
    let mut all = [of(0); N];
    let mut i = 1;
    while i < N {
        all[i] = of(i);
        i += 1;
    }
    all
}

/// Four columns of 16 rows, a code to a byte: byte `4 * r + c` is row `r`, column `c`.
pub(crate) type Plane = [u8; 64];

/// The activations of four columns.
pub(crate) type Four = [i8; 4];
