//! Blocks of 128 weights, built by hand from what is written down of them, and two blocks of a file that another program wrote.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what tests call fails like tests")]

mod common;

use bitnet_format::{Checkpoint, FormatErrorKind, OpenOptions, TensorType, encode};
use bitnet_quant::{Scales, TernaryMatrix};
use common::{RawGguf, tensor};
use half::f16;

/// A file of one tensor "w" of whole blocks of 128, a block in each row.
fn file(id: u32, rows: usize, bytes: &[u8]) -> Checkpoint {
    let raw = RawGguf::new(vec![tensor("w", &[128, rows as u64], id, 0)], bytes.to_vec());
    Checkpoint::from_bytes(raw.bytes().into(), &OpenOptions::default()).unwrap()
}

/// Trits without a pattern that a wrong order would keep.
fn trits(rows: usize) -> Vec<i8> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % 3
    };
    (0..128 * rows).map(|_| next() as i8 - 1).collect()
}

/// What a byte of base-3 digits is, the first digit the most significant: the ceiling of number * 256 / 243.
fn base3(digits: [i8; 5]) -> u8 {
    let number = digits.iter().fold(0u32, |n, trit| 3 * n + (trit + 1) as u32);
    (0..=255).find(|&byte| u32::from(byte) * 243 >= number * 256).unwrap()
}

fn floats(trits: &[i8], scale: f32) -> Vec<f32> {
    trits.iter().map(|&t| f32::from(t) * scale).collect()
}

#[test]
fn ptq1_0_is_three_runs_of_digits_and_a_scale_behind_them() {
    let trits = trits(3);
    let mut bytes = Vec::new();
    for w in trits.chunks_exact(128) {
        bytes.extend((0..16).map(|m| base3([0, 1, 2, 3, 4].map(|n| w[16 * n + m]))));
        bytes.extend((0..8).map(|m| base3([0, 1, 2, 3, 4].map(|n| w[80 + 8 * n + m]))));
        bytes.extend((0..2).map(|h| base3([w[120 + h], w[122 + h], w[124 + h], w[126 + h], -1])));
        bytes.extend(f16::from_f32(0.375).to_le_bytes());
    }
    let file = file(143, 3, &bytes);
    let view = file.tensor("w").unwrap();
    assert_eq!(view.info().ty(), TensorType::Ptq1_0);
    assert_eq!(view.to_f32().unwrap(), floats(&trits, 0.375));
    let expected = TernaryMatrix::from_trits(3, 128, &trits, Scales::Tensor(0.375)).unwrap();
    assert_eq!(view.to_ternary().unwrap(), expected);
    assert_eq!(encode::encode_ptq1_0(&expected).unwrap().bytes, bytes);
}

#[test]
fn the_last_digit_of_a_byte_of_four_may_be_any() {
    let read = |fifth: i8| {
        let byte = base3([1, 0, -1, 1, fifth]);
        let mut bytes = [base3([0; 5]); 28];
        (bytes[25], bytes[26], bytes[27]) = (byte, 0, 0x3c);
        file(143, 1, &bytes).tensor("w").unwrap().to_f32().unwrap()
    };
    let mut expected = vec![0.0; 128];
    (expected[121], expected[125], expected[127]) = (1.0, -1.0, 1.0);
    for fifth in -1..=1 {
        assert_eq!(read(fifth), expected, "{fifth}");
    }
}

#[test]
fn each_of_the_thirteen_bytes_that_are_no_trits_is_refused_where_its_scale_is_not_0() {
    let numbers: Vec<u8> = (0..243u32).map(|n| (n * 256).div_ceil(243) as u8).collect();
    let mut refused = 0;
    for byte in 0..=255u8 {
        for (at, col) in [(0, 0), (15, 15), (16, 80), (23, 87), (24, 120), (25, 121)] {
            let mut bytes = [base3([0; 5]); 28];
            (bytes[at], bytes[26], bytes[27]) = (byte, 0, 0x3c);
            let ternary = file(143, 1, &bytes).tensor("w").unwrap().to_ternary();
            let floats = file(143, 1, &bytes).tensor("w").unwrap().to_f32();
            if numbers.contains(&byte) {
                assert!(ternary.is_ok() && floats.is_ok(), "{byte}");
                continue;
            }
            for error in [ternary.unwrap_err(), floats.unwrap_err()] {
                let FormatErrorKind::Base3 { tensor, row, col: told } = error.kind() else {
                    panic!("{error}")
                };
                assert_eq!((tensor.as_str(), *row, *told), ("w", 0, col), "byte {byte}");
            }
            refused += 1;
            bytes[26..].fill(0);
            assert_eq!(file(143, 1, &bytes).tensor("w").unwrap().to_ternary().unwrap().counts().zero, 128);
        }
    }
    assert_eq!(refused, 13 * 6);
}

#[test]
fn q1_0_is_a_scale_and_a_bit_for_each_sign() {
    let mut bytes = f16::from_f32(0.25).to_le_bytes().to_vec();
    bytes.extend([0b1000_0001, 0b0000_0110]);
    bytes.extend([0xff; 14]);
    let file = file(41, 1, &bytes);
    let view = file.tensor("w").unwrap();
    assert_eq!(view.info().ty(), TensorType::Q1_0);
    let mut expected = vec![1i8; 128];
    expected[..16].copy_from_slice(&[1, -1, -1, -1, -1, -1, -1, 1, -1, 1, 1, -1, -1, -1, -1, -1]);
    assert_eq!(view.to_f32().unwrap(), floats(&expected, 0.25));
    let matrix = view.to_ternary().unwrap();
    assert_eq!(matrix, TernaryMatrix::from_trits(1, 128, &expected, Scales::Tensor(0.25)).unwrap());
    assert_eq!(encode::encode_q1_0(&matrix).unwrap().bytes, bytes);
}

