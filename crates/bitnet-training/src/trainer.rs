//! The steps of a run.

use std::{path::Path, sync::Arc};

use burn_tensor::{Device, Tensor};

use crate::{
    AdamW, AdamWOptions, FakeQuantization, Minibatch, Parameters, Schedule, TrainError, Transformer,
    checkpoint::{self, Lowest, Saved, State},
    distill::{Taught, Teacher},
    lessons::Lessons,
    schedule::Rates,
    windows::{Position, Windows},
};

/// The weight of the past in the running mean of the loss.
const MEMORY: f64 = 0.98;

/// What a [`Trainer`] is told about its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerOptions {
    /// Learning rate and decay of every step.
    pub schedule: Schedule,
    /// AdamW's constants.
    pub optimizer: AdamWOptions,
    /// Sequences of one forward pass.
    pub batch: usize,
    /// Passes of a step, whose gradients are averaged.
    pub accumulate: usize,
    /// Tokens of one sequence.
    pub positions: usize,
    /// The seed of the order in which texts are met.
    pub seed: u64,
    /// Steps in which the share of the rounding rises from 0 to 1; 0 rounds from the start.
    pub lambda_steps: u64,
    /// Training stops when the running mean of the loss is this much above its lowest, in nats; 0 never.
    pub divergence: f64,
    /// Whether the loss of a step is the sum over its targets; otherwise it is their mean.
    pub sum: bool,
}

/// What one step did, and how long the gradients were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The number of steps done, this one included.
    pub step: u64,
    /// The loss before it, in nats per target.
    pub loss: f64,
    /// The distance of the attention relations from the teacher's in it, before its weight, if they are learned.
    pub relations: Option<f64>,
    /// The length of the gradients before they were clipped.
    pub length: f64,
    /// The learning rate and the weight decay of the step.
    pub rates: Rates,
    /// Tokens that it has learned from.
    pub tokens: usize,
}

/// A run: a model, its masters, its optimizer, its text and how far it is.
#[derive(Clone, Debug)]
pub struct Trainer {
    model: Transformer,
    parameters: Parameters,
    optimizer: AdamW,
    options: TrainerOptions,
    quantization: FakeQuantization,
    lessons: Lessons,
    teacher: Option<Arc<Teacher>>,
    windows: Windows,
    step: u64,
    /// The running mean of the loss; 0 before the first step.
    mean_loss: f64,
    lowest_loss: f64,
    lowest_validation: Option<Lowest>,
    identity: Vec<(String, String)>,
}

impl Trainer {
    /// A run at its beginning. `identity` is what decides its numbers, by name: a checkpoint is only taken up by a run that
    /// has the same.
    ///
    /// # Errors
    /// [`TrainError::ShortText`] when a part of a text is shorter than a window, [`TrainError::LongExample`] for an example that is
    /// longer; [`TrainError::Unsupported`] for sequences longer than the model's context, [`TrainError::Vocabulary`] for ids
    /// outside its vocabulary.
    pub fn new(
        model: Transformer,
        parameters: Parameters,
        lessons: impl Into<Lessons>,
        options: TrainerOptions,
        identity: Vec<(String, String)>,
    ) -> Result<Self, TrainError> {
        let lessons = lessons.into();
        let context = model.config().context;
        if options.positions == 0 || options.positions > context {
            return Err(TrainError::Unsupported {
                what: "the length of sequences",
                expected: "1 to the model's context",
                got: options.positions.to_string(),
            });
        }
        lessons.check(options.positions, model.config().vocab)?;
        let optimizer = AdamW::new(&parameters, options.optimizer);
        let begin = Position { epoch: 0, window: 0 };
        let windows = Windows::new(options.seed, lessons.clone(), options.positions, begin);
        let quantization = model.quantization();
        let (step, mean_loss, lowest_loss) = (0, 0.0, f64::MAX);
        Ok(Self {
            model,
            parameters,
            optimizer,
            options,
            quantization,
            lessons,
            teacher: None,
            windows,
            step,
            mean_loss,
            lowest_loss,
            lowest_validation: None,
            identity,
        })
    }

    /// Goes on from what a checkpoint holds; `directory` is named when it is of another run.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] with the first thing that differs.
    pub fn resume(&mut self, saved: Saved, directory: &Path) -> Result<(), TrainError> {
        self.same_run(&saved.state.identity, directory)?;
        self.take_up(saved)
    }

