//! A job from its file to its exported models.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bitnet_benchmarks::Process;
use bitnet_format::FormatErrorKind;
use bitnet_training::{
    Ending, FINETUNE_TEMPLATE, Fold, TEMPLATE, TrainError, Trainer, TrainingJob, TrainingMemory,
    export::{Exported, TokenizerFiles},
    finish, on_threads, run as run_job, start,
};
use serde::Serialize;

use super::watch::RunWatch;
use crate::{
    args::TrainArgs,
    failure::{Failure, Result, sentence},
    files::{self, Draft},
    human::{self, Pairs},
    interrupt::Guard,
    load, resolve, terminal,
};

#[derive(Serialize)]
struct Told {
    steps: u64,
    validation: f64,
    /// Bytes of a step, by what they are for.
    memory: TrainingMemory,
    /// The most that the process had in main memory while it trained.
    peak_memory: Option<u64>,
    exported: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    format: String,
    path: PathBuf,
    largest_difference: Option<f64>,
    rms_difference: Option<f64>,
    same_top: Option<String>,
}

/// What tells the two commands apart.
pub struct TrainCommand {
    name: &'static str,
    template: &'static str,
    /// The section of the job that names the files.
    files: &'static str,
}

/// More than any job; what is no job ends here.
const MOST_JOB: u64 = 1 << 20;

pub const TRAIN: TrainCommand = TrainCommand { name: "train", template: TEMPLATE, files: "data" };
pub const FINETUNE: TrainCommand =
    TrainCommand { name: "finetune", template: FINETUNE_TEMPLATE, files: "examples" };

pub fn run(args: &TrainArgs, command: &TrainCommand) -> Result<()> {
    if args.init {
        return init(&args.job, command);
    }
    let text = files::read_within(&args.job, MOST_JOB).map_err(|failure| match args.job.exists() {
        true => failure,
        false => failure.cure(format_args!("bitnet {} --init {}", command.name, args.job.display())),
    })?;
    let mut settings = args.settings.clone();
    settings.extend(args.threads.map(|n| format!("run.threads={n}")));
    let job = TrainingJob::read(&text, &settings).map_err(|e| in_job(&args.job, e))?;
    if (command.files == "data") != job.data.is_some() {
        let (job, files, name) = (args.job.display(), command.files, command.name);
        return Err(Failure::usage(format_args!(
            "{job} has no section [{files}], which `bitnet {name}` learns from"
        )));
    }
    let job = named(job, args.job.parent().unwrap_or(Path::new("")))?;
    let kernel = bitnet_kernels::select(None).map_err(|e| load::failure(e.into()))?;
    on_threads(job.run.threads, || {
        let (mut trainer, tokenizer) = start(&job, kernel).map_err(failure)?;
        train(&job, &mut trainer, &tokenizer, args.json)
    })
    .map_err(failure)?
}

/// The job with paths as they are seen from here. Models may also be named as every command names them.
fn named(mut job: TrainingJob, folder: &Path) -> Result<TrainingJob> {
    let teacher = job.distillation.as_mut().map(|d| &mut d.teacher);
    for model in teacher.into_iter().chain([&mut job.start.model]) {
        let by_name = model.to_str().filter(|name| !name.is_empty() && !folder.join(name).exists());
        if let Some(name) = by_name {
            let path = resolve::model(&name.into())?;
            *model = std::path::absolute(&path).map_err(|e| Failure::io("find", &path, &e))?;
        }
    }
    Ok(job.relative_to(folder))
}

fn init(path: &Path, command: &TrainCommand) -> Result<()> {
    let mut draft = Draft::of_output(path, false)?;
    draft.write(command.template.as_bytes())?;
    draft.publish()?;
    terminal::note(format_args!("{} is written: name your files in {}.files", path.display(), command.files));
    Ok(())
}

