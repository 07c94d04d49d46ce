//! Blocks of 256 weights, whose parts have scales of their own.
//!
//! The scales of all parts are made first, in one vector, and kept in memory: a load that fills all lanes is cheaper than any way to
//! move one lane to the others.

use super::{
    codec::{Codec, Sink},
    of_32::{PLAIN, UNEQUAL_STEPS, cut, half_at},
};
use crate::{
    isa::{Isa, Lanes},
    simd::{Floats, bytes::Bytes},
};

#[derive(Clone, Copy)]
pub(crate) struct Q2K;
#[derive(Clone, Copy)]
pub(crate) struct Q3K;
#[derive(Clone, Copy)]
pub(crate) struct Q4K;
#[derive(Clone, Copy)]
pub(crate) struct Q5K;
#[derive(Clone, Copy)]
pub(crate) struct Q6K;
#[derive(Clone, Copy)]
pub(crate) struct Iq4Xs;

/// `x`, where every part's scale lies in bytes, times `d`.
#[inline(always)]
fn scales<I: Isa>(x: <I::Floats as Floats>::Bytes, d: I::Floats) -> Lanes<f32> {
    I::Floats::of_integers(x).mul(d).store()
}

/// The two-bit codes of part `part` of 16: 128 weights lie in 32 bytes.
#[inline(always)]
fn two_bits<I: Isa>(isa: I, codes: &[u8], part: usize) -> <I::Floats as Floats>::Bytes {
    let codes = isa.load_bytes(cut(codes, part / 8 * 32 + part % 2 * 16));
    codes.shr((part % 8 / 2 * 2) as u32).and(isa.splat_byte(3))
}

/// Sixteen parts of 16; scale and minimum of each in one byte, two-bit codes.
impl Codec<84, 16> for Q2K {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 84], sink: &mut impl Sink<I>) {
        let packed = isa.load_bytes(cut(block, 0));
        let scales = scales::<I>(packed.and(isa.splat_byte(15)), half_at(isa, block, 80));
        // What is subtracted, negated: the same sum.
        let less = half_at(isa, block, 82).mul(isa.splat(-1.0));
        let less = I::Floats::of_integers(packed.shr(4)).mul(less).store();
        for part in 0..16 {
            let codes = I::Floats::of_integers(two_bits(isa, &block[16..80], part));
            sink.take(isa, part, codes.mul(isa.splat(scales[part])).add(isa.splat(less[part])));
        }
    }
}

/// Sixteen parts of 16 with 6-bit scales; where the bit of `high` is missing, the code is less by 4.
impl Codec<110, 16> for Q3K {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 110], sink: &mut impl Sink<I>) {
        let packed = isa.load_bytes(&six_bits(cut(block, 96)));
        let scales = scales::<I>(packed.sub(isa.splat_byte(32)), half_at(isa, block, 108));
        let high: [_; 2] = [isa.load_bytes(cut(block, 0)), isa.load_bytes(cut(block, 16))];
        for part in 0..16 {
            let third = high[part % 2].shr((part / 2) as u32).and(isa.splat_byte(1)).shl(2);
            let codes = two_bits(isa, &block[32..96], part).or(third).sub(isa.splat_byte(4));
            sink.take(isa, part, I::Floats::of_integers(codes).mul(isa.splat(scales[part])));
        }
    }
}

/// Sixteen scales of six bits: four in the nibbles of eight bytes, two in four more.
#[inline(always)]
fn six_bits(packed: &[u8; 12]) -> [u8; 16] {
    const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let low = u64::from_le_bytes(*cut(packed, 0));
    let high = u32::from_le_bytes(*cut(packed, 8));
    let pairs = |shift: u32| u64::from(high >> shift & 0x0303_0303) << 4;
    let first = low & NIBBLES | pairs(0) | pairs(2) << 32;
    let second = low >> 4 & NIBBLES | pairs(4) | pairs(6) << 32;
    let mut all = [0; 16];
    all[..8].copy_from_slice(&first.to_le_bytes());
    all[8..].copy_from_slice(&second.to_le_bytes());
    all
}

/// The scales of eight parts, and behind eight others what is subtracted, negated: six bits each, spread over twelve bytes.
#[inline(always)]
fn scales_and_mins<I: Isa>(isa: I, block: &[u8]) -> (Lanes<f32>, Lanes<f32>) {
    let word = |at: usize| u32::from_le_bytes(*cut(block, at));
    let (a, b, c) = (word(4), word(8), word(12));
    let words = [
        a & 0x3f3f_3f3f,
        c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4,
        b & 0x3f3f_3f3f,
        c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4,
    ];
    let packed: [u8; 16] = bytemuck::must_cast(words.map(u32::to_le));
    let packed = isa.load_bytes(&packed);
    let less = half_at(isa, block, 2).mul(isa.splat(-1.0));
    (scales::<I>(packed, half_at(isa, block, 0)), scales::<I>(packed, less))
}

