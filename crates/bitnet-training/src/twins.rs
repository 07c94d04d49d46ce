//! Twins: a float and a ternary model of one shape, fresh weights, text and order of text, to see what rounding costs.
//!
//! Two seeds differ by more than rounding costs, and twins of one seed differ by nearly the same for every seed: so gaps are
//! taken seed by seed, and then their mean.

use bitnet_kernels::Kernel;
use serde::Serialize;

use crate::{
    Lessons, StepReport, TrainError, Trainer, TrainingJob,
    corpus::read_text,
    error::wrong,
    metrics::{TritWatch, Trits},
    start::start,
};

/// What twins are by themselves, as settings over the template of a job: small enough for minutes on two cores, and the
/// bytes of the text as its tokens.
///
/// The last tenth of tiny Shakespeare is other plays than the rest, a tenth of a nat harder for the same model; pieces evenly
/// over the text measure what was learned from text of its kind.
pub const SETTINGS: [&str; 13] = [
    "data.split=spread",
    "data.vocabulary=258",
    "model.hidden=128",
    "model.ffn=352",
    "model.layers=3",
    "model.heads=4",
    "model.kv_heads=4",
    "model.context=64",
    "model.tied_head=false",
    "optimizer.learning_rate=2e-3",
    "run.evaluate_windows=1024",
    "run.report_every=100",
    "export.formats=[]",
];

/// One of the two models that are trained from the same weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// The float model, of which nothing is rounded.
    Float,
    /// The model that is rounded as the job says.
    Ternary,
}

/// What one of the two came to at its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Twin {
    /// The validation loss, in nats per token.
    pub validation: f64,
    /// Its trits; none of the float one.
    pub trits: Trits,
    /// A number of all its masters' bits: the same run has the same.
    pub fingerprint: u64,
}

/// Two that differ in nothing but the rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The seed that both models were trained with.
    pub seed: u64,
    /// The model of which nothing was rounded.
    pub float: Twin,
    /// The model whose weights were rounded to trits.
    pub ternary: Twin,
}

impl Pair {
    /// What the rounding costs, in nats per token.
    pub fn gap(&self) -> f64 {
        self.ternary.validation - self.float.validation
    }
}

/// A mean, and the standard deviation of a sample (over `n - 1`; 0 of one value).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean of the values.
    pub mean: f64,
    /// The standard deviation of the values.
    pub deviation: f64,
}

impl Spread {
    /// Mean and deviation of these values.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let n = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / n;
        let squares: f64 = values.map(|v| (v - mean) * (v - mean)).sum();
        Self { mean, deviation: if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 } }
    }
}

/// The float twin of a job.
///
/// # Errors
/// [`TrainError::Job`] when the job itself rounds no weights.
pub fn float_twin(job: &TrainingJob) -> Result<TrainingJob, TrainError> {
    if job.quantization(None)?.weights.is_none() {
        return wrong("quantization.weights = \"none\" has no twin: name what the ternary one rounds");
    }
    let mut float = job.clone();
    "none".clone_into(&mut float.quantization.weights);
    float.quantization.activations = Some(false);
    float.quantization.lambda_steps = 0;
    float.export.formats.clear();
    Ok(float)
}

/// Trains both twins of `job` with `seed` through all steps. `watch` is told each step and returns whether to go on; `None` when
/// it did not want to.
///
/// # Errors
/// As [`start()`], [`float_twin`] and [`Trainer::step`].
pub fn pair(
    job: &TrainingJob,
    seed: u64,
    kernel: &'static Kernel,
    mut watch: impl FnMut(Kin, &StepReport) -> bool,
) -> Result<Option<Pair>, TrainError> {
    let mut twin = |kin, mut job: TrainingJob| -> Result<Option<Twin>, TrainError> {
        job.training.seed = seed;
        let (mut trainer, _) = start(&job, kernel)?;
        let done = walk(&mut trainer, |report| watch(kin, report))?;
        done.then(|| at_end(&trainer, job.run.evaluate_windows)).transpose()
    };
    let Some(float) = twin(Kin::Float, float_twin(job)?)? else { return Ok(None) };
    let Some(ternary) = twin(Kin::Ternary, job.clone())? else { return Ok(None) };
    Ok(Some(Pair { seed, float, ternary }))
}

/// All steps; `false` when `watch` ended them.
fn walk(trainer: &mut Trainer, mut watch: impl FnMut(&StepReport) -> bool) -> Result<bool, TrainError> {
    while trainer.steps_done() < trainer.options().schedule.steps {
        if !watch(&trainer.step()?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn at_end(trainer: &Trainer, windows: usize) -> Result<Twin, TrainError> {
    let trits = TritWatch::default().look(trainer.parameters(), trainer.model().quantization())?;
    let fingerprint = trainer.parameters().digest();
    Ok(Twin { validation: trainer.evaluate(windows), trits, fingerprint })
}

/// Tokens of a character of the job's texts, the tokens around a text left out: for losses per character.
///
/// # Errors
/// As [`read_text`] and [`start()`].
pub fn tokens_per_character(job: &TrainingJob, kernel: &'static Kernel) -> Result<f64, TrainError> {
    let (trainer, _) = start(job, kernel)?;
    let Lessons::Text(corpus) = trainer.lessons() else { return wrong("twins learn from texts") };
    let mut characters = 0;
    for path in job.data.iter().flat_map(|data| &data.files) {
        characters += read_text(path)?.chars().count();
    }
    let config = trainer.model().config();
    let around: Vec<u32> = config.bos.into_iter().chain(config.eos.iter().copied()).collect();
    let ids = corpus.train.iter().chain(&corpus.validation);
    Ok(ids.filter(|id| !around.contains(id)).count() as f64 / characters as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TEMPLATE;

    #[test]
    fn spreads_are_those_of_a_sample() {
        let spread = Spread::of([1.0, 2.0, 6.0].into_iter());
        assert_eq!((spread.mean, spread.deviation), (3.0, 7f64.sqrt()));
        assert_eq!(Spread::of([5.0].into_iter()), Spread { mean: 5.0, deviation: 0.0 });
    }

    #[test]
    fn twins_differ_in_the_rounding_alone() {
        let settings = SETTINGS.iter().copied().chain(["data.files=[\"a.txt\"]"]);
        let settings: Vec<String> = settings.map(str::to_owned).collect();
        let job = TrainingJob::read(TEMPLATE, &settings).unwrap();
        let float = float_twin(&job).unwrap();
        let pairs = job.identity(1).unwrap().into_iter().zip(float.identity(1).unwrap());
        let differ: Vec<String> = pairs.filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert_eq!(differ, ["quantization.activations", "quantization.weights"]);
        assert!(float_twin(&float).is_err());
    }
}
