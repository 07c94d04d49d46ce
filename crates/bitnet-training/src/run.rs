//! A run in its directory: steps, validation, checkpoints, metrics.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

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
    /// Steps from one validation to the next.
    pub evaluate_every: u64,
    /// Windows that a validation reads.
    pub evaluate_windows: usize,
    /// Steps from one checkpoint to the next.
    pub save_every: u64,
    /// The number of checkpoints that are kept.
    pub keep: usize,
    /// Validations without a lower loss behind which a run ends, with the masters of its lowest; 0 goes through all steps and
    /// ends with the last.
    pub patience: u64,
    /// Whether an event file for TensorBoard is written beside the metrics.
    pub tensorboard: bool,
}

/// Something that a run did and that a watcher may tell.
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
    /// A checkpoint was written, at this path.
    Saved(PathBuf),
    /// With patience: the lowest validation loss, whose masters the run ends with. `early` is how many steps were left.
    Best {
        /// Steps that were done when it was measured.
        step: u64,
        /// The validation loss, in nats per token.
        loss: f64,
        /// Steps that were not done any more.
        early: u64,
    },
}

/// Why a run came to its end.
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
    sweep(&options.directory, 1)?;
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
    let mut last = None;
    if let Some(saved) = saved {
        trainer.resume(saved, &options.directory)?;
        last = Some(trainer.steps_done());
        // A kill between a checkpoint and the removal of the oldest leaves one too many.
        checkpoint::prune(&checkpoints, options.keep)?;
        watch(Event::Resumed(trainer.steps_done()));
    }
    let best = checkpoints.join("best");
    remove_others(&best, trainer.lowest_validation().map(|lowest| lowest.step))?;
    let mut metrics = Metrics::open(&options.directory, trainer.steps_done(), options.tensorboard)?;
    // Flips are counted from here.
    let mut trits = TritWatch::default();
    trits.look(trainer.parameters(), trainer.model().quantization())?;
    let steps = trainer.options().schedule.steps;
    let mut evaluated = None;
    while trainer.steps_done() < steps && !trainer.exhausted(options.patience) {
        let begin = Instant::now();
        let report = trainer.step().map_err(|error| halted(error, last, &checkpoints))?;
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
            if trainer.judge(loss) && options.patience > 0 {
                trainer.save(&best, 1)?;
            }
        }
        if at(options.save_every) || !go_on || trainer.exhausted(options.patience) {
            watch(Event::Saved(trainer.save(&checkpoints, options.keep)?));
            last = Some(report.step);
        }
        if !go_on {
            return Ok(Ending::Stopped);
        }
    }
    if options.patience > 0
        && let Some(loss) = back_to_best(trainer, options, &best, &mut watch)?
    {
        return Ok(Ending::Done(loss));
    }
    // A run that was complete already has nothing to say but its loss.
    Ok(Ending::Done(evaluated.unwrap_or_else(|| trainer.evaluate(options.evaluate_windows))))
}

/// Takes the masters of the lowest validation loss; `None` when they cannot be had, which `watch` has then been told.
fn back_to_best(
    trainer: &mut Trainer,
    options: &RunOptions,
    best: &Path,
    watch: &mut impl FnMut(Event<'_>) -> bool,
) -> Result<Option<f64>, TrainError> {
    let Some(lowest) = trainer.lowest_validation() else { return Ok(None) };
    let early = trainer.options().schedule.steps - trainer.steps_done();
    let (step, loss) = (lowest.step, lowest.loss());
    if step != trainer.steps_done() {
        let optimizer = trainer.options().optimizer;
        let (saved, skipped) = checkpoint::load_last(best, trainer.parameters(), optimizer)?;
        for skipped in &skipped {
            watch(Event::Skipped(skipped));
        }
        let Some(saved) = saved else { return Ok(None) };
        trainer.resume(saved, &options.directory)?;
    }
    watch(Event::Best { step, loss, early });
    Ok(Some(loss))
}

/// Removes what a killed run has written behind the step that this one goes on from.
fn remove_others(directory: &Path, step: Option<u64>) -> Result<(), TrainError> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with("step-"));
        if ours && step.is_none_or(|step| name != checkpoint::name(step).as_str()) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|error| TrainError::Io { path, error })?;
        }
    }
    Ok(())
}

/// Removes files that a killed run, or its export, has written half, here and so many folders below.
fn sweep(directory: &Path, below: usize) -> Result<(), TrainError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| TrainError::Io { path, error }
    };
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let entry = entry.map_err(io(directory))?;
        let (path, name) = (entry.path(), entry.file_name());
        let half = name.to_str().is_some_and(|name| {
            name.starts_with('.') && (name.ends_with(".partial") || name.ends_with(".part"))
        });
        let folder = entry.file_type().map_err(io(&path))?.is_dir();
        if folder && below > 0 {
            sweep(&path, below - 1)?;
        } else if half && !folder {
            std::fs::remove_file(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

/// A run that cannot go on, and the checkpoint that is still good.
fn halted(error: TrainError, last: Option<u64>, checkpoints: &Path) -> TrainError {
    match error {
        TrainError::NotANumber { .. } | TrainError::Diverged { .. } => TrainError::Halted {
            error: Box::new(error),
            checkpoint: last.map(|step| checkpoints.join(checkpoint::name(step))),
        },
        other => other,
    }
}
