//! The head and the cross entropy of its logits, in one: logits become their own gradients in place.

use std::sync::Arc;

use bitnet_kernels::Kernel;
use burn_flex::FlexTensor;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::{
    composed,
    fused::{Fused, apply, contiguous, floats, from_floats, matmul, node, size, tensor, transposed},
    rows::CHUNK,
};

/// The mean over the targets of `-ln softmax(h w^T)[target]`, in nats, as a tensor of one element. A target that is `None`
/// does not count. `h` is `[tokens, width]`, `w` is `[vocab, width]`.
///
/// # Panics
/// When there is not one target per token, none counts, or one is not below `vocab`.
pub fn cross_entropy(
    kernel: &'static Kernel,
    h: Tensor<2>,
    w: Tensor<2>,
    targets: Arc<[Option<u32>]>,
) -> Tensor<1> {
    match (node(&h), node(&w)) {
        (Some(h), Some(w)) => tensor(apply(CrossEntropy { kernel, targets }, [h, w])),
        _ => composed::cross_entropy(h, w, &targets),
    }
}

#[derive(Clone, Debug)]
struct CrossEntropy {
    kernel: &'static Kernel,
    targets: Arc<[Option<u32>]>,
}

impl Fused<2> for CrossEntropy {
    /// The gradient of the logits, and the inputs.
    type Saved = [FlexTensor; 3];

    fn forward(&self, [h, w]: [FlexTensor; 2], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        let vocab = size(&w, 0);
        assert_eq!(size(&h, 0), self.targets.len(), "one target per token");
        let counted = self.targets.iter().flatten().count();
        assert!(counted > 0, "no target counts");
        let mut logits = contiguous(&matmul(h.clone(), transposed(w.clone())));
        let each = 1.0 / counted as f32;
        let chunks = logits.storage_mut::<f32>().par_chunks_mut(vocab * CHUNK);
        let losses: Vec<f64> = chunks
            .zip(self.targets.par_chunks(CHUNK))
            .map(|(rows, targets)| {
                let rows = rows.chunks_exact_mut(vocab).zip(targets);
                rows.map(|(row, &target)| self.row(row, target, each)).sum()
            })
            .collect();
        let mean = (losses.iter().sum::<f64>() / counted as f64) as f32;
        (from_floats(vec![mean], [1]), keep.then_some([logits, h, w]))
    }

    fn backward(&self, saved: Self::Saved, grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        head_gradients(self.kernel, saved, &grad, wanted)
    }
}

/// The gradients of `h` and `w` in `h w^T`, given that of the logits and that of the loss, a number.
pub(super) fn head_gradients(
    kernel: &'static Kernel,
    [logits, h, w]: [FlexTensor; 3],
    grad: &FlexTensor,
    wanted: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    let factor = floats(grad)[0];
    let times = |x: FlexTensor| {
        let mut x = contiguous(&x);
        if factor != 1.0 {
            x.storage_mut::<f32>().par_chunks_mut(1 << 14).for_each(|x| kernel.scale(x, factor));
        }
        x
    };
    let dh = wanted[0].then(|| times(matmul(logits.clone(), w)));
    let dw = wanted[1].then(|| times(matmul(transposed(logits), h)));
    [dh, dw]
}

impl CrossEntropy {
    /// The loss of one token; its logits become their gradient, `each (p - target)`.
    fn row(&self, logits: &mut [f32], target: Option<u32>, each: f32) -> f64 {
        let Some(target) = target else {
            logits.fill(0.0);
            return 0.0;
        };
        let loss = self.kernel.log_sum_exp(logits) - logits[target as usize];
        self.kernel.softmax(logits);
        self.kernel.scale(logits, each);
        logits[target as usize] -= each;
        f64::from(loss)
    }
}
