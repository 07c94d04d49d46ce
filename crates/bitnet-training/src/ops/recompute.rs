//! Gradient checkpointing (arXiv:1604.06174): a part of the model that keeps its inputs only, and runs again when its backward
//! is asked for.

use std::{fmt, sync::Arc};

use burn_autodiff::Autodiff;
use burn_flex::{Flex, FlexTensor};
use burn_tensor::Tensor;

use super::fused::{Fused, Node, apply, contiguous, from_floats, node, tensor};

/// Burn wants the number of inputs in the type; unused places hold a constant.
const ROOM: usize = 32;

/// Part of a model: one result of its inputs.
pub type Forward = Arc<dyn Fn(&[Tensor<2>]) -> Tensor<2> + Send + Sync>;

/// `part(inputs)`, of which nothing but the inputs is kept for the backward pass. That costs a second forward; values and
/// gradients have the same bits. Off the CPU it is just `part(inputs)`.
///
/// # Panics
/// With more than 32 inputs, or as `part`.
pub fn recompute(part: Forward, inputs: &[Tensor<2>]) -> Tensor<2> {
    assert!(inputs.len() <= ROOM, "{} inputs, at most {ROOM}", inputs.len());
    let Some(nodes) = inputs.iter().map(node).collect::<Option<Vec<Node>>>() else {
        return part(inputs);
    };
    let nothing = || constant(from_floats(vec![0.0], [1, 1]));
    let mut nodes = nodes.into_iter();
    let count = inputs.len();
    tensor(apply(
        Recompute { part, count },
        std::array::from_fn::<Node, ROOM, _>(|_| nodes.next().unwrap_or_else(nothing)),
    ))
}

fn constant(values: FlexTensor) -> Node {
    use burn_backend::AutodiffBackend;
    Autodiff::<Flex>::from_inner(values)
}

#[derive(Clone)]
struct Recompute {
    part: Forward,
    count: usize,
}

impl fmt::Debug for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recompute").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Fused<ROOM> for Recompute {
    type Saved = Vec<FlexTensor>;

    fn forward(&self, inputs: [FlexTensor; ROOM], keep: bool) -> (FlexTensor, Option<Self::Saved>) {
        let mut inputs = Vec::from(inputs);
        inputs.truncate(self.count);
        let constants: Vec<Tensor<2>> = inputs.iter().map(|x| tensor(constant(x.clone()))).collect();
        (values((self.part)(&constants)), keep.then_some(inputs))
    }

    fn backward(
        &self,
        saved: Self::Saved,
        grad: FlexTensor,
        wanted: [bool; ROOM],
    ) -> [Option<FlexTensor>; ROOM] {
        let input = |(x, wanted): (FlexTensor, bool)| {
            let x: Tensor<2> = tensor(constant(x));
            if wanted { x.require_grad() } else { x }
        };
        let inputs: Vec<Tensor<2>> = saved.into_iter().zip(wanted).map(input).collect();
        let out = (self.part)(&inputs);
        // The gradient of this sum by `out` is `grad`, to the bit: its elements times 1.
        let mut grads = (out * tensor(constant(grad))).sum().backward();
        let mut inputs = inputs.iter();
        wanted.map(|wanted| {
            let input = inputs.next().filter(|_| wanted)?;
            Some(contiguous(&input.grad_remove(&mut grads)?.try_into_primitive::<Flex>().ok()?))
        })
    }
}

fn values(out: Tensor<2>) -> FlexTensor {
    match node(&out) {
        Some(node) => contiguous(&node.into_primitive()),
        None => unreachable!("inputs on the CPU give a result on the CPU"),
    }
}
