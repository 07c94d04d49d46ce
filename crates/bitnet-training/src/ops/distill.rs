//! The head and the loss of a student: cross entropy, and the divergence from a teacher's logits, in one.

use std::sync::Arc;

use bitnet_kernels::Kernel;
use burn_flex::{Flex, FlexTensor};
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::{
    composed,
    fused::{Fused, apply, contiguous, floats, from_floats, matmul, node, size, tensor, transposed},
    loss::head_gradients,
    rows::CHUNK,
};
use crate::options::DistillOptions;

/// The mean over the targets of `(1 - weight) (-ln p[target]) + weight T^2 KL(q_T || p_T)`, in nats, as a tensor of one element:
/// `p = softmax(h w^T)`, `p_T` and `q_T` the softmaxes of the student's and the teacher's logits over `T`. `h` is
/// `[tokens, width]`, `w` is `[vocab, width]`, `teacher` is `[tokens, vocab]` and has no gradient. A target that is `None` does
/// not count.
///
/// # Panics
/// When sizes differ, or no target counts.
pub fn distillation(
    kernel: &'static Kernel,
    h: Tensor<2>,
    w: Tensor<2>,
    teacher: Tensor<2>,
    targets: Arc<[Option<u32>]>,
    options: DistillOptions,
) -> Tensor<1> {
    let flex = teacher.clone().try_into_primitive::<Flex>().ok();
    match (node(&h), node(&w), flex) {
        (Some(h), Some(w), Some(teacher)) => {
            tensor(apply(Distillation { kernel, targets, teacher: contiguous(&teacher), options }, [h, w]))
        }
        _ => composed::distillation(h, w, Tensor::from_inner(teacher), &targets, options),
    }
}

#[derive(Clone, Debug)]
struct Distillation {
    kernel: &'static Kernel,
    targets: Arc<[Option<u32>]>,
    teacher: FlexTensor,
    options: DistillOptions,
}

impl Fused<2> for Distillation {
    /// The gradient of the logits, and the inputs.
    type Saved = [FlexTensor; 3];

    fn forward(&self, [h, w]: [FlexTensor; 2], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        let vocab = size(&w, 0);
        assert_eq!(
            [size(&h, 0), vocab],
            [size(&self.teacher, 0), size(&self.teacher, 1)],
            "the teacher's logits"
        );
        assert_eq!(size(&h, 0), self.targets.len(), "one target per token");
        let counted = self.targets.iter().flatten().count();
        assert!(counted > 0, "no target counts");
        let mut logits = contiguous(&matmul(h.clone(), transposed(w.clone())));
        let each = 1.0 / counted as f32;
        let chunks = logits.storage_mut::<f32>().par_chunks_mut(vocab * CHUNK);
        let teachers = floats(&self.teacher).par_chunks(vocab * CHUNK);
        let losses: Vec<f64> = chunks
            .zip(teachers)
            .zip(self.targets.par_chunks(CHUNK))
            .map(|((rows, teachers), targets)| {
                let mut room = [vec![0.0; vocab], vec![0.0; vocab]];
                let rows = rows.chunks_exact_mut(vocab).zip(teachers.chunks_exact(vocab)).zip(targets);
                rows.map(|((row, teacher), &target)| self.row(row, teacher, target, each, &mut room)).sum()
            })
            .collect();
        let mean = (losses.iter().sum::<f64>() / counted as f64) as f32;
        (from_floats(vec![mean], [1]), keep.then_some([logits, h, w]))
    }

    fn backward(&self, saved: Self::Saved, grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        head_gradients(self.kernel, saved, &grad, wanted)
    }
}

impl Distillation {
    /// The loss of one token; its logits become their gradient. `room` are two rows.
    fn row(
        &self,
        logits: &mut [f32],
        teacher: &[f32],
        target: Option<u32>,
        each: f32,
        [student, wanted]: &mut [Vec<f32>; 2],
    ) -> f64 {
        let Some(target) = target else {
            logits.fill(0.0);
            return 0.0;
        };
        let DistillOptions { temperature, weight } = self.options;
        let cold = 1.0 / temperature;
        let plain = f64::from(self.kernel.log_sum_exp(logits) - logits[target as usize]);
        for (row, from) in [(&mut *student, &*logits), (&mut *wanted, teacher)] {
            row.copy_from_slice(from);
            self.kernel.scale(row, cold);
        }
        let divergence = divergence(self.kernel, student, wanted);
        self.kernel.softmax(logits);
        logits[target as usize] -= 1.0;
        // d(T^2 KL)/dz = T (p_T - q_T)
        let (text, taught) = (each * (1.0 - weight), each * weight * temperature);
        for ((g, p), q) in logits.iter_mut().zip(&*student).zip(&*wanted) {
            *g = *g * text + (p - q) * taught;
        }
        let square = f64::from(temperature) * f64::from(temperature);
        (1.0 - f64::from(weight)) * plain + f64::from(weight) * square * divergence
    }
}

/// `KL(wanted || student)` of the softmaxes of two rows, in nats. The rows become those softmaxes.
pub(super) fn divergence(kernel: &'static Kernel, student: &mut [f32], wanted: &mut [f32]) -> f64 {
    // KL = sum q (ln q - ln p), with ln of a softmax as its logit less the log of the sum.
    let shift = f64::from(kernel.log_sum_exp(student)) - f64::from(kernel.log_sum_exp(wanted));
    let apart = |(s, t): (&f32, &f32)| f64::from(*t) - f64::from(*s) + shift;
    let differences: Vec<f64> = student.iter().zip(&*wanted).map(apart).collect();
    kernel.softmax(student);
    kernel.softmax(wanted);
    wanted.iter().zip(&differences).map(|(&q, d)| f64::from(q) * d).sum()
}