fn train(job: &TrainingJob, trainer: &mut Trainer, tokenizer: &TokenizerFiles, json: bool) -> Result<()> {
    let config = trainer.model().config();
    terminal::note(format_args!(
        "{} parameters, {} tokens to learn from, {} entries in the vocabulary",
        human::count(trainer.parameters().count() as u64),
        human::count(trainer.lessons().tokens() as u64),
        config.vocab
    ));
    let memory = trainer.memory();
    let of = |bytes: usize| human::bytes(bytes as u64);
    terminal::note(format_args!(
        "memory of a step: masters {}, gradients {}, optimizer {}, activations and rounded weights {}: {} and the text",
        of(memory.masters),
        of(memory.gradients),
        of(memory.optimizer),
        of(memory.activations),
        of(memory.total())
    ));
    let guard = Guard::new();
    let steps = trainer.options().schedule.steps;
    let mut watch = RunWatch::new(job.run.directory.clone(), job.run.report_every, steps);
    let ending = run_job(trainer, &job.run_options(), |event| {
        watch.tell(&event);
        !guard.pressed()
    });
    drop(guard);
    let drawn = watch.finish();
    // Before the export, which has a model of its own in memory.
    let peak = Process::now().peak;
    let (ending, directory) = (ending.map_err(failure)?, &job.run.directory);
    drawn?;
    // The record of what made the model; not before the run was found to be this job's.
    let record = directory.join("job.toml");
    let text = job.to_text().map_err(failure)?;
    fs::write(&record, text).map_err(|e| Failure::io("write", &record, &e))?;
    match ending {
        Ending::Stopped => Err(Failure::Interrupted),
        Ending::Done(validation) => {
            let (written, fold) = finish(job, trainer, tokenizer, directory).map_err(failure)?;
            if let Some(fold) = fold {
                tell_fold(&fold);
            }
            tell(trainer.steps_done(), validation, (memory, peak), &written, json)
        }
    }
}

fn tell_fold(fold: &Fold) {
    let Fold { beside, folded, bound } = fold;
    let what = match fold.holds() {
        true => "the side paths are folded into the weights",
        false => "the side paths are NOT folded into the weights, the adapter is what there is",
    };
    terminal::note(format_args!(
        "{what}: validation {beside:.4} beside them, {folded:.4} folded and rounded again, at most {bound} more allowed"
    ));
}

fn tell(
    steps: u64,
    validation: f64,
    (memory, peak): (TrainingMemory, Option<u64>),
    exported: &[Exported],
    json: bool,
) -> Result<()> {
    let top = |e: &Exported| e.agreement.map(|a| format!("{} of {}", a.same_top, a.positions));
    if json {
        let written = |e: &Exported| Written {
            format: e.format.clone(),
            path: e.path.clone(),
            largest_difference: e.agreement.map(|a| a.largest),
            rms_difference: e.agreement.map(|a| a.rms),
            same_top: top(e),
        };
        return terminal::print_json(&Told {
            steps,
            validation,
            memory,
            peak_memory: peak,
            exported: exported.iter().map(written).collect(),
        });
    }
    let mut pairs = Pairs::new();
    pairs.row("steps", human::count(steps));
    pairs.row("validation", format_args!("{validation:.4} nats per token"));
    if let Some(peak) = peak {
        let step = human::bytes(memory.total() as u64);
        pairs.row("memory", format_args!("{} at the peak, {step} of them for steps", human::bytes(peak)));
    }
    for e in exported {
        let proof = match e.agreement {
            Some(a) => format!(
                ", the engine's logits are training's to {:.1e} (root mean square; spread {:.1}), {} first choices equal",
                a.rms,
                a.deviation,
                top(e).unwrap_or_default()
            ),
            None => String::new(),
        };
        pairs.row(&e.format, format_args!("{}{proof}", e.path.display()));
    }
    terminal::print(&pairs.text())
}

fn failure(error: TrainError) -> Failure {
    let told = Failure::new(sentence(&error));
    let kind = match &error {
        TrainError::Io { error, .. } => Some(error.kind()),
        TrainError::Format(error) => match error.kind() {
            FormatErrorKind::Io(error) => Some(error.kind()),
            _ => None,
        },
        TrainError::Halted { .. } => {
            return told.cure("begin again with a lower optimizer.learning_rate, in another run.directory");
        }
        _ => None,
    };
    match kind {
        Some(ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded) => {
            told.cure("make room and give the same command again: the run goes on behind the last checkpoint")
        }
        _ => told,
    }
}

/// The failure for a mistake in the text of a job.
fn in_job(path: &Path, error: TrainError) -> Failure {
    Failure::usage(format_args!("{}: {}", path.display(), sentence(&error)))
}
