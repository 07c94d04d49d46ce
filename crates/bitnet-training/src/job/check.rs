//! What a job cannot be.

use bitnet_quant::Granularity;

use super::{Job, wrong};
use crate::TrainError;

impl Job {
    /// Refuses values that cannot be or contradict each other.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let Self { data, model, quantization, training, optimizer, run, .. } = self;
        let counts = [
            ("training.steps", training.steps),
            ("training.batch", training.batch as u64),
            ("training.accumulate", training.accumulate as u64),
            ("training.positions", training.positions as u64),
            ("run.evaluate_windows", run.evaluate_windows as u64),
            ("run.keep", run.keep as u64),
            ("run.report_every", run.report_every),
            ("model.heads", model.heads as u64),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, n)| *n == 0) {
            return wrong(format!("{key} is 0"));
        }
        if data.files.is_empty() {
            return wrong("data.files names no text");
        }
        if !(data.validation > 0.0 && data.validation < 1.0) {
            return wrong(format!("data.validation is {}, not a share between 0 and 1", data.validation));
        }
        if !model.hidden.is_multiple_of(model.heads) {
            return wrong(format!(
                "model.hidden {} is not a multiple of model.heads {}",
                model.hidden, model.heads
            ));
        }
        if training.positions > model.context {
            return wrong("training.positions is above model.context");
        }
        if optimizer.warmup >= training.steps {
            return wrong("optimizer.warmup takes all of training.steps");
        }
        self.check_optimizer()?;
        let granularity = self.granularity()?;
        if granularity.is_none() && quantization.activations {
            return wrong(
                "quantization.weights = \"none\" with activations = true: the float twin rounds nothing",
            );
        }
        if let Some(Granularity::Group(size)) = granularity
            && !(size.is_multiple_of(32) && size > 0)
        {
            return wrong("a group of quantization.weights is a multiple of 32 inputs");
        }
        self.check_export(granularity)
    }

    fn check_optimizer(&self) -> Result<(), TrainError> {
        let o = &self.optimizer;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| (0.0..=1.0).contains(&x);
        if !positive(o.learning_rate) {
            return wrong("optimizer.learning_rate is not a positive number");
        }
        if ![o.floor, o.split, o.first_end, o.second_start].into_iter().all(share) {
            return wrong("optimizer.floor, split, first_end and second_start are shares from 0 to 1");
        }
        let beta = |b: f32| (0.0..1.0).contains(&b);
        let none_or_more = |x: f64| x == 0.0 || positive(x);
        if !beta(o.beta1) || !beta(o.beta2) || !positive(f64::from(o.eps)) || !none_or_more(f64::from(o.clip))
        {
            return wrong("optimizer.beta1 and beta2 lie from 0 to below 1, eps above 0, clip at 0 or above");
        }
        if !none_or_more(o.weight_decay) || !none_or_more(self.training.divergence) {
            return wrong("optimizer.weight_decay and training.divergence are 0 or more");
        }
        if !positive(f64::from(self.model.deviation)) {
            return wrong("model.deviation is not a positive number");
        }
        Ok(())
    }

    fn check_export(&self, granularity: Option<Granularity>) -> Result<(), TrainError> {
        for format in &self.export.formats {
            format.parse::<bitnet_convert::Target>().map_err(|e| TrainError::Job(e.to_string()))?;
            match (granularity, self.quantization.activations) {
                (None, _) => {
                    return wrong(
                        "quantization.weights = \"none\" trains floats, and no export.formats hold those: leave the list empty",
                    );
                }
                (Some(Granularity::Tensor), true) => {}
                (Some(_), true) => {
                    return wrong(
                        "no export.formats hold int8 activations with scales of rows or groups: take quantization.weights = \"tensor\", or leave the list empty",
                    );
                }
                (Some(_), false) if self.model.sub_norms => {
                    return wrong(
                        "models with sub_norms are served with int8 activations: set quantization.activations = true, or leave export.formats empty",
                    );
                }
                (Some(_), false) => {}
            }
        }
        Ok(())
    }
}
