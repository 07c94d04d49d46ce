//! A run in its directory: steps, validation, checkpoints, metrics.

use std::{path::PathBuf, time::Instant};

use crate::{
    StepReport, TrainError, Trainer,
    checkpoint::{self, Skipped},
    metrics::{Metrics, TritWatch, Trits},
};

/// Where a run lives and how often it does what.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// The directory of the run. Checkpoints are in `checkpoints`, metrics in `metrics.jsonl`.
    pub directory: PathBuf,
    /// Steps between validations.
    pub evaluate_every: u64,
    /// Windows of a validation.
    pub evaluate_windows: usize,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
}

/// Something that a run did.
#[derive(Debug)]
pub enum Event<'a> {
    /// A checkpoint could not be used; the one before it is tried.
    Skipped(&'a Skipped),
    /// The run goes on behind so many steps.
    Resumed(u64),
    /// A step, and how long it took in seconds.
    Step(StepReport, f64),
    /// The validation loss behind so many steps.
    Evaluated(u64, f64, Trits),
    /// A checkpoint was written.
    Saved(PathBuf),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// All steps are done; the validation loss.
    Done(f64),
    /// It was asked to stop, and has saved what it did.
    Stopped,
}

/// Takes `trainer` up where its directory says, and through all its steps. `watch` is told every [`Event`] and returns whether
/// to go on.
///
/// # Errors
/// When the directory is another run's, the disk refuses, or the steps fail ([`Trainer::step`]).
pub fn run(
    trainer: &mut Trainer,
    options: &RunOptions,
    mut watch: impl FnMut(Event<'_>) -> bool,
) -> Result<Ending, TrainError> {
    let checkpoints = options.directory.join("checkpoints");
    let io = |error| TrainError::Io { path: checkpoints.clone(), error };
    std::fs::create_dir_all(&checkpoints).map_err(io)?;
    let optimizer = trainer.options().optimizer;
    let (saved, skipped) = checkpoint::load_last(&checkpoints, trainer.parameters(), optimizer)?;
    if saved.is_none()
        && let Some(theirs) = skipped.iter().find_map(|skipped| checkpoint::identity(&skipped.path))
    {
        // A model of other sizes is not a damaged one.
        trainer.same_run(&theirs, &options.directory)?;
    }
    for skipped in &skipped {
        watch(Event::Skipped(skipped));
    }
    if let Some(saved) = saved {
        trainer.resume(saved, &options.directory)?;
        watch(Event::Resumed(trainer.steps_done()));
    }
    let mut metrics = Metrics::open(&options.directory, trainer.steps_done())?;
    let mut trits = TritWatch::default();
    let steps = trainer.options().schedule.steps;
    let mut evaluated = None;
    while trainer.steps_done() < steps {
        let begin = Instant::now();
        let report = trainer.step()?;
        let seconds = begin.elapsed().as_secs_f64();
        metrics.step(&report, seconds)?;
        let go_on = watch(Event::Step(report, seconds));
        let at = |every: u64| every > 0 && report.step.is_multiple_of(every) || report.step == steps;
        if at(options.evaluate_every) {
            let loss = trainer.evaluate(options.evaluate_windows);
            let trits = trits.look(trainer.parameters(), trainer.model().quantization())?;
            metrics.evaluation(report.step, loss, trits)?;
            watch(Event::Evaluated(report.step, loss, trits));
            evaluated = Some(loss);
        }
        if at(options.save_every) || !go_on {
            watch(Event::Saved(trainer.save(&checkpoints, options.keep)?));
        }
        if !go_on {
            return Ok(Ending::Stopped);
        }
    }
    // A run that was complete already has nothing to say but its loss.
    Ok(Ending::Done(evaluated.unwrap_or_else(|| trainer.evaluate(options.evaluate_windows))))
}
