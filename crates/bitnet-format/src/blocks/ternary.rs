//! Ternary rows: every layout to plain 2-bit codes (trit + 1, four to a byte, first lowest) and scales.
//!
//! Sources: ggml `dequantize_row_tq1_0`, `_tq2_0`, `_q2_0`; bitnet.cpp `quantize_i2_s`; ik_llama.cpp `iqk_quantize.cpp`;
//! PrismML's `ggml-common.h` for blocks of 128.

use crate::TensorType;

use super::{
    gather::{gather, plane},
    parts::half_at,
};

/// The most weights that one run has.
const MAX_RUN: usize = 256;

/// A tensor's bytes, and its shape, which were matched when the file was opened.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) ty: TensorType,
    pub(crate) bytes: &'a [u8],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Rows<'_> {
    /// Calls `visit(codes, weights, scale)` for each run of weights of `row` that the layout keeps together, in
    /// order; every run but the last has a multiple of four weights.
    pub(crate) fn runs(&self, row: usize, mut visit: impl FnMut(&[u8], usize, f32)) {
        use TensorType as T;
        let mut codes = [0u8; MAX_RUN / 4];
        let row_bytes = self.bytes.len() / self.rows.max(1);
        let bytes = &self.bytes[row * row_bytes..][..row_bytes];
        match self.ty {
            T::I2S | T::I2S64 => self.i2_s(row, &mut codes, visit),
            T::Tq1_0 => bytes.as_chunks::<54>().0.iter().for_each(|b| {
                tq1_0(b, &mut codes);
                visit(&codes, 256, half_at(b, 52));
            }),
            T::Tq2_0 => bytes.as_chunks::<66>().0.iter().for_each(|b| {
                tq2_0(b, &mut codes);
                visit(&codes, 256, half_at(b, 64));
            }),
            // Plain codes in plain order.
            T::Q2_0 { group } => {
                bytes.chunks_exact(2 + group / 4).for_each(|b| visit(&b[2..], group, half_at(b, 0)));
            }
            T::Tq2_0G128 => bytes.as_chunks::<34>().0.iter().for_each(|b| {
                codes.iter_mut().zip(&b[..32]).for_each(|(code, &b)| *code = threes_to_zeros(b));
                visit(&codes[..32], 128, half_at(b, 32));
            }),
            T::Ptq1_0 => bytes.as_chunks::<28>().0.iter().for_each(|b| {
                ptq1_0(b, &mut codes);
                visit(&codes[..32], 128, half_at(b, 26));
            }),
            T::Q1_0 => bytes.as_chunks::<18>().0.iter().for_each(|b| {
                signs(&b[2..], &mut codes);
                visit(&codes[..32], 128, half_at(b, 0));
            }),
            T::Iq1Bn => bytes[2..].as_chunks::<13>().0.iter().for_each(|b| {
                iq1_bn(b, &mut codes);
                visit(&codes[..16], 64, half_at(bytes, 0));
            }),
            T::Iq2Bn => bytes[4..].as_chunks::<16>().0.iter().for_each(|b| {
                (0..4).for_each(|l| plane(b, 2 * l, &mut codes[4 * l as usize..][..4]));
                visit(&codes[..16], 64, float_at(bytes, 0));
            }),
            T::Iq2BnR4 => self.iq2_bn_r4(row, &mut codes, visit),
            _ => {}
        }
    }

    /// The number of weights that share a stored scale: of the tensor (`None`), or of a row's run.
    pub(crate) fn scale_group(&self) -> Option<usize> {
        match self.ty {
            TensorType::Tq1_0 | TensorType::Tq2_0 => Some(256),
            TensorType::Q2_0 { group } => Some(group),
            TensorType::Tq2_0G128 | TensorType::Ptq1_0 | TensorType::Q1_0 => Some(128),
            TensorType::Iq1Bn | TensorType::Iq2Bn | TensorType::Iq2BnR4 => Some(self.cols),
            _ => None,
        }
    }

    /// Blocks of four planes, the first in the top bits; blocks run over the whole tensor, so where a row is no
    /// whole number of them they straddle rows.
    fn i2_s(&self, row: usize, codes: &mut [u8], mut visit: impl FnMut(&[u8], usize, f32)) {
        let block = if self.ty == TensorType::I2S { 128 } else { 64 };
        let width = block / 4;
        let (data, tail) = self.bytes.split_at(self.rows * self.cols / 4);
        let scale = float_at(tail, 0);
        let start = row * self.cols;
        if self.cols.is_multiple_of(block) {
            for bytes in data[start / 4..][..self.cols / 4].chunks_exact(width) {
                for l in 0..4 {
                    plane(bytes, 6 - 2 * l as u32, &mut codes[l * width / 4..][..width / 4]);
                }
                visit(&codes[..width], block, scale);
            }
            return;
        }
        for first in (0..self.cols).step_by(block) {
            let weights = block.min(self.cols - first);
            codes.fill(0);
            for j in 0..weights {
                let at = start + first + j;
                let byte = data[at / block * width + at % width];
                codes[j / 4] |= (byte >> (6 - 2 * (at % block / width)) & 3) << (2 * (j % 4));
            }
            visit(&codes[..weights.div_ceil(4)], weights, scale);
        }
    }

    /// Four rows, their scales first; then per 64 columns 16 bytes of each row, four at a time.
    fn iq2_bn_r4(&self, row: usize, codes: &mut [u8], mut visit: impl FnMut(&[u8], usize, f32)) {
        let group_bytes = 16 + self.cols;
        let bytes = &self.bytes[row / 4 * group_bytes..][..group_bytes];
        let (scales, data) = bytes.split_at(16);
        let k = row % 4;
        for block in data.as_chunks::<64>().0 {
            for l in 0..4 {
                let at = 16 * l + 4 * k;
                let four = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
                (0..4).for_each(|s| codes[4 * l + s] = gather(four >> (2 * s)));
            }
            visit(&codes[..16], 64, float_at(scales, 4 * k));
        }
    }
}