#[test]
fn q1_0_takes_a_block_of_zeros_and_no_zero_beside_signs() {
    let mut trits = vec![1i8; 256];
    trits[128..].fill(0);
    let of = |trits: &[i8]| TernaryMatrix::from_trits(2, 128, trits, Scales::Row(vec![0.5, 0.25])).unwrap();
    let bytes = encode::encode_q1_0(&of(&trits)).unwrap().bytes;
    assert_eq!(bytes[18..20], [0, 0]);
    assert_eq!(file(41, 2, &bytes).tensor("w").unwrap().to_f32().unwrap()[128..], [0.0; 128]);
    trits[77] = 0;
    let error = encode::encode_q1_0(&of(&trits)).unwrap_err();
    assert_eq!(error, encode::EncodeError::Zero { format: "Q1_0", row: 0, col: 77 });
}

#[test]
fn a_code_of_three_is_a_zero_with_the_scale_last_and_twice_the_scale_with_the_scale_first() {
    let mut codes = [0xaa; 32];
    codes[1] = 0b11_01_11_00;
    let scale = f16::from_f32(0.5).to_le_bytes();
    let (last, first) = ([&codes[..], &scale].concat(), [&scale[..], &codes].concat());
    let mut expected = vec![0.5; 128];
    expected[4..8].copy_from_slice(&[-0.5, 0.0, 0.0, 0.0]);
    let file_of = |bytes: &[u8]| file(42, 1, bytes);
    let file = file_of(&last);
    let view = file.tensor("w").unwrap();
    assert_eq!(view.info().ty(), TensorType::Tq2_0G128);
    assert_eq!(view.to_f32().unwrap(), expected);
    assert_eq!(view.to_ternary().unwrap().counts().zero, 3);
    (expected[5], expected[7]) = (1.0, 1.0);
    let file = file_of(&first);
    let view = file.tensor("w").unwrap();
    assert_eq!(view.info().ty(), TensorType::Q2_0 { group: 128 });
    assert_eq!(view.to_f32().unwrap(), expected);
    let error = view.to_ternary().unwrap_err();
    assert!(matches!(error.kind(), FormatErrorKind::PlusTwo { count: 2, row: 0, col: 5, .. }), "{error}");
}

/// The same two groups of a folded model in both types, as the writer of another project packed them.
const PTQ1_0: [[u8; 28]; 2] = [
    [
        0x74, 0x16, 0x09, 0xae, 0x11, 0xc8, 0x99, 0xe6, 0x65, 0x87, 0xad, 0x22, 0x6a, 0x59, 0xfb, 0x34, 0x59,
        0x6e, 0x21, 0x1c, 0x1f, 0xbb, 0xfe, 0xa1, 0x9b, 0x53, 0x47, 0x2d,
    ],
    [
        0x3b, 0x56, 0xa8, 0x12, 0x97, 0xac, 0x42, 0xf4, 0x70, 0x46, 0xaf, 0xce, 0x09, 0x65, 0x0b, 0x58, 0x1f,
        0x1b, 0xef, 0x7c, 0xce, 0xac, 0x0c, 0x25, 0xfd, 0xc1, 0x37, 0x2e,
    ],
];
const PQ2_0: [[u8; 34]; 2] = [
    [
        0x47, 0x2d, 0x81, 0x98, 0x25, 0x25, 0x01, 0xa4, 0x44, 0x60, 0x08, 0x11, 0x09, 0xa2, 0x60, 0x02, 0x41,
        0x54, 0x2a, 0x91, 0xaa, 0x51, 0x05, 0x68, 0x10, 0xa1, 0x88, 0x64, 0x95, 0xa8, 0x98, 0x92, 0xa1, 0x99,
    ],
    [
        0x37, 0x2e, 0x14, 0x89, 0xa1, 0x44, 0x22, 0xa2, 0x48, 0x00, 0x60, 0x40, 0x06, 0x14, 0xa0, 0xa2, 0x96,
        0x06, 0x82, 0x26, 0x11, 0x9a, 0x60, 0x0a, 0x61, 0x41, 0x58, 0x10, 0x08, 0x82, 0x16, 0xa4, 0x2a, 0x6a,
    ],
];

#[test]
fn two_types_of_one_model_hold_the_same_trits_and_scales() {
    let (base3, two_bits) = (file(143, 2, PTQ1_0.as_flattened()), file(142, 2, PQ2_0.as_flattened()));
    let (a, b) = (base3.tensor("w").unwrap(), two_bits.tensor("w").unwrap());
    assert_eq!((a.info().ty(), b.info().ty()), (TensorType::Ptq1_0, TensorType::Q2_0 { group: 128 }));
    assert_eq!(a.to_ternary().unwrap(), b.to_ternary().unwrap());
    assert_eq!(a.to_f32().unwrap(), b.to_f32().unwrap());
    let matrix = a.to_ternary().unwrap();
    assert_eq!(encode::encode_ptq1_0(&matrix).unwrap().bytes, PTQ1_0.as_flattened());
    assert_eq!(encode::encode_q2_0(&matrix, 128).unwrap().bytes, PQ2_0.as_flattened());
}
