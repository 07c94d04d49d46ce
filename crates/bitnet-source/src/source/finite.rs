//! Whether a table holds finite numbers only. Every byte is read once, by the thread that loads the table: some 6 GB/s of f16 from
//! memory, so a tenth of a second for the embedding of BitNet b1.58 2B-4T.

use bitnet_core::tensor::Values;
use bitnet_kernels::{BlockType, Blocks};
use bitnet_model::Table;

/// Numbers that are looked at before it is asked whether one of them is bad: long enough for vector units.
const RUN: usize = 4096;

/// Whether every number is finite.
pub(super) fn is_finite(table: &Table) -> bool {
    match table {
        Table::Dense(m) => match m.values() {
            Values::F32(x) => all(x, |v| v.to_bits() & 0x7f80_0000 == 0x7f80_0000),
            Values::F16(x) => all(x, |v| v.to_bits() & 0x7c00 == 0x7c00),
            Values::Bf16(x) => all(x, |v| v.to_bits() & 0x7f80 == 0x7f80),
        },
        Table::Blocks(m) => match m.blocks() {
            // Whole numbers times the f16 in front of each block.
            Blocks { ty: ty @ (BlockType::Q8_0 | BlockType::Q4_0), bytes, .. } => {
                bytes.chunks_exact(ty.size().1).all(|b| u16::from_le_bytes([b[0], b[1]]) & 0x7c00 != 0x7c00)
            }
            // Other types keep their scales elsewhere: rows are decoded.
            _ => {
                let mut row = vec![0.0; table.cols()];
                (0..table.rows()).all(|r| {
                    table.row_to_f32(r, &mut row);
                    all(&row, |v| v.to_bits() & 0x7f80_0000 == 0x7f80_0000)
                })
            }
        },
    }
}

/// Whether `bad`, an exponent of ones, holds for none.
fn all<T: Copy>(values: &[T], bad: impl Fn(T) -> bool) -> bool {
    values.chunks(RUN).all(|run| !run.iter().fold(false, |any, &v| any | bad(v)))
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::all;

    #[test]
    fn one_bad_number_anywhere_is_found_and_the_largest_are_good() {
        let f16_bad = |v: f16| v.to_bits() & 0x7c00 == 0x7c00;
        let bf16_bad = |v: bf16| v.to_bits() & 0x7f80 == 0x7f80;
        for at in [0, 1, 4095, 4096, 9999] {
            let mut numbers = vec![f16::MAX; 10_000];
            assert!(all(&numbers, f16_bad));
            numbers[at] = f16::NEG_INFINITY;
            assert!(!all(&numbers, f16_bad), "{at}");
            let mut numbers = vec![bf16::MIN; 10_000];
            assert!(all(&numbers, bf16_bad));
            numbers[at] = bf16::NAN;
            assert!(!all(&numbers, bf16_bad), "{at}");
        }
    }
}
