//! The reference.

use super::{ByteDots, Query};
use crate::{
    isa::{Block, Lanes},
    scalar::Scalar,
};

impl ByteDots for Scalar {
    const QUERIES: usize = 1;

    #[inline]
    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        x.map(|x| {
            let mut sums = [0i32; 16];
            for (block, x) in blocks.iter().zip(x.wide) {
                for (sum, bytes) in sums.iter_mut().zip(block.as_chunks::<4>().0) {
                    for (&byte, &x) in bytes.iter().zip(x) {
                        *sum = sum.wrapping_add((i32::from(byte) - 128) * i32::from(x));
                    }
                }
            }
            sums
        })
    }
}
