//! The bridge: an operation on slices becomes a node of Burn's graph.

use std::{fmt::Debug, marker::PhantomData};

use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn_backend::{TensorData, ops::FloatTensorOps, tensor::FloatTensor};
use burn_flex::{Flex, FlexTensor};
use burn_tensor::Tensor;

/// A tensor of the CPU that takes part in a graph.
pub(crate) type Node = FloatTensor<Autodiff<Flex>>;

/// An operation of `N` tensors with its own backward, on the CPU.
pub(crate) trait Fused<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward needs of the forward.
    type Saved: Clone + Debug + Send + 'static;

    /// The result, and what the backward needs unless `keep` is false: then nobody will ask.
    fn forward(&self, inputs: [FlexTensor; N], keep: bool) -> (FlexTensor, Option<Self::Saved>);

    /// The gradients of the inputs that are `wanted`, given that of the result.
    fn backward(&self, saved: Self::Saved, grad: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// The tensor as a node, when it is on the CPU and its device keeps graphs.
pub(crate) fn node<const D: usize>(tensor: &Tensor<D>) -> Option<Node> {
    tensor.clone().try_into_primitive::<Autodiff<Flex>>().ok()
}

/// A node of the graph as a tensor again.
pub(crate) fn tensor<const D: usize>(node: Node) -> Tensor<D> {
    Tensor::from_primitive::<Autodiff<Flex>>(node)
}

/// Runs `op` forward and lets it take part in the graph.
pub(crate) fn apply<O: Fused<N>, const N: usize>(op: O, inputs: [Node; N]) -> Node {
    let guards = inputs.each_ref().map(Node::node);
    let values = inputs.map(|input| contiguous(&input.into_primitive()));
    match Step::<O>(PhantomData).prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (out, saved) = op.forward(values, true);
            prep.finish((op, saved), out)
        }
        OpsKind::UnTracked(prep) => prep.finish(op.forward(values, false).0),
    }
}

/// The step of the backward pass that stands for an operation.
#[derive(Debug)]
struct Step<O>(PhantomData<fn() -> O>);

impl<O: Fused<N>, const N: usize> Backward<Flex, N> for Step<O> {
    type State = (O, Option<O::Saved>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(&grads.consume::<Flex>(&ops.node));
        let (op, saved) = ops.state;
        let Some(saved) = saved else { return };
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = op.backward(saved, grad, wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                grads.register::<Flex>(parent.id, result);
            }
        }
    }
}

/// The tensor with its elements in row-major order and nothing else in its memory.
pub(crate) fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

/// The elements of a [`contiguous`] f32 tensor.
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.storage::<f32>()
}

/// A tensor of these elements and that shape, row-major.
pub(crate) fn from_floats<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The size of dimension `d`, counted from the outermost.
pub(crate) fn size(tensor: &FlexTensor, d: usize) -> usize {
    tensor.layout().shape()[d]
}

/// The matrix product `a b`.
pub(crate) fn matmul(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    Flex::float_matmul(a, b)
}

/// The last two dimensions exchanged, without moving anything.
pub(crate) fn transposed(a: FlexTensor) -> FlexTensor {
    Flex::float_transpose(a)
}
