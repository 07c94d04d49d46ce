//! Rows of a table.

use std::sync::Arc;

use burn_flex::FlexTensor;
use burn_tensor::Tensor;

use super::{
    composed,
    fused::{Fused, apply, floats, from_floats, node, size, tensor},
};

/// The rows `ids` of `table`, `[vocab, width]`, as `[ids, width]`.
///
/// # Panics
/// When an id is not a row.
pub fn embedding(table: Tensor<2>, ids: Arc<[u32]>) -> Tensor<2> {
    match node(&table) {
        Some(table) => tensor(apply(Embedding(ids), [table])),
        None => composed::embedding(table, &ids),
    }
}

#[derive(Clone, Debug)]
struct Embedding(Arc<[u32]>);

impl Fused<1> for Embedding {
    type Saved = [usize; 2];

    fn forward(&self, [table]: [FlexTensor; 1], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        let (vocab, width) = (size(&table, 0), size(&table, 1));
        let rows = floats(&table);
        let mut out = Vec::with_capacity(self.0.len() * width);
        self.0.iter().for_each(|&id| out.extend_from_slice(&rows[id as usize * width..][..width]));
        (from_floats(out, [self.0.len(), width]), keep.then_some([vocab, width]))
    }

    fn backward(
        &self,
        [vocab, width]: Self::Saved,
        grad: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        // One thread, in the order of the ids: a row that occurs twice has one sum.
        let mut sums = vec![0.0f32; vocab * width];
        for (&id, g) in self.0.iter().zip(floats(&grad).chunks_exact(width)) {
            sums[id as usize * width..][..width].iter_mut().zip(g).for_each(|(s, g)| *s += g);
        }
        [Some(from_floats(sums, [vocab, width]))]
    }
}
