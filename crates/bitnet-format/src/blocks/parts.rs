//! What decoders of several block types read: a half, and codes that stand for entries of a table.

use half::f16;

/// The little-endian binary16 at byte `at`, widened.
pub(super) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// What the codes of IQ4_NL and IQ4_XS stand for.
pub(super) const UNEQUAL_STEPS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Sixteen bytes of codes, the lower nibbles first, as the entries of `table` times `d`.
pub(super) fn looked_up(codes: &[u8], table: &[i8; 16], d: f32, out: &mut [f32; 32]) {
    for (j, b) in codes.iter().enumerate() {
        out[j] = d * f32::from(table[usize::from(b & 15)]);
        out[16 + j] = d * f32::from(table[usize::from(b >> 4)]);
    }
}
