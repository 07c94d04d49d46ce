//! Learning from a larger model: its logits beside the text.

use bitnet_model::Config;
use burn_tensor::Tensor;

use crate::{Batch, Parameters, TrainError, Transformer, ops};

/// A model whose logits a run listens to.
#[derive(Clone, Debug)]
pub struct Teacher {
    model: Transformer,
    parameters: Parameters,
    options: DistillOptions,
}

/// How a teacher is listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistillOptions {
    /// What both models' logits are divided by before they are compared: larger ones tell more of the unlikely tokens.
    pub temperature: f32,
    /// The share of the teacher in the loss, from 0 (the text alone) to 1 (the teacher alone).
    pub weight: f32,
}

impl Teacher {
    /// A teacher of models like `student`.
    ///
    /// # Errors
    /// [`TrainError::Vocabulary`] when its logits are of another vocabulary, [`TrainError::Unsupported`] when its context is shorter.
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
        Ok(Self { model, parameters, options })
    }

    /// The loss of `student`: `(1 - weight) ce + weight T^2 KL(teacher || student)` at temperature `T` (Hinton, Vinyals, Dean,
    /// arXiv:1503.02531; the square keeps the size of gradients), the mean over the targets.
    pub(crate) fn loss(
        &self,
        student: &Transformer,
        parameters: &Parameters,
        leaves: &[Tensor<2>],
        batch: &Batch,
    ) -> Tensor<1> {
        let constants: Vec<Tensor<2>> =
            self.parameters.list().iter().map(|p| Tensor::from_inner(p.values.clone())).collect();
        let (hidden, head) = self.model.hidden_and_head(&self.parameters, &constants, batch);
        let teacher = hidden.matmul(head.transpose());
        let (hidden, head) = student.hidden_and_head(parameters, leaves, batch);
        ops::distillation(
            student.kernel(),
            hidden,
            head,
            teacher.inner(),
            batch.counted_targets(),
            self.options,
        )
    }
}
