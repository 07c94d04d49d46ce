//! The relations between the positions of a sequence, as a teacher's attention has them.

use bitnet_kernels::Kernel;
use burn_flex::{Flex, FlexTensor};
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::{
    composed,
    distill::divergence,
    fused::{Fused, apply, contiguous, floats, from_floats, matmul, node, size, tensor, transposed},
    rows::{self, CHUNK},
    sizes::Relations,
};

/// How far the student's attention relations are from the teacher's, in nats, as a tensor of one element (MiniLMv2,
/// arXiv:2012.15828, section 3; BitDistill, arXiv:2510.13998, uses it for ternary students). For queries, keys and values each,
/// the heads of a token are joined and cut again into `heads` relation heads `A`, `[positions, d]`; their relation is
/// `softmax(A A^T / sqrt(d))`, every position to every one of its sequence. The loss is the sum over the three of
/// `KL(teacher || student)`, the mean over sequences, heads and rows.
///
/// As in the papers nothing is masked, in decoders neither: a relation looks both ways, and is served by nobody.
///
/// `states` is `[sequences * positions, widths]`: queries, keys, values of each token; `teacher` is that of the teacher and has
/// no gradient.
///
/// # Panics
/// When sizes differ, or no position counts.
pub fn relations(
    kernel: &'static Kernel,
    states: Tensor<2>,
    teacher: Tensor<2>,
    sizes: &Relations,
) -> Tensor<1> {
    let flex = teacher.clone().try_into_primitive::<Flex>().ok();
    match (node(&states), flex) {
        (Some(states), Some(teacher)) => {
            let teacher = contiguous(&teacher);
            tensor(apply(Distance { kernel, teacher, sizes: sizes.clone() }, [states]))
        }
        _ => composed::relations(states, Tensor::from_inner(teacher), sizes),
    }
}

#[derive(Clone, Debug)]
struct Distance {
    kernel: &'static Kernel,
    teacher: FlexTensor,
    sizes: Relations,
}

impl Fused<1> for Distance {
    /// The gradient of the states for a gradient of 1: no matrix of scores has to wait for the backward pass.
    type Saved = FlexTensor;

    fn forward(&self, [states]: [FlexTensor; 1], keep: bool) -> (FlexTensor, Option<FlexTensor>) {
        let Relations { positions, lengths, student, teacher, .. } = &self.sizes;
        for (tensor, widths) in [(&states, student), (&self.teacher, teacher)] {
            let shape = [size(tensor, 0), size(tensor, 1)];
            assert_eq!(shape, [lengths.len() * positions, widths.iter().sum()], "states of every token");
        }
        assert!(lengths.iter().any(|&length| length > 0), "no position counts");
        let width = size(&states, 1);
        let mut slope = if keep { vec![0.0; size(&states, 0) * width] } else { Vec::new() };
        let mut loss = 0.0;
        for part in 0..3 {
            let heads = self.cut(floats(&states), student, part);
            let theirs = self.cut(floats(&self.teacher), teacher, part);
            let wanted = contiguous(&matmul(theirs.clone(), transposed(theirs)));
            let mut scores = contiguous(&matmul(heads.clone(), transposed(heads.clone())));
            loss += self.compare(scores.storage_mut(), floats(&wanted), [student[part], teacher[part]]);
            if keep {
                // Of A A^T: (D + D^T) A.
                scores.storage_mut::<f32>().par_chunks_mut(positions * positions).for_each(mirrored);
                let slopes = contiguous(&matmul(scores, heads));
                self.join(floats(&slopes), &mut slope, part);
            }
        }
        let loss = (loss * f64::from(self.sizes.each())) as f32;
        (from_floats(vec![loss], [1]), keep.then(|| from_floats(slope, [size(&states, 0), width])))
    }

    fn backward(&self, saved: FlexTensor, grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let factor = floats(&grad)[0];
        let mut slope = contiguous(&saved);
        slope.storage_mut::<f32>().par_chunks_mut(1 << 14).for_each(|x| self.kernel.scale(x, factor));
        [Some(slope)]
    }
}

impl Distance {
    /// The relation heads of queries, keys or values, `[blocks, positions, d]`.
    fn cut(&self, states: &[f32], widths: &[usize; 3], part: usize) -> FlexTensor {
        let Relations { positions, heads, .. } = self.sizes;
        let (all, dim) = (widths.iter().sum::<usize>(), widths[part] / heads);
        let first: usize = widths[..part].iter().sum();
        let mut out = vec![0.0; self.sizes.blocks() * positions * dim];
        rows::each(&mut out, dim, |row, out| {
            let (block, position) = (row / positions, row % positions);
            let token = block / heads * positions + position;
            out.copy_from_slice(&states[token * all + first + block % heads * dim..][..dim]);
        });
        from_floats(out, [self.sizes.blocks(), positions, dim])
    }

    /// [`Distance::cut`] of the student, the other way round.
    fn join(&self, cut: &[f32], states: &mut [f32], part: usize) {
        let Relations { positions, heads, student, .. } = self.sizes;
        let (all, dim) = (student.iter().sum::<usize>(), student[part] / heads);
        let first: usize = student[..part].iter().sum();
        rows::each(states, all, |token, out| {
            let (sequence, position) = (token / positions, token % positions);
            let out = out[first..][..student[part]].chunks_exact_mut(dim);
            for (head, out) in out.enumerate() {
                let row = (sequence * heads + head) * positions + position;
                out.copy_from_slice(&cut[row * dim..][..dim]);
            }
        });
    }

    /// The sum of the divergences of all rows; the student's scores become their gradients. `widths` are the student's and the
    /// teacher's.
    fn compare(&self, scores: &mut [f32], wanted: &[f32], widths: [usize; 2]) -> f64 {
        let Relations { positions, heads, ref lengths, .. } = self.sizes;
        let factors = widths.map(|width| 1.0 / ((width / heads) as f32).sqrt());
        let each = self.sizes.each() * factors[0];
        let chunks = scores.par_chunks_mut(positions * CHUNK).zip(wanted.par_chunks(positions * CHUNK));
        let of_chunk = |(chunk, (scores, wanted)): (usize, (&mut [f32], &[f32]))| {
            let mut room = [vec![0.0; positions], vec![0.0; positions]];
            let rows = scores.chunks_exact_mut(positions).zip(wanted.chunks_exact(positions));
            let mut sum = 0.0;
            for (row, (scores, wanted)) in rows.enumerate() {
                let row = chunk * CHUNK + row;
                let length = lengths[row / positions / heads];
                let (seen, behind) = scores.split_at_mut(length);
                behind.fill(0.0);
                if row % positions >= length {
                    seen.fill(0.0);
                    continue;
                }
                let [p, q] = room.each_mut().map(|row| &mut row[..length]);
                for (to, from, factor) in
                    [(&mut *p, &*seen, factors[0]), (&mut *q, &wanted[..length], factors[1])]
                {
                    to.copy_from_slice(from);
                    self.kernel.scale(to, factor);
                }
                sum += divergence(self.kernel, p, q);
                seen.iter_mut().zip(p.iter().zip(&*q)).for_each(|(s, (p, q))| *s = (p - q) * each);
            }
            sum
        };
        let sums: Vec<f64> = chunks.enumerate().map(of_chunk).collect();
        sums.iter().sum()
    }
}

/// A square matrix plus its transpose, in its place.
fn mirrored(square: &mut [f32]) {
    let side = square.len().isqrt();
    for i in 0..side {
        for j in 0..=i {
            let sum = square[i * side + j] + square[j * side + i];
            (square[i * side + j], square[j * side + i]) = (sum, sum);
        }
    }
}
