//! Products of weights in base 3.

use bitnet_core::threads::ColumnsMut;
use bitnet_quant::{PackedBase3, QuantizedRows};

use super::{STRIP, Strips, WholeRows, lanes, write};
use crate::isa::{Block, Isa, Lanes, Op, Word};

/// Blocks that become [`MADE`] blocks of two bits a trit.
const TAKEN: usize = 4;
const MADE: usize = 5;
/// Runs of [`TAKEN`] blocks that are unpacked before they are multiplied.
const RUNS: usize = 4;

/// Some strips times all tokens, one token after another.
pub(crate) struct MatmulBase3<'a, 'b> {
    pub(crate) w: &'a PackedBase3,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for MatmulBase3<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, out } = self;
        let (first, rows) = (out.start() / STRIP, out.width());
        let blocks = &w.bytes().as_chunks().0[first * w.blocks()..];
        for token in 0..out.rows() {
            let (codes, sum, step) = (&x.codes(token)[..w.cols()], x.sum(token), x.step(token));
            let out = out.row(token);
            for (s, strip) in blocks.chunks_exact(w.blocks()).take(rows.div_ceil(STRIP)).enumerate() {
                let sums = isa.dot_base3(strip, codes);
                let y = isa.finish(&sums, sum, step, &lanes(w.scales().strip(first + s, 0)));
                write(&y, s * STRIP..((s + 1) * STRIP).min(rows), out);
            }
        }
    }
}

/// Some strips times all tokens, by way of strips of two bits a trit in `scratch`.
pub(crate) struct TiledBase3<'a, 'b> {
    pub(crate) w: &'a PackedBase3,
    pub(crate) x: &'a QuantizedRows,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl Op for TiledBase3<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { w, x, scratch, out } = self;
        let (first, rows, cols) = (out.start(), out.width(), w.cols());
        let strips = scratch.as_chunks_mut().0;
        let blocks = &w.bytes().as_chunks().0[first / STRIP * w.blocks()..];
        let made = strips.chunks_exact_mut(cols.div_ceil(STRIP)).take(rows.div_ceil(STRIP));
        for (strip, made) in blocks.chunks_exact(w.blocks()).zip(made) {
            for (taken, made) in strip.chunks(TAKEN).zip(made.chunks_mut(MADE)) {
                made.copy_from_slice(&isa.unpack_base3(four(taken))[..made.len()]);
            }
        }
        isa.call(WholeRows { w: &Strips::of(strips, cols, w.scales(), first, rows), x, out });
    }
}

/// Trits of 0, five to a byte.
static EMPTY: Block = [121; 64];

/// Up to four blocks, filled up.
#[inline(always)]
fn four(blocks: &[Block]) -> [&Block; TAKEN] {
    std::array::from_fn(|i| blocks.get(i).unwrap_or(&EMPTY))
}

/// [`Isa::dot_base3`] for any instruction set.
#[inline(always)]
pub(crate) fn dot<I: Isa>(isa: I, blocks: &[Block], x: &[i8]) -> Lanes<i32> {
    let mut sums = [0; STRIP];
    let columns = RUNS * MADE * STRIP;
    for (blocks, x) in blocks.chunks(RUNS * TAKEN).zip(x.chunks(columns)) {
        let mut made = [[0; 64]; RUNS * MADE];
        for (taken, made) in blocks.chunks(TAKEN).zip(made.as_chunks_mut().0) {
            *made = isa.unpack_base3(four(taken));
        }
        let mut words: [Word; RUNS * MADE] = [[0; 16]; RUNS * MADE];
        words.as_flattened_mut()[..x.len()].copy_from_slice(x);
        let used = x.len().div_ceil(STRIP);
        let part = isa.dot(&made[..used], &words[..used]);
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// The definition of [`Isa::unpack_base3`]: groups of four columns follow one another in both layouts, five to a block in one
/// and four in the other.
#[inline(always)]
pub(crate) fn unpack(blocks: [&Block; TAKEN]) -> [Block; MADE] {
    let (mut low, mut high) = ([[0u8; 64]; TAKEN], [[0u8; 64]; TAKEN]);
    for i in 0..TAKEN {
        for j in 0..64 {
            low[i][j] = digits(blocks[i][j]).0;
        }
        for j in 0..64 {
            high[i][j] = digits(blocks[i][j]).1;
        }
    }
    let mut made = [low[0], [0; 64], [0; 64], [0; 64], [0; 64]];
    for j in 0..64 {
        made[1][j] = high[0][j] | low[1][j] << 2;
        made[2][j] = low[1][j] >> 6 | high[1][j] << 2 | low[2][j] << 4;
        made[3][j] = low[2][j] >> 4 | high[2][j] << 4 | low[3][j] << 6;
        made[4][j] = low[3][j] >> 2 | high[3][j] << 6;
    }
    made
}

/// The four low digits, two bits each, and the highest. Comparisons, which every set has as vectors.
#[inline(always)]
pub(crate) const fn digits(byte: u8) -> (u8, u8) {
    let mut rest = byte;
    let high = (rest >= 81) as u8 + (rest >= 162) as u8;
    rest = rest.wrapping_sub(81 * high);
    let third = (rest >= 27) as u8 + (rest >= 54) as u8;
    rest = rest.wrapping_sub(27 * third);
    let second = (rest >= 9) as u8 + (rest >= 18) as u8;
    rest = rest.wrapping_sub(9 * second);
    let first = (rest >= 3) as u8 + (rest >= 6) as u8;
    rest = rest.wrapping_sub(3 * first);
    (rest | first << 2 | second << 4 | third << 6, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_digits() {
        for code in 0..243u8 {
            let (low, high) = digits(code);
            let digit = |p: u32| code / 3u8.pow(p) % 3;
            assert_eq!((low, high), (digit(0) | digit(1) << 2 | digit(2) << 4 | digit(3) << 6, digit(4)));
        }
    }
}
