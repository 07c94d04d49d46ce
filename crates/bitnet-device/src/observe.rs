//! Looking at the rows of a forward pass.

use crate::Stage;

/// Looks at rows while a model runs. Only stages that it wants are read back from the device.
pub trait Observe {
    /// Whether it looks at `stage`.
    fn wants(&self, stage: Stage) -> bool;

    /// The rows of a stage of one step, `[tokens, width]`: all tokens of the step, or (behind the last block) those that get
    /// logits.
    fn rows(&mut self, stage: Stage, rows: &[f32]);
}

/// An observer of the stages for which `wants` is true.
pub struct Looking<W, R> {
    wants: W,
    rows: R,
}

impl<W: Fn(Stage) -> bool, R: FnMut(Stage, &[f32])> Looking<W, R> {
    /// Calls `rows` with the rows of every stage for which `wants` is true.
    pub fn at(wants: W, rows: R) -> Self {
        Self { wants, rows }
    }
}

impl<W: Fn(Stage) -> bool, R: FnMut(Stage, &[f32])> Observe for Looking<W, R> {
    fn wants(&self, stage: Stage) -> bool {
        (self.wants)(stage)
    }

    fn rows(&mut self, stage: Stage, rows: &[f32]) {
        (self.rows)(stage, rows);
    }
}
