//! The side path of a projection: two thin matrices of floats, applied to the input as it is before it is rounded.

use burn_flex::FlexTensor;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::{
    composed,
    fused::{Fused, apply, contiguous, matmul, node, tensor, transposed},
};

/// `factor (x a^T) b^T` (LoRA, arXiv:2106.09685). `x` is `[tokens, inputs]`, `a` is `[rank, inputs]`, `b` is `[outputs, rank]`.
pub fn side_path(x: Tensor<2>, a: Tensor<2>, b: Tensor<2>, factor: f32) -> Tensor<2> {
    match (node(&x), node(&a), node(&b)) {
        (Some(x), Some(a), Some(b)) => tensor(apply(SidePath(factor), [x, a, b])),
        _ => composed::side_path(x, a, b, factor),
    }
}

#[derive(Clone, Debug)]
struct SidePath(f32);

impl SidePath {
    fn times(&self, mut x: FlexTensor) -> FlexTensor {
        x.storage_mut::<f32>().par_chunks_mut(1 << 14).for_each(|x| x.iter_mut().for_each(|x| *x *= self.0));
        x
    }
}

impl Fused<3> for SidePath {
    /// The inputs, and `factor x a^T`.
    type Saved = ([FlexTensor; 3], FlexTensor);

    fn forward(&self, [x, a, b]: [FlexTensor; 3], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        // The factor meets the thin matrix, where it is cheapest.
        let low = self.times(contiguous(&matmul(x.clone(), transposed(a.clone()))));
        let out = contiguous(&matmul(low.clone(), transposed(b.clone())));
        (out, keep.then_some(([x, a, b], low)))
    }

    fn backward(
        &self,
        ([x, a, b], low): Self::Saved,
        grad: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let d_low = self.times(contiguous(&matmul(grad.clone(), b)));
        let dx = wanted[0].then(|| matmul(d_low.clone(), a));
        let da = wanted[1].then(|| contiguous(&matmul(transposed(d_low), x)));
        let db = wanted[2].then(|| contiguous(&matmul(transposed(grad), low)));
        [dx, da, db]
    }
}
