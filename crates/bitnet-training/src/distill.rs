//! Learning from a larger model: its logits beside the text, and how its attention relates positions.

use bitnet_model::Config;
use burn_tensor::Tensor;

use crate::{
    DistillOptions, Minibatch, Parameters, RelationOptions, TrainError, Transformer, error::wrong,
    model::Heard, ops,
};

/// A model whose logits a run listens to.
#[derive(Clone, Debug)]
pub struct Teacher {
    model: Transformer,
    parameters: Parameters,
    options: DistillOptions,
    tap: Option<Tap>,
}

/// The blocks whose states are compared.
#[derive(Clone, Copy, Debug)]
struct Tap {
    options: RelationOptions,
    student: usize,
    teacher: usize,
}

/// The loss of a student, and the part of it that is told.
pub(crate) struct Taught {
    /// The loss whose gradient is followed, one element.
    pub(crate) loss: Tensor<1>,
    /// The distance of the relations in it, before its weight.
    pub(crate) relations: Option<Tensor<1>>,
}

impl RelationOptions {
    /// The student's block among `layers`, whose queries and keys have these widths.
    ///
    /// # Errors
    /// [`TrainError::Job`] with the key that cannot be.
    pub(crate) fn of_student(&self, layers: usize, widths: [usize; 2]) -> Result<usize, TrainError> {
        self.block("student", "relations.layer", self.layer, layers, widths)
    }

    fn block(
        &self,
        whose: &str,
        key: &str,
        layer: i64,
        layers: usize,
        widths: [usize; 2],
    ) -> Result<usize, TrainError> {
        for (what, width) in ["queries", "keys and values"].into_iter().zip(widths) {
            if self.heads == 0 || !width.is_multiple_of(self.heads) {
                return wrong(format!(
                    "relations.heads is {}, and the {what} of the {whose} have {width} values, which cannot be cut into so many equal heads",
                    self.heads
                ));
            }
        }
        let from_end = if layer < 0 { layers as i64 } else { 0 };
        match usize::try_from(layer + from_end) {
            Ok(at) if at < layers => Ok(at),
            _ => wrong(format!(
                "{key} is {layer}, and the {whose} has {layers} blocks: 0 to {}, or -1 for the last to -{layers} for the first",
                layers.saturating_sub(1)
            )),
        }
    }
}

impl Teacher {
    /// A teacher of models like `student`.
    ///
    /// # Errors
    /// [`TrainError::Teacher`] when its logits are of another vocabulary, or its context is shorter.
    pub fn new(
        model: Transformer,
        parameters: Parameters,
        options: DistillOptions,
        student: &Config,
        positions: usize,
    ) -> Result<Self, TrainError> {
        let config = model.config();
        if config.vocab != student.vocab {
            return Err(TrainError::Teacher {
                what: format!(
                    "has {} entries in its vocabulary, and the student {}",
                    config.vocab, student.vocab
                ),
            });
        }
        if config.context < positions {
            return Err(TrainError::Teacher {
                what: format!(
                    "was made for {} positions, and training.positions is {positions}",
                    config.context
                ),
            });
        }
        Ok(Self { model, parameters, options, tap: None })
    }

    /// The same, whose attention relations are learned, too, by models like `student`.
    ///
    /// # Errors
    /// [`TrainError::Job`] when a block is not there, or cannot be cut into relation heads.
    pub fn with_relations(self, options: RelationOptions, student: &Config) -> Result<Self, TrainError> {
        let (own, widths) = (self.model.config(), |c: &Config| [c.q_width(), c.kv_width()]);
        let key = "relations.teacher_layer";
        let tap = Tap {
            options,
            student: options.of_student(student.layers, widths(student))?,
            teacher: options.block("teacher", key, options.teacher_layer, own.layers, widths(own))?,
        };
        Ok(Self { tap: Some(tap), ..self })
    }

    /// The loss of `student`: `(1 - weight) ce + weight T^2 KL(teacher || student)` at temperature `T` (Hinton, Vinyals, Dean,
    /// arXiv:1503.02531; the square keeps the size of gradients), the mean over the targets, and the relations times their own
    /// weight, the mean over the positions up to the last target of each sequence.
    pub(crate) fn loss(
        &self,
        student: &Transformer,
        parameters: &Parameters,
        leaves: &[Tensor<2>],
        batch: &Minibatch,
    ) -> Taught {
        let constants: Vec<Tensor<2>> =
            self.parameters.list().iter().map(|p| Tensor::from_inner(p.values.clone())).collect();
        let theirs = self.model.heard(&self.parameters, &constants, batch, self.tap.map(|tap| tap.teacher));
        let logits = theirs.hidden.matmul(theirs.head.transpose());
        let Heard { hidden, head, states } =
            student.heard(parameters, leaves, batch, self.tap.map(|tap| tap.student));
        let targets = batch.counted_targets();
        let loss = ops::distillation(student.kernel(), hidden, head, logits.inner(), targets, self.options);
        let (Some(tap), Some(states), Some(wanted)) = (self.tap, states, theirs.states) else {
            return Taught { loss, relations: None };
        };
        let widths = |c: &Config| [c.q_width(), c.kv_width(), c.kv_width()];
        let sizes = ops::Relations {
            positions: batch.positions(),
            lengths: batch.lengths().collect(),
            heads: tap.options.heads,
            student: widths(student.config()),
            teacher: widths(self.model.config()),
        };
        let relations = ops::relations(student.kernel(), states, wanted.inner(), &sizes);
        Taught { loss: loss + relations.clone() * tap.options.weight, relations: Some(relations) }
    }
}