    /// Refuses what another run has written into `directory`, by the first value that differs.
    pub(crate) fn same_run(&self, theirs: &[(String, String)], directory: &Path) -> Result<(), TrainError> {
        let other = |key: &str, saved: &str, now: &str| TrainError::OtherRun {
            path: directory.into(),
            key: key.to_owned(),
            saved: saved.to_owned(),
            now: now.to_owned(),
        };
        for (key, now) in &self.identity {
            let before = theirs.iter().find(|(k, _)| k == key).map_or("nothing", |(_, v)| v);
            if before != now {
                return Err(other(key, before, now));
            }
        }
        if let Some((key, before)) = theirs.iter().find(|(k, _)| !self.identity.iter().any(|(i, _)| i == k)) {
            return Err(other(key, before, "nothing"));
        }
        Ok(())
    }

    fn take_up(&mut self, saved: Saved) -> Result<(), TrainError> {
        let Saved { parameters, optimizer, state } = saved;
        let (lessons, positions) = (self.lessons.clone(), self.options.positions);
        self.windows = Windows::new(self.options.seed, lessons, positions, state.position());
        (self.parameters, self.optimizer, self.step) = (parameters, optimizer, state.step);
        self.mean_loss = f64::from_bits(state.mean_loss);
        self.lowest_loss = f64::from_bits(state.lowest_loss);
        self.lowest_validation = state.lowest_validation;
        Ok(())
    }

