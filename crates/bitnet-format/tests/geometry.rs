//! Types by the bytes of tensors: what their sizes leave open, and what decides then.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use bitnet_format::{Checkpoint, OpenOptions, TensorType};
use common::{RawGguf, key, tensor};

fn types(raw: &RawGguf, options: OpenOptions) -> Vec<TensorType> {
    let file = Checkpoint::from_bytes(raw.bytes().into(), &options).unwrap();
    file.tensors().map(|t| t.ty()).collect()
}

const G64: TensorType = TensorType::Q2_0 { group: 64 };
const G128: TensorType = TensorType::Q2_0 { group: 128 };

/// Tensors of type 42, `[rows, 128]` each, one after another.
fn q2_0(tensors: &[(u64, usize)]) -> RawGguf {
    let (mut entries, mut at) = (Vec::new(), 0);
    for (i, (rows, bytes)) in tensors.iter().enumerate() {
        entries.push(tensor(format!("t{i}"), &[128, *rows], 42, at as u64));
        at += bytes.next_multiple_of(32);
    }
    RawGguf::new(entries, vec![0x15; at])
}

#[test]
fn a_size_that_fits_two_types_is_settled_by_the_other_tensors() {
    // 4 rows take 144 or 136 bytes: 160 with padding, both.
    assert_eq!(types(&q2_0(&[(4, 144)]), OpenOptions::default()), [TensorType::Unknown(42)]);
    assert_eq!(types(&q2_0(&[(4, 144), (64, 64 * 36)]), OpenOptions::default()), [G64, G64]);
    assert_eq!(types(&q2_0(&[(4, 136), (64, 64 * 34)]), OpenOptions::default()), [G128, G128]);
    // Tensors that contradict each other settle nothing.
    let both = q2_0(&[(4, 144), (64, 64 * 36), (64, 64 * 34)]);
    assert_eq!(types(&both, OpenOptions::default()), [TensorType::Unknown(42), G64, G128]);
}

#[test]
fn the_last_tensor_may_end_with_the_file_or_with_its_padding() {
    for tail in [64 * 36, (64usize * 36).next_multiple_of(32)] {
        let mut raw = q2_0(&[(64, 64 * 36)]);
        raw.data.resize(tail, 0);
        assert_eq!(types(&raw, OpenOptions::default()), [G64]);
    }
    // Bytes after it: harmless where the type is certain, else the others decide.
    let mut raw = RawGguf::new(vec![tensor("t", &[8], 0, 0)], vec![0; 100]);
    assert_eq!(types(&raw, OpenOptions::default()), [TensorType::F32]);
    raw = q2_0(&[(64, 64 * 36), (64, 64 * 36)]);
    raw.data.extend([0; 1000]);
    assert_eq!(types(&raw, OpenOptions::default()), [G64, G64]);
}

#[test]
fn the_alignment_of_the_file_is_kept() {
    let mut raw =
        RawGguf::new(vec![tensor("a", &[128, 1], 36, 0), tensor("b", &[8], 0, 128)], vec![0x55; 128 + 32]);
    raw.keys.push(key("general.alignment", 4, 128u32.to_le_bytes()));
    raw.alignment = 128;
    assert_eq!(types(&raw, OpenOptions::default()), [TensorType::I2S, TensorType::F32]);
}

#[test]
fn data_start_on_a_multiple_of_the_files_own_alignment() {
    let values: Vec<u8> = (1..=8).flat_map(|v| (v as f32).to_le_bytes()).collect();
    for alignment in [8u32, 64, 4096] {
        let mut raw = RawGguf::new(vec![tensor("t", &[8], 0, 0)], values.clone());
        raw.alignment = alignment as usize;
        raw.keys.push(key("general.alignment", 4, alignment.to_le_bytes()));
        // The header's end is brought to where the default would start the data at another byte.
        let header = RawGguf { alignment: 1, ..raw.clone() }.bytes().len() - values.len();
        let name_len = (header + 12).next_multiple_of(64) + 4 - (header + 12);
        raw.keys.push(key("k".repeat(name_len), 0, [0]));
        let bytes = raw.bytes();
        assert_ne!(bytes.len() - values.len(), (header + 13 + name_len).next_multiple_of(32));
        let file = Checkpoint::from_bytes(bytes.into(), &OpenOptions::default()).unwrap();
        let read = file.tensor("t").unwrap().to_f32().unwrap();
        assert_eq!(read, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "alignment {alignment}");
    }
}

#[test]
fn tensors_may_stand_in_another_order_than_their_entries() {
    let raw = RawGguf::new(vec![tensor("b", &[8], 0, 96), tensor("a", &[128, 2], 36, 0)], vec![0x55; 128]);
    let file = Checkpoint::from_bytes(raw.bytes().into(), &OpenOptions::default()).unwrap();
    let names: Vec<_> = file.tensors().map(|t| (t.name(), t.ty(), t.byte_len())).collect();
    assert_eq!(names, [("a", TensorType::I2S, 96), ("b", TensorType::F32, 32)]);
}

/// An I2_S tensor whose data are these codes, laid out in blocks of `block`.
fn i2_s(rows: usize, cols: usize, block: usize, code: impl Fn(usize) -> u8) -> RawGguf {
    let count = rows * cols;
    let mut data = vec![0u8; count / 4];
    for e in 0..count {
        let (width, within) = (block / 4, e % block);
        data[e / block * width + within % width] |= code(e) << (6 - 2 * (within / width));
    }
    data.extend(0.25f32.to_le_bytes());
    data.resize(count / 4 + 32, 0xee);
    RawGguf::new(vec![tensor("w", &[cols as u64, rows as u64], 36, 0)], data)
}

