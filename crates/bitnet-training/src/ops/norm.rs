//! Root-mean-square norms.

use bitnet_kernels::Kernel;
use burn_flex::FlexTensor;
use burn_tensor::Tensor;

use super::{
    composed,
    fused::{Fused, apply, floats, from_floats, node, size, tensor},
    rows,
};

/// `(x r) w` with `r = 1 / sqrt(mean(x x) + eps)`, row by row. `x` is `[tokens, width]`, `w` is `[1, width]`.
///
/// On the CPU the forward has the bits of the engine's norm.
pub fn rms_norm(kernel: &'static Kernel, x: Tensor<2>, w: Tensor<2>, eps: f32) -> Tensor<2> {
    match (node(&x), node(&w)) {
        (Some(x), Some(w)) => tensor(apply(RmsNorm { kernel, eps }, [x, w])),
        _ => composed::rms_norm(x, w, eps),
    }
}

#[derive(Clone, Debug)]
struct RmsNorm {
    kernel: &'static Kernel,
    eps: f32,
}

impl Fused<2> for RmsNorm {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        let [x, w] = &inputs;
        let (tokens, width) = (size(x, 0), size(x, 1));
        let mut out = vec![0.0; tokens * width];
        let (xs, ws) = (floats(x), floats(w));
        rows::each(&mut out, width, |row, out| {
            self.kernel.rmsnorm(&xs[row * width..][..width], ws, self.eps, out);
        });
        (from_floats(out, [tokens, width]), keep.then_some(inputs))
    }

    fn backward(&self, saved: Self::Saved, grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [x, w] = &saved;
        let (tokens, width) = (size(x, 0), size(x, 1));
        let (xs, ws, gs) = (floats(x), floats(w), floats(&grad));
        let r: Vec<f32> = xs
            .chunks_exact(width)
            .map(|x| 1.0 / (rows::fold(x, x, |a, b| a * b) / width as f32 + self.eps).sqrt())
            .collect();
        // d(x r)/dx = r (1 - x x^T r^2 / n)
        let dx = wanted[0].then(|| {
            let mut dx: Vec<f32> = gs.to_vec();
            rows::each(&mut dx, width, |row, d| {
                let x = &xs[row * width..][..width];
                d.iter_mut().zip(ws).for_each(|(d, w)| *d *= w);
                let along = rows::fold(d, x, |d, x| d * x) * r[row] * r[row] / width as f32;
                d.iter_mut().zip(x).for_each(|(d, x)| *d = r[row] * (*d - x * along));
            });
            from_floats(dx, [tokens, width])
        });
        let dw = wanted[1].then(|| {
            let sum = rows::sum(tokens, width, |row, sum| {
                let at = row * width;
                for ((s, g), x) in sum.iter_mut().zip(&gs[at..]).zip(&xs[at..]) {
                    *s += g * (x * r[row]);
                }
            });
            from_floats(sum, [1, width])
        });
        [dx, dw]
    }
}
