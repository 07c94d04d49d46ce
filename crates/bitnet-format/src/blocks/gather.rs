//! Moving 2-bit codes between layouts, four at a time.

/// Codes are trit + 1; this is four of trit 0.
pub(crate) const ZEROS: u8 = 0b01_01_01_01;

/// The lowest two bits of each of four bytes, first byte lowest, as one byte of four codes.
#[inline]
pub(crate) fn gather(four: u32) -> u8 {
    // Two steps that join neighbours. (A single product does it too, but without SSE4.1 there is no vector of them.)
    let four = four & 0x0303_0303;
    let four = four | four >> 6;
    (four | four >> 12) as u8
}

/// The inverse of [`gather`]: four codes to the lowest two bits of four bytes.
#[inline]
pub(crate) fn scatter(codes: u8) -> u32 {
    let codes = u32::from(codes);
    (codes | codes << 6 | codes << 12 | codes << 18) & 0x0303_0303
}

/// The codes at bits `shift` of each byte of `bytes`, in order, four to a byte; a last group of less than four
/// is filled up with zero codes.
#[inline]
pub(crate) fn plane(bytes: &[u8], shift: u32, out: &mut [u8]) {
    let (fours, rest) = bytes.as_chunks::<4>();
    for (four, out) in fours.iter().zip(&mut *out) {
        *out = gather(u32::from_le_bytes(*four) >> shift);
    }
    if !rest.is_empty() {
        let mut four = [0; 4];
        four[..rest.len()].copy_from_slice(rest);
        out[fours.len()] = gather(u32::from_le_bytes(four) >> shift);
    }
}

/// The inverse of [`plane`] for whole groups: ORs the codes into bits `shift` of each byte of `bytes`.
#[inline]
pub(crate) fn unplane(codes: &[u8], shift: u32, bytes: &mut [u8]) {
    for (four, &codes) in bytes.chunks_mut(4).zip(codes) {
        for (byte, code) in four.iter_mut().zip(scatter(codes).to_le_bytes()) {
            *byte |= code << shift;
        }
    }
}

/// Whether any of the two-bit codes is 3, which stands for no trit.
#[inline]
pub(crate) fn has_three(codes: &[u8]) -> bool {
    codes.iter().fold(0, |any, b| any | b & (b >> 1) & 0x55) != 0
}

/// Where the first of the two-bit codes is that is 3.
pub(crate) fn first_three(codes: &[u8]) -> Option<usize> {
    let threes = |b: u8| b & (b >> 1) & 0x55;
    let at = codes.iter().position(|&b| threes(b) != 0)?;
    Some(4 * at + threes(codes[at]).trailing_zeros() as usize / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_and_scatter_are_inverse_for_all_bytes() {
        for codes in 0..=255u8 {
            let four = scatter(codes).to_le_bytes();
            assert_eq!(four, std::array::from_fn(|i| codes >> (2 * i) & 3));
            assert_eq!(gather(u32::from_le_bytes(four) | 0xfcfc_fcfc), codes);
        }
    }

    #[test]
    fn planes_of_odd_lengths_are_whole() {
        let bytes: Vec<u8> = (0..7).map(|i| (i * 37 + 11) as u8).collect();
        for shift in [0, 2, 4, 6] {
            let mut out = [0xff; 2];
            plane(&bytes, shift, &mut out);
            let code = |i: usize| bytes.get(i).map_or(0, |b| b >> shift & 3) << (2 * (i % 4));
            assert_eq!(out, [code(0) | code(1) | code(2) | code(3), code(4) | code(5) | code(6)]);
        }
    }
}
