//! Products of blocks of integers with scales of their own, as ggml's files have them.

use bitnet_core::threads::ColumnsMut;

use crate::{
    Blocks, Kernel,
    blocks::{BlockRows, BlockType, Which, Widen, with_codec},
};

/// Blocks that stand for floats. A product is bit-equal to [`Kernel::dense_matmul`] with the widened rows.
impl Kernel {
    /// `out = bytes`, widened to what `bitnet-format` decodes, bit for bit.
    ///
    /// # Panics
    /// When the bytes are not whole blocks or `out` has not as many floats as they stand for.
    pub fn widen_blocks(&self, ty: BlockType, bytes: &[u8], out: &mut [f32]) {
        let (weights, size) = ty.size();
        assert!(bytes.len().is_multiple_of(size), "whole blocks");
        assert_eq!(bytes.len() / size * weights, out.len(), "as many floats");
        with_codec!(ty, codec => self.run(Widen { codec, bytes, out }));
    }

    /// One token's `out[0][i] = dot(w[first_row + i], x)` in lane order.
    ///
    /// # Panics
    /// When `w` has no such rows, or `x` or `out` another shape.
    pub fn block_vector(&self, w: Blocks<'_>, x: &[f32], first_row: usize, out: &mut ColumnsMut<'_, f32>) {
        assert!(first_row + out.width() <= w.rows(), "more outputs than rows");
        self.block_dots(w, x, Which::From(first_row), out);
    }

    /// `out[i] = dot(w[ids[i]], x)`: what [`Kernel::block_vector`] gives for those rows, bit for bit.
    ///
    /// # Panics
    /// When `w` has no such row or lengths disagree.
    pub fn block_rows(&self, w: Blocks<'_>, x: &[f32], ids: &[u32], out: &mut [f32]) {
        assert_eq!(ids.len(), out.len(), "one result per row");
        let width = out.len().max(1);
        self.block_dots(w, x, Which::These(ids), &mut ColumnsMut::whole(out, width));
    }

    fn block_dots(&self, w: Blocks<'_>, x: &[f32], which: Which<'_>, out: &mut ColumnsMut<'_, f32>) {
        let (weights, _) = w.ty.size();
        assert!(w.cols > 0 && w.cols.is_multiple_of(weights), "whole blocks in every row");
        assert_eq!(x.len(), w.cols, "activations of one token");
        if out.rows() == 0 {
            return;
        }
        assert_eq!(out.rows(), 1, "one token");
        with_codec!(w.ty, codec => self.run(BlockRows { codec, bytes: w.bytes, which, x, out }));
    }
}
