//! What a job cannot be.

use bitnet_quant::Granularity;

use super::TrainingJob;
use crate::{TrainError, error::wrong};

impl TrainingJob {
    /// Refuses values that cannot be or contradict each other.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let Self { data, examples, model, quantization, training, optimizer, run, .. } = self;
        let counts = [
            ("training.batch", training.batch as u64),
            ("training.accumulate", training.accumulate as u64),
            ("training.positions", training.positions as u64),
            ("run.evaluate_windows", run.evaluate_windows as u64),
            ("run.keep", run.keep as u64),
            ("run.report_every", run.report_every),
            ("model.heads", model.as_ref().map_or(1, |m| m.heads) as u64),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, n)| *n == 0) {
            return wrong(format!("{key} is 0"));
        }
        let (section, files, validation) = match (data, examples) {
            (Some(d), None) => ("data", &d.files, d.validation),
            (None, Some(e)) => ("examples", &e.files, e.validation),
            _ => {
                return wrong(
                    "a job has a section [data] (texts) or a section [examples] (chats and completions)",
                );
            }
        };
        if files.is_empty() {
            return wrong(format!("{section}.files names no file"));
        }
        if !(validation > 0.0 && validation < 1.0) {
            return wrong(format!("{section}.validation is {validation}, not a share between 0 and 1"));
        }
        let epochs = examples.as_ref().map_or(0.0, |e| e.epochs);
        if !(epochs.is_finite() && epochs >= 0.0) || epochs > 0.0 && training.steps > 0 {
            return wrong("examples.epochs is 0 or more, and one of examples.epochs and training.steps is 0");
        }
        if epochs == 0.0 && training.steps == 0 {
            return wrong("training.steps is 0");
        }
        if let Some(model) = model {
            if !model.hidden.is_multiple_of(model.heads) {
                return wrong(format!(
                    "model.hidden {} is not a multiple of model.heads {}",
                    model.hidden, model.heads
                ));
            }
            if training.positions > model.context {
                return wrong("training.positions is above model.context");
            }
            let deviation = f64::from(model.deviation);
            if !(deviation.is_finite() && deviation > 0.0) {
                return wrong("model.deviation is not a positive number");
            }
        }
        if training.steps > 0 && optimizer.warmup >= training.steps {
            return wrong("optimizer.warmup takes all of training.steps");
        }
        self.check_start()?;
        self.check_optimizer()?;
        let granularity = match (self.granularity()?, quantization.activations) {
            (None, None) => return self.check_formats(),
            (None, Some(_)) => {
                return wrong(
                    "quantization.weights = \"model\" says it all: leave quantization.activations out",
                );
            }
            (Some(_), None) => return wrong("quantization.activations is missing"),
            (Some(granularity), Some(_)) => granularity,
        };
        if granularity.is_none() && quantization.activations == Some(true) {
            return wrong(
                "quantization.weights = \"none\" with activations = true: the float twin rounds nothing",
            );
        }
        if let Some(Granularity::Group(size)) = granularity
            && !(size.is_multiple_of(32) && size > 0)
        {
            return wrong("a group of quantization.weights is a multiple of 32 inputs");
        }
        let sub_norms = self.model.as_ref().is_some_and(|m| m.sub_norms);
        self.check_export(granularity, quantization.activations == Some(true), sub_norms)
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
        Ok(())
    }

    /// Beginning, side paths and teacher.
    fn check_start(&self) -> Result<(), TrainError> {
        if self.start_model().is_none() && self.model.is_none() {
            return wrong("start.model names no model, and there is no section [model] for a fresh one");
        }
        if self.examples.is_some() && self.start_model().is_none() {
            return wrong("start.model names no model: there is nothing to fine-tune");
        }
        if let Some(side) = self.side_path()? {
            if self.start_model().is_none() || self.granularity()?.is_some() {
                return wrong(
                    "lora.rank is above 0, so the weights stay as they are: start.model names them, and quantization.weights is \"model\"",
                );
            }
            if side.projections.is_empty() || !(side.alpha.is_finite() && side.alpha > 0.0) {
                return wrong("lora.projections names one projection or more, and lora.alpha is above 0");
            }
            if self.quantization.lambda_steps > 0 {
                return wrong("lora trains no rounding: quantization.lambda_steps is 0 with it");
            }
        }
        if self.lora.as_ref().is_some_and(|l| !(l.fold_bound.is_finite() && l.fold_bound >= 0.0)) {
            return wrong("lora.fold_bound is 0 nats or more");
        }
        self.check_relations()?;
        match self.distillation() {
            Some((_, d))
                if !(d.temperature.is_finite() && d.temperature > 0.0 && (0.0..=1.0).contains(&d.weight)) =>
            {
                wrong("distillation.temperature is above 0, and distillation.weight lies from 0 to 1")
            }
            _ => Ok(()),
        }
    }

    /// The relations, as far as the job itself says what they are of.
    fn check_relations(&self) -> Result<(), TrainError> {
        let Some(relations) = self.relations() else { return Ok(()) };
        if !(relations.weight.is_finite() && relations.weight > 0.0) {
            return wrong(format!("relations.weight is {}, not a number from 0 on", relations.weight));
        }
        if self.distillation().is_none() {
            return wrong(
                "relations.weight is above 0, and distillation.teacher names no model: whose relations?",
            );
        }
        match &self.model {
            // Heads of size 0 and the like are for the configuration's own check.
            Some(m) => {
                relations.of_student(m.layers, [m.hidden, m.hidden / m.heads * m.kv_heads]).map(|_| ())
            }
            None => Ok(()),
        }
    }

    fn check_formats(&self) -> Result<(), TrainError> {
        let known = |format: &String| format.parse::<bitnet_convert::Target>().map(|_| ());
        self.export.formats.iter().try_for_each(known).map_err(|e| TrainError::Job(e.to_string()))
    }

    /// Refuses formats that cannot hold what is trained.
    pub(super) fn check_export(
        &self,
        granularity: Option<Granularity>,
        activations: bool,
        sub_norms: bool,
    ) -> Result<(), TrainError> {
        self.check_formats()?;
        let held = |format: &str| match (granularity, activations) {
            (None, _) => wrong(
                "quantization.weights = \"none\" trains floats, and no export.formats hold those: leave the list empty",
            ),
            (Some(Granularity::Tensor), true) => Ok(()),
            // The only ones that have both without rounding the scales.
            (Some(_), true) if ["bitnet", "hf-master"].contains(&format) => Ok(()),
            (Some(_), true) => wrong(format!(
                "export.formats has \"{format}\", which does not hold int8 activations beside scales of rows or groups; \"bitnet\" and \"hf-master\" do"
            )),
            (Some(_), false) if sub_norms => wrong(
                "models with sub_norms are served with int8 activations: set quantization.activations = true, or leave export.formats empty",
            ),
            (Some(_), false) => Ok(()),
        };
        self.export.formats.iter().try_for_each(|format| held(&format.to_ascii_lowercase()))
    }
}