#[test]
fn i2_s_is_read_in_both_layouts_and_across_rows() {
    let code = |e: usize| (e * 7 % 3) as u8;
    for (rows, cols, block) in
        [(3, 256, 128), (4, 96, 128), (2, 320, 128), (3, 64, 64), (4, 48, 64), (8, 16, 128)]
    {
        let raw = i2_s(rows, cols, block, code);
        let options = OpenOptions::default().i2s_64(block == 64);
        let file = Checkpoint::from_bytes(raw.bytes().into(), &options).unwrap();
        let view = file.tensor("w").unwrap();
        let expected: Vec<f32> = (0..rows * cols).map(|e| (f32::from(code(e)) - 1.0) * 0.25).collect();
        assert_eq!(view.to_f32().unwrap(), expected, "[{rows}, {cols}] in blocks of {block}");
        let ternary = view.to_ternary().unwrap();
        let mut row = vec![0.0; cols];
        for (r, expected) in expected.chunks_exact(cols).enumerate() {
            ternary.row_to_f32(r, &mut row);
            assert_eq!(row, expected, "row {r} of [{rows}, {cols}] in blocks of {block}");
        }
    }
}

#[test]
fn a_group_of_scale_zero_is_a_group_of_zeros() {
    // Two groups of all codes 2, the first with scale 0: equal in value to a group of trits 0.
    let mut data = vec![0xaa; 36];
    data[..2].copy_from_slice(&[0, 0]);
    data[18..20].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
    let raw = RawGguf::new(vec![tensor("w", &[128], 42, 0)], data);
    let file = Checkpoint::from_bytes(raw.bytes().into(), &OpenOptions::default()).unwrap();
    let ternary = file.tensor("w").unwrap().to_ternary().unwrap();
    let counts = ternary.counts();
    assert_eq!((counts.minus, counts.zero, counts.plus), (0, 64, 64));
    assert_eq!(ternary.scales(), &bitnet_quant::Scales::Tensor(0.5));
}

#[test]
fn number_142_is_pq2_0_by_its_size() {
    let file = |bytes: usize| RawGguf::new(vec![tensor("t", &[256, 16], 142, 0)], vec![0x15; bytes]);
    assert_eq!(types(&file(16 * 68), OpenOptions::default()), [G128]);
    // IQ2_TN, which had the number before.
    assert_eq!(types(&file(16 * 66), OpenOptions::default()), [TensorType::Unknown(142)]);
}

#[test]
fn number_143_is_ptq1_0_and_41_is_q1_0_by_their_sizes() {
    let file = |id, bytes: usize| RawGguf::new(vec![tensor("t", &[256, 16], id, 0)], vec![0x15; bytes]);
    assert_eq!(types(&file(143, 16 * 56), OpenOptions::default()), [TensorType::Ptq1_0]);
    // IQ1_TN, which had the number before.
    assert_eq!(types(&file(143, 16 * 54), OpenOptions::default()), [TensorType::Unknown(143)]);
    assert_eq!(types(&file(41, 16 * 36), OpenOptions::default()), [TensorType::Q1_0]);
    assert_eq!(types(&file(41, 16 * 40), OpenOptions::default()), [TensorType::Unknown(41)]);
}

#[test]
fn the_order_of_blocks_of_128_is_that_of_all_tensors_of_the_file() {
    // Codes and scale of the first tensor can be read both ways; those of the second only in one.
    let (open, told) = ((0x2a04u16, 0x05u8), (0x3800, 0xa5));
    let block = |(scale, codes): (u16, u8), last: bool| {
        let (scale, codes) = (scale.to_le_bytes(), [codes; 32]);
        if last { [&codes[..], &scale].concat() } else { [&scale[..], &codes].concat() }
    };
    for (last, ty) in [(false, G128), (true, TensorType::Tq2_0G128)] {
        let raw = |tensors: &[(u16, u8)]| {
            let mut raw = q2_0(&vec![(32, 32 * 34); tensors.len()]);
            raw.data = tensors.iter().flat_map(|&t| block(t, last).repeat(32)).collect();
            raw
        };
        assert_eq!(types(&raw(&[open]), OpenOptions::default()), [TensorType::Unknown(42)]);
        assert_eq!(types(&raw(&[open, told]), OpenOptions::default()), [ty, ty]);
        let file = Checkpoint::from_bytes(raw(&[told]).bytes().into(), &OpenOptions::default()).unwrap();
        let read = file.tensor("t0").unwrap().to_ternary().unwrap();
        assert_eq!(read.scales(), &bitnet_quant::Scales::Tensor(0.5));
        assert!(read.codes().iter().all(|&codes| codes == 0xa5));
    }
}

#[test]
fn number_39_is_mxfp4_or_tl2_by_its_size() {
    let file = |bytes: usize| RawGguf::new(vec![tensor("t", &[512, 16], 39, 0)], vec![0x15; bytes]);
    assert_eq!(types(&file(16 * 16 * 17), OpenOptions::default()), [TensorType::Mxfp4]);
    let tl2 = TensorType::Tl2.byte_len(16, 512).unwrap();
    assert_eq!(types(&file(tl2), OpenOptions::default()), [TensorType::Tl2]);
}