/// Eight parts of 32 with a 6-bit scale and a 6-bit minimum each; four-bit codes.
impl Codec<144, 16> for Q4K {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 144], sink: &mut impl Sink<I>) {
        let (scales, less) = scales_and_mins(isa, block);
        for part in 0..8 {
            let (scale, less) = (isa.splat(scales[part]), Some(isa.splat(less[8 + part])));
            for half in 0..2 {
                let codes = cut(block, 16 + part / 2 * 32 + 16 * half);
                let weights = match part % 2 {
                    0 => isa.nibbles::<false>(codes, &PLAIN, scale, less),
                    _ => isa.nibbles::<true>(codes, &PLAIN, scale, less),
                };
                sink.take(isa, 2 * part + half, weights);
            }
        }
    }
}

/// As [`Q4K`], with a fifth bit of weight `l` of part `j` in bit `j` of byte `l`.
impl Codec<176, 16> for Q5K {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 176], sink: &mut impl Sink<I>) {
        let (scales, less) = scales_and_mins(isa, block);
        let (four, one) = (isa.splat_byte(15), isa.splat_byte(1));
        let high = [isa.load_bytes(cut(block, 16)), isa.load_bytes(cut(block, 32))];
        for part in 0..8 {
            let (scale, less) = (isa.splat(scales[part]), isa.splat(less[8 + part]));
            for (half, high) in high.into_iter().enumerate() {
                let codes = isa.load_bytes(cut(block, 48 + part / 2 * 32 + 16 * half));
                let codes = codes.shr((part % 2 * 4) as u32).and(four);
                let codes = codes.or(high.shr(part as u32).and(one).shl(4));
                sink.take(isa, 2 * part + half, I::Floats::of_integers(codes).mul(scale).add(less));
            }
        }
    }
}

/// Two halves of 128; four low bits here, two high bits there, sixteen scales.
impl Codec<210, 16> for Q6K {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 210], sink: &mut impl Sink<I>) {
        let scales = scales::<I>(isa.load_bytes(cut(block, 192)), half_at(isa, block, 208));
        let (four, two) = (isa.splat_byte(15), isa.splat_byte(3));
        for half in 0..2 {
            let high: [_; 2] =
                [isa.load_bytes(cut(block, 128 + 32 * half)), isa.load_bytes(cut(block, 144 + 32 * half))];
            for quarter in 0..4 {
                for (l, high) in high.into_iter().enumerate() {
                    let low = isa.load_bytes(cut(block, 64 * half + quarter % 2 * 32 + 16 * l));
                    let low = low.shr((quarter / 2 * 4) as u32).and(four);
                    let codes = low.or(high.shr(2 * quarter as u32).and(two).shl(4)).sub(isa.splat_byte(32));
                    let group = 8 * half + 2 * quarter + l;
                    sink.take(isa, group, I::Floats::of_integers(codes).mul(isa.splat(scales[group])));
                }
            }
        }
    }
}

/// Eight parts of 32; four bits of each scale in nibbles, two more in a word.
impl Codec<136, 16> for Iq4Xs {
    #[inline(always)]
    fn decode<I: Isa>(self, isa: I, block: &[u8; 136], sink: &mut impl Sink<I>) {
        let high = u16::from_le_bytes(*cut(block, 2));
        let mut packed = [0; 16];
        for (j, packed) in packed[..8].iter_mut().enumerate() {
            *packed = block[4 + j / 2] >> (j % 2 * 4) & 15 | ((high >> (2 * j) & 3) as u8) << 4;
        }
        let packed = isa.load_bytes(&packed).sub(isa.splat_byte(32));
        let scales = scales::<I>(packed, half_at(isa, block, 0));
        for (part, &scale) in scales[..8].iter().enumerate() {
            let (codes, scale) = (cut(block, 8 + 16 * part), isa.splat(scale));
            sink.take(isa, 2 * part, isa.nibbles::<false>(codes, &UNEQUAL_STEPS, scale, None));
            sink.take(isa, 2 * part + 1, isa.nibbles::<true>(codes, &UNEQUAL_STEPS, scale, None));
        }
    }
}