fn float_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// For each byte its five base-3 digits, two bits each, the most significant lowest.
///
/// A byte stands for the fraction byte / 256 whose digits are the codes, so digit n is the integer part of three
/// times the fraction left after n digits.
const DIGITS: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut fraction, mut n) = (byte as u16, 0);
        while n < 5 {
            table[byte] |= ((fraction * 3) >> 8) << (2 * n);
            fraction = (fraction * 3) & 255;
            n += 1;
        }
        byte += 1;
    }
    table
};

/// [`DIGITS`], with five codes of 3 for each of the 13 bytes that no number below 3^5 is written as.
const CHECKED_DIGITS: [u16; 256] = {
    let mut table = DIGITS;
    let mut byte = 0;
    while byte < 256 {
        let number = byte as u32 * 243 / 256;
        if (number * 256).div_ceil(243) != byte as u32 {
            table[byte] = 0x3ff;
        }
        byte += 1;
    }
    table
};

/// Weights `len * n..len * (n + 1)` are digit `n` of the `len` bytes, for `n` in `0..digits`.
fn digit_planes(table: &[u16; 256], bytes: &[u8], digits: usize, out: &mut [u8]) {
    let width = bytes.len() / 4;
    for (k, four) in bytes.as_chunks::<4>().0.iter().enumerate() {
        let lane = |i: usize| u64::from(table[usize::from(four[i])]) << (16 * i);
        let lanes = lane(0) | lane(1) | lane(2) | lane(3);
        for n in 0..digits {
            let picked = lanes >> (2 * n) & 0x0003_0003_0003_0003;
            // As in `gather`, with lanes of 16 bits.
            out[n * width + k] = (picked.wrapping_mul(1 << 48 | 1 << 34 | 1 << 20 | 1 << 6) >> 48) as u8;
        }
    }
}

fn tq1_0(block: &[u8; 54], codes: &mut [u8]) {
    digit_planes(&DIGITS, &block[..32], 5, &mut codes[..40]);
    digit_planes(&DIGITS, &block[32..48], 5, &mut codes[40..60]);
    digit_planes(&DIGITS, &block[48..52], 4, &mut codes[60..64]);
}

/// As [`tq1_0`] with half as many bytes of each kind; the codes of a byte that is no number of trits are 3.
fn ptq1_0(block: &[u8; 28], codes: &mut [u8]) {
    digit_planes(&CHECKED_DIGITS, &block[..16], 5, &mut codes[..20]);
    digit_planes(&CHECKED_DIGITS, &block[16..24], 5, &mut codes[20..30]);
    let [a, b] = [block[24], block[25]].map(|byte| CHECKED_DIGITS[usize::from(byte)]);
    for (n, out) in (0..4).step_by(2).zip(&mut codes[30..32]) {
        let pair = |n: u16| (a >> (2 * n) & 3) | (b >> (2 * n) & 3) << 2;
        *out = (pair(n) | pair(n + 1) << 4) as u8;
    }
}

/// Every code of 3 made a code of 1.
fn threes_to_zeros(codes: u8) -> u8 {
    codes ^ (codes & (codes >> 1) & 0x55) << 1
}

/// Code 2 for each bit that is set, code 0 for the others, the lowest bit first.
fn signs(bytes: &[u8], codes: &mut [u8]) {
    for (byte, out) in bytes.iter().zip(codes.as_chunks_mut::<2>().0) {
        // Bits to every other place.
        let spread = |nibble: u8| {
            let wide = (nibble | nibble << 2) & 0x33;
            (wide | wide << 1) & 0x55
        };
        *out = [spread(byte & 15) << 1, spread(byte >> 4) << 1];
    }
}

fn tq2_0(block: &[u8; 66], codes: &mut [u8]) {
    for half in 0..2 {
        for l in 0..4 {
            plane(&block[32 * half..][..32], 2 * l as u32, &mut codes[32 * half + 8 * l..][..8]);
        }
    }
}

/// Four groups of 16: three bytes of five digits, and digit i of the last byte; here the digits of a byte are in
/// the order of the weights.
fn iq1_bn(block: &[u8; 13], codes: &mut [u8]) {
    let extra = DIGITS[usize::from(block[12])];
    for (i, three) in block[..12].as_chunks::<3>().0.iter().enumerate() {
        // The digit of the first weight is the least significant.
        let digits = |b: u8| u32::from(REVERSED[usize::from(b)]);
        let last = u32::from(extra >> (2 * (4 - i)) & 3);
        let word = digits(three[0]) | digits(three[1]) << 10 | digits(three[2]) << 20 | last << 30;
        codes[4 * i..4 * i + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// [`DIGITS`] with the least significant digit lowest.
const REVERSED: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut n = 0;
        while n < 5 {
            table[byte] |= (DIGITS[byte] >> (2 * n) & 3) << (2 * (4 - n));
            n += 1;
        }
        byte += 1;
    }
    table
};
