//! Blocks of 32 weights. The lower halves of bytes are the first 16, the upper ones the others.

use super::codec::{Codec, Sink};
use crate::{
    isa::Isa,
    simd::{Floats, bytes::Bytes},
};

/// Levels of four-bit codes that stand for themselves, 0 to 15.
pub(super) const PLAIN: [i8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Levels of four-bit codes that are stored with 8 added, -8 to 7.
const LESS_8: [i8; 16] = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7];
/// What the codes of IQ4_NL and IQ4_XS stand for.
pub(super) const UNEQUAL_STEPS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the floats of one sign, two exponent and one fraction bit.
const HALF_FLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

#[derive(Clone, Copy)]
pub(crate) struct Q4_0;
#[derive(Clone, Copy)]
pub(crate) struct Q4_1;
#[derive(Clone, Copy)]
pub(crate) struct Q5_0;
#[derive(Clone, Copy)]
pub(crate) struct Q5_1;
#[derive(Clone, Copy)]
pub(crate) struct Q8_0;
#[derive(Clone, Copy)]
pub(crate) struct Iq4Nl;
#[derive(Clone, Copy)]
pub(crate) struct Mxfp4;

/// The `N` bytes from `at` on, as an array.
#[inline(always)]
pub(super) fn cut<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    // A constant place in an array: checked when it is compiled, and gone.
    match bytes[at..].first_chunk() {
        Some(cut) => cut,
        None => unreachable!("blocks are as long as their type says"),
    }
}

/// The f16 at byte `at` in all lanes.
#[inline(always)]
pub(super) fn half_at<I: Isa>(isa: I, bytes: &[u8], at: usize) -> I::Floats {
    isa.splat_f16(u16::from_le_bytes(*cut(bytes, at)))
}

/// Sixteen bytes of codes as `levels * scale + offset`.
#[inline(always)]
fn nibbles<I: Isa>(
    isa: I,
    codes: &[u8; 16],
    levels: &[i8; 16],
    (scale, offset): (I::Floats, Option<I::Floats>),
    sink: &mut impl Sink<I>,
) {
    sink.take(isa, 0, isa.nibbles::<false>(codes, levels, scale, offset));
    sink.take(isa, 1, isa.nibbles::<true>(codes, levels, scale, offset));
}

/// Codes of five bits: four in the nibbles of `codes`, the fifth of weight `j` in bit `j` of `high`; less `minus`.
#[inline(always)]
fn five_bits<I: Isa>(isa: I, codes: &[u8; 16], high: [u8; 4], minus: u8) -> [I::Floats; 2] {
    let codes = isa.load_bytes(codes);
    let (four, fifth, minus) = (isa.splat_byte(15), isa.splat_byte(16), isa.splat_byte(minus));
    let [a, b, c, d] = high;
    let first = codes.and(four).or(isa.spread_bits(u16::from_le_bytes([a, b])).and(fifth));
    let second = codes.shr(4).or(isa.spread_bits(u16::from_le_bytes([c, d])).and(fifth));
    [I::Floats::of_integers(first.sub(minus)), I::Floats::of_integers(second.sub(minus))]
}

impl Codec<18, 2> for Q4_0 {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 18], sink: &mut impl Sink<I>) {
        nibbles(isa, cut(block, 2), &LESS_8, (half_at(isa, block, 0), None), sink);
    }
}

impl Codec<20, 2> for Q4_1 {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 20], sink: &mut impl Sink<I>) {
        let (scale, least) = (half_at(isa, block, 0), half_at(isa, block, 2));
        nibbles(isa, cut(block, 4), &PLAIN, (scale, Some(least)), sink);
    }
}

impl Codec<22, 2> for Q5_0 {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 22], sink: &mut impl Sink<I>) {
        let scale = half_at(isa, block, 0);
        let [first, second] = five_bits(isa, cut(block, 6), *cut(block, 2), 16);
        sink.take(isa, 0, first.mul(scale));
        sink.take(isa, 1, second.mul(scale));
    }
}

impl Codec<24, 2> for Q5_1 {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 24], sink: &mut impl Sink<I>) {
        let (scale, least) = (half_at(isa, block, 0), half_at(isa, block, 2));
        let [first, second] = five_bits(isa, cut(block, 8), *cut(block, 4), 0);
        sink.take(isa, 0, first.mul(scale).add(least));
        sink.take(isa, 1, second.mul(scale).add(least));
    }
}

impl Codec<34, 2> for Q8_0 {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 34], sink: &mut impl Sink<I>) {
        let scale = half_at(isa, block, 0);
        for group in 0..2 {
            let codes = isa.load_bytes(cut(block, 2 + 16 * group));
            sink.take(isa, group, I::Floats::of_integers(codes).mul(scale));
        }
    }
}

impl Codec<18, 2> for Iq4Nl {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 18], sink: &mut impl Sink<I>) {
        nibbles(isa, cut(block, 2), &UNEQUAL_STEPS, (half_at(isa, block, 0), None), sink);
    }
}

/// The scale is an exponent alone; halved, since the levels are doubled.
impl Codec<17, 2> for Mxfp4 {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 17], sink: &mut impl Sink<I>) {
        let half_scale = match u32::from(block[0]) {
            // Subnormal.
            e @ 0..2 => 0x0020_0000 << e,
            e => (e - 1) << 23,
        };
        let scale = isa.splat(f32::from_bits(half_scale));
        nibbles(isa, cut(block, 1), &HALF_FLOATS, (scale, None), sink);
    }
}
