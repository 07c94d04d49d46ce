//! A job meets the model that it begins with.

use bitnet_model::{Config, GateActivation};

use super::{Activation, TrainingJob};
use crate::{
    FakeQuantization, TrainError,
    found::{Found, name},
};

impl TrainingJob {
    /// The configuration of what is trained when it begins with `found`.
    ///
    /// # Errors
    /// [`TrainError::Contradiction`] for the first value of the job that the model contradicts, with both.
    pub(crate) fn meet(&self, found: &Found) -> Result<(Config, FakeQuantization), TrainError> {
        let config = found.config();
        let contradiction = |key: &str, job: String, model: String, cure: &'static str| {
            Err(TrainError::Contradiction { key: key.into(), job, path: found.path().into(), model, cure })
        };
        if let Some((key, job, model)) = self.sizes_that_differ(config) {
            return contradiction(key, job, model, "leave the section [model] out, the model says it all");
        }
        if self.training.positions > config.context {
            let (job, model) = (self.training.positions.to_string(), format!("room for {}", config.context));
            return contradiction("training.positions", job, model, "take fewer");
        }
        let theirs = found.quantization();
        let quantization = self.quantization(Some(theirs))?;
        if config.trained_int8 && !quantization.activations {
            let model = "int8 activations in its training".into();
            return contradiction(
                "quantization.activations",
                "false".into(),
                model,
                "take quantization.weights = \"model\"",
            );
        }
        if theirs.weights.is_some() && quantization.weights.is_none() {
            let model = format!("ternary weights with scales by {}", name(theirs.weights));
            return contradiction("quantization.weights", "\"none\"".into(), model, "take \"model\"");
        }
        if self.side_path()?.is_some() && theirs.weights.is_none() {
            return contradiction(
                "lora.rank",
                "above 0".into(),
                "weights that are not ternary".into(),
                "make it ternary first",
            );
        }
        if self.lora.as_ref().is_none_or(|lora| lora.rank == 0 || lora.fold) {
            self.check_export(quantization.weights, quantization.activations, config.sub_norms)?;
        }
        Ok((Config { trained_int8: quantization.activations, ..config.clone() }, quantization))
    }

    /// The first value of `[model]` that is not the model's, and the model's.
    fn sizes_that_differ(&self, c: &Config) -> Option<(&'static str, String, String)> {
        let m = self.model.as_ref()?;
        let numbers = [
            ("model.hidden", m.hidden, c.hidden),
            ("model.ffn", m.ffn, c.ffn),
            ("model.layers", m.layers, c.layers),
            ("model.heads", m.heads, c.heads),
            ("model.kv_heads", m.kv_heads, c.kv_heads),
            ("model.context", m.context, c.context),
        ];
        let number = numbers.into_iter().find(|(_, job, model)| job != model);
        let floats =
            [("model.rope_theta", m.rope_theta, c.rope.theta), ("model.norm_eps", m.norm_eps, c.norm_eps)];
        let float = floats.into_iter().find(|(_, job, model)| job != model);
        let relu2 = c.activation == GateActivation::SquaredRelu;
        let switches = [
            ("model.activation = \"relu2\"", m.activation == Activation::Relu2, relu2),
            ("model.sub_norms", m.sub_norms, c.sub_norms),
            ("model.tied_head", m.tied_head, c.tied_head),
        ];
        let switch = switches.into_iter().find(|(_, job, model)| job != model);
        let told = number.map(|(key, job, model)| (key, job.to_string(), model.to_string()));
        let told = told.or_else(|| float.map(|(key, job, model)| (key, job.to_string(), model.to_string())));
        told.or_else(|| switch.map(|(key, job, model)| (key, job.to_string(), model.to_string())))
    }
}