    /// Writes a checkpoint; see [`checkpoint::save`].
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, directory: &Path, keep: usize) -> Result<std::path::PathBuf, TrainError> {
        let at = self.windows.position();
        let state = State {
            step: self.step,
            optimizer_step: self.optimizer.step_count(),
            epoch: at.epoch,
            window: at.window,
            mean_loss: self.mean_loss.to_bits(),
            lowest_loss: self.lowest_loss.to_bits(),
            lowest_validation: self.lowest_validation,
            identity: self.identity.clone(),
        };
        checkpoint::save(directory, &self.parameters, &self.optimizer, &state, keep)
    }

    /// One step.
    ///
    /// # Errors
    /// [`TrainError::NotANumber`] and [`TrainError::Diverged`]; the masters are then those of the step before.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        self.round_for(self.step);
        let rates = self.options.schedule.at(self.step);
        let batches: Vec<Minibatch> = (0..self.options.accumulate).map(|_| self.batch()).collect();
        let targets: usize = batches.iter().map(Minibatch::counted).sum();
        let (mut loss, mut relations, mut sums) = (0.0, None, Vec::new());
        for batch in &batches {
            let (part, distance, grads) = self.pass(batch);
            let counted = batch.counted() as f64;
            loss += part * counted / targets as f64;
            relations = distance.map(|d| relations.unwrap_or(0.0) + d * counted / targets as f64);
            // A pass gives the mean over its own targets.
            let weight = if self.options.sum { counted } else { counted / targets as f64 } as f32;
            let grads = grads.into_iter().map(|g| if weight == 1.0 { g } else { g * weight });
            sums = match sums.is_empty() {
                true => grads.collect(),
                false => sums.into_iter().zip(grads).map(|(s, g): (Tensor<2>, _)| s + g).collect(),
            };
        }
        let step = self.step + 1;
        if !loss.is_finite() {
            return Err(TrainError::NotANumber { step, loss, length: f64::NAN });
        }
        self.guard(step, loss)?;
        let length = self.optimizer.step(&mut self.parameters, sums, rates);
        if !length.is_finite() {
            return Err(TrainError::NotANumber { step, loss, length });
        }
        self.step = step;
        let tokens = batches.iter().flat_map(Minibatch::lengths).sum();
        Ok(StepReport { step, loss, relations, length, rates, tokens })
    }

    /// The minibatch that comes next.
    fn batch(&mut self) -> Minibatch {
        let places: Vec<usize> = (0..self.options.batch).map(|_| self.windows.next()).collect();
        self.lessons.batch(&places, self.options.positions)
    }

    /// The loss of one batch, the relations in it, and the gradients.
    fn pass(&mut self, batch: &Minibatch) -> (f64, Option<f64>, Vec<Tensor<2>>) {
        let leaves = self.parameters.leaves();
        let Taught { loss, relations } = match &self.teacher {
            Some(teacher) => teacher.loss(&self.model, &self.parameters, &leaves, batch),
            None => Taught { loss: self.model.loss(&self.parameters, &leaves, batch), relations: None },
        };
        let mut grads = loss.backward();
        let trained = self.parameters.list().iter().zip(&leaves).filter(|(p, _)| !p.frozen);
        let grads = trained.map(|(_, leaf)| match leaf.grad_remove(&mut grads) {
            Some(grad) => grad,
            // Every parameter takes part in every pass.
            None => leaf.clone().inner().zeros_like(),
        });
        let grads = grads.collect();
        let number = |loss: Tensor<1>| f64::from(loss.inner().into_scalar::<f32>());
        (number(loss), relations.map(number), grads)
    }

    /// Keeps the running mean of the loss and stops a run that has lost its way.
    fn guard(&mut self, step: u64, loss: f64) -> Result<(), TrainError> {
        let before = if self.mean_loss == 0.0 { loss } else { self.mean_loss };
        let mean = MEMORY * before + (1.0 - MEMORY) * loss;
        if self.options.divergence > 0.0 && mean > self.lowest_loss + self.options.divergence {
            return Err(TrainError::Diverged { step, loss: mean, lowest: self.lowest_loss });
        }
        self.mean_loss = mean;
        self.lowest_loss = self.lowest_loss.min(mean);
        Ok(())
    }

    /// Sets how much is rounded at step `step`.
    fn round_for(&mut self, step: u64) {
        let share = match self.options.lambda_steps {
            0 => 1.0,
            steps => ((step + 1) as f32 / steps as f32).min(1.0),
        };
        self.model.set_quantization(FakeQuantization {
            lambda: share * self.quantization.lambda,
            ..self.quantization
        });
    }

    /// The mean loss over at most `windows` windows (or examples) that lie evenly over what is kept for validation, in nats per
    /// target.
    pub fn evaluate(&self, windows: usize) -> f64 {
        let leaves = self.constants();
        let (mut total, mut count) = (0.0, 0.0);
        for batch in self.lessons.validation(windows, self.options.batch, self.options.positions) {
            let loss = self.model.loss(&self.parameters, &leaves, &batch);
            let counted = batch.counted() as f64;
            total += f64::from(loss.inner().into_scalar::<f32>()) * counted;
            count += counted;
        }
        total / count
    }

    /// Takes a validation loss into the account of the lowest; whether it is that. Losses count from where the rounding is
    /// that of the model to come.
    pub(crate) fn judge(&mut self, loss: f64) -> bool {
        if self.step < self.options.lambda_steps {
            return false;
        }
        match &mut self.lowest_validation {
            Some(lowest) if loss >= lowest.loss() => {
                lowest.since += 1;
                return false;
            }
            lowest => *lowest = Some(Lowest { step: self.step, bits: loss.to_bits(), since: 0 }),
        }
        true
    }

    /// The lowest validation loss so far.
    pub fn lowest_validation(&self) -> Option<Lowest> {
        self.lowest_validation
    }

    /// Whether so many validations have not been lower; 0 are never too many.
    pub(crate) fn exhausted(&self, patience: u64) -> bool {
        patience > 0 && self.lowest_validation.is_some_and(|lowest| lowest.since >= patience)
    }

    /// The masters as tensors of a graph that ask for no gradients.
    pub(crate) fn constants(&self) -> Vec<Tensor<2>> {
        self.parameters.list().iter().map(|p| Tensor::from_inner(p.values.clone())).collect()
    }

    /// Steps that the trainer has done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The model, without its parameters.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The f32 masters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The texts or examples that it learns from.
    pub fn lessons(&self) -> &Lessons {
        &self.lessons
    }

    /// The same run, which listens to a teacher.
    #[must_use]
    pub fn with_teacher(self, teacher: Teacher) -> Self {
        Self { teacher: Some(Arc::new(teacher)), ..self }
    }

    /// The same run with other parameters, which nobody trains.
    #[must_use]
    pub(crate) fn with_parameters(self, parameters: Parameters) -> Self {
        let optimizer = AdamW::new(&parameters, self.options.optimizer);
        Self { parameters, optimizer, ..self }
    }

    /// What the trainer was told about its steps.
    pub fn options(&self) -> &TrainerOptions {
        &self.options
    }

    /// The device that the masters are on.
    pub fn device(&self) -> Device {
        self.parameters.list()[0].values.device()
    }
}
