//! How many gates a model's text opens.

use bitnet_device::{Looking, Stage};
use bitnet_model::GateActivation;

use crate::{EngineError, InferenceEngine};

/// Some words of several kinds. What matters is that they are text: random ids open other gates.
const SAMPLE: &str = "The harbour was quiet in the morning, and the fishermen mended their nets while the gulls waited. \
    A function that returns the larger of two numbers needs one comparison. In 1783 two brothers let a balloon of \
    paper and linen rise above the market square; it stayed in the air for ten minutes.";

impl InferenceEngine {
    /// The share of gates above 0 in each block, counted over a short sample text; `None` where the activation closes none, or
    /// the model has no tokenizer. Takes as long as a prompt of some seventy tokens.
    ///
    /// # Errors
    /// When memory is short.
    pub fn open_gates(&self) -> Result<Option<Vec<f32>>, EngineError> {
        if self.config().activation != GateActivation::SquaredRelu || self.tokenizer().is_none() {
            return Ok(None);
        }
        let mut ids = self.encode(SAMPLE)?;
        ids.truncate(self.context());
        let mut session = self.session()?;
        let mut counts = vec![(0usize, 0usize); self.config().layers];
        let mut gates = Looking::at(
            |stage| matches!(stage, Stage::Gate(_)),
            |stage, rows: &[f32]| {
                if let Stage::Gate(layer) = stage
                    && let Some((open, all)) = counts.get_mut(layer)
                {
                    *open += rows.iter().filter(|&&gate| gate > 0.0).count();
                    *all += rows.len();
                }
            },
        );
        session.feed_observed(&ids, &mut gates)?;
        Ok(Some(counts.into_iter().map(|(open, all)| open as f32 / all.max(1) as f32).collect()))
    }
}
