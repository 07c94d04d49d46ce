//! Where the scale of a block of 128 two-bit codes stands, by the bytes.
//!
//! Writers put the f16 in front of the 32 bytes of codes or behind them, and nothing else in a file tells which. Read in the
//! wrong order, a scale is four pairs of codes out of a matrix, and a third of such are negative; and four pairs of codes are
//! a scale, in most of which a code of 3 stands.

use half::f16;

use crate::blocks::gather::has_three;

/// Where the f16 scale of each block of 34 bytes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In front of the codes.
    ScaleFirst,
    /// Behind the codes.
    ScaleLast,
    /// Both can be, and they give different weights.
    Unknown,
}

const BLOCK: usize = 34;
/// Blocks of each tensor that are looked at: three pages of a file that is not read otherwise.
const SAMPLE: usize = 256;

/// Signs that a sample of blocks is not in an order: in the right one both are rare.
#[derive(Clone, Copy, Default)]
struct Against {
    /// Scales that are negative, infinite or no number.
    scales: usize,
    /// Blocks with a code of 3.
    threes: usize,
}

impl Against {
    fn see(&mut self, scale: [u8; 2], codes: &[u8]) {
        let scale = f16::from_le_bytes(scale);
        self.scales += usize::from(!scale.is_finite() || scale.is_sign_negative());
        self.threes += usize::from(has_three(codes));
    }
}

/// The order that the blocks of all these tensors have, which one program wrote.
///
/// Files of the scale first are many, and some of theirs have codes of 3 or negative scales: where both orders have what speaks
/// against them, it is theirs.
pub(super) fn of<'a>(tensors: impl Iterator<Item = &'a [u8]>) -> Order {
    let (mut first, mut last, mut alike) = (Against::default(), Against::default(), true);
    for block in tensors.flat_map(|bytes| bytes.as_chunks::<BLOCK>().0.iter().take(SAMPLE)) {
        first.see([block[0], block[1]], &block[2..]);
        last.see([block[32], block[33]], &block[..32]);
        alike &= block[2..] == block[..32];
    }
    match (first.scales, last.scales) {
        (0, 1..) => Order::ScaleFirst,
        (1.., 0) => Order::ScaleLast,
        (1.., 1..) => Order::ScaleFirst,
        (0, 0) => match (first.threes, last.threes) {
            (1.., 0) => Order::ScaleLast,
            (0, 0) if !alike => Order::Unknown,
            _ => Order::ScaleFirst,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(scale: f32, codes: [u8; 32], last: bool) -> Vec<u8> {
        let scale = f16::from_f32(scale).to_le_bytes();
        if last { [&codes[..], &scale].concat() } else { [&scale[..], &codes].concat() }
    }

    #[test]
    fn a_scale_shows_by_its_sign_and_codes_by_their_threes() {
        // The last pairs of codes are 2: a negative number where a scale is looked for.
        let signs = |last| block(0.5, [0xaa; 32], last);
        // These are not, and the bytes of the scale have a code of 3.
        let threes = |last| block(0.3, [0x05; 32], last);
        // Neither.
        let nothing = |last| block(f16::from_bits(0x2a04).to_f32(), [0x05; 32], last);
        for (blocks, first, last) in [
            (vec![signs(false)], Order::ScaleFirst, Order::ScaleLast),
            (vec![threes(false)], Order::ScaleFirst, Order::ScaleLast),
            (vec![nothing(false)], Order::Unknown, Order::Unknown),
            (vec![nothing(false), threes(false)], Order::ScaleFirst, Order::ScaleLast),
        ] {
            let turned: Vec<Vec<u8>> = blocks.iter().map(|b| [&b[2..], &b[..2]].concat()).collect();
            assert_eq!(of(blocks.iter().map(Vec::as_slice)), first);
            assert_eq!(of(turned.iter().map(Vec::as_slice)), last);
        }
        // Both orders give the same weights.
        assert_eq!(of([&[0x15; BLOCK][..]].into_iter()), Order::ScaleFirst);
        assert_eq!(of([].into_iter()), Order::ScaleFirst);
    }

    #[test]
    fn codes_of_three_and_negative_scales_of_the_common_order_are_no_other_order() {
        let mut codes = [0x05; 32];
        codes[0] = 3;
        assert_eq!(of([&block(0.3, codes, false)[..]].into_iter()), Order::ScaleFirst);
        codes[31] = 0xaa;
        assert_eq!(of([&block(-0.3, codes, false)[..]].into_iter()), Order::ScaleFirst);
    }
}
