//! A job from its file to its exported models.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bitnet_training::{
    Ending, Event, Job, TEMPLATE, TrainError, Trainer,
    export::{Exported, TokenizerFiles, export},
    on_threads, run as run_job, start,
};
use serde::Serialize;

use crate::{
    args::TrainArgs,
    failure::{Failure, Result, sentence},
    files::Draft,
    human::{self, Pairs},
    interrupt::Guard,
    load, terminal,
};

#[derive(Serialize)]
struct Told {
    steps: u64,
    validation: f64,
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

pub fn run(args: &TrainArgs) -> Result<()> {
    if args.init {
        return init(&args.job);
    }
    let text = fs::read_to_string(&args.job).map_err(|e| {
        let cure = format!("bitnet train --init {}", args.job.display());
        Failure::io("read", &args.job, &e).cure(cure)
    })?;
    let mut settings = args.settings.clone();
    settings.extend(args.threads.map(|n| format!("run.threads={n}")));
    let job = Job::read(&text, &settings).map_err(|e| in_job(&args.job, e))?;
    let job = job.relative_to(args.job.parent().unwrap_or(Path::new("")));
    let kernel = bitnet_kernels::select(None).map_err(|e| load::failure(e.into()))?;
    on_threads(job.run.threads, || {
        let (mut trainer, tokenizer) = start(&job, kernel).map_err(failure)?;
        train(&job, &mut trainer, &tokenizer, args.json)
    })
    .map_err(failure)?
}

fn init(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(Failure::new(format_args!("{} exists already", path.display())));
    }
    let mut draft = Draft::new(path)?;
    draft.write(TEMPLATE.as_bytes())?;
    draft.publish()?;
    terminal::note(format_args!("{} is written: name your texts in data.files", path.display()));
    Ok(())
}

fn train(job: &Job, trainer: &mut Trainer, tokenizer: &TokenizerFiles, json: bool) -> Result<()> {
    let config = trainer.model().config();
    terminal::note(format_args!(
        "{} parameters, {} tokens to learn from, {} entries in the vocabulary",
        human::count(trainer.parameters().count() as u64),
        human::count(trainer.corpus().train.len() as u64),
        config.vocab
    ));
    let guard = Guard::new();
    let mut lines = Lines { every: job.run.report_every, steps: job.training.steps, since: 0.0, tokens: 0 };
    let ending = run_job(trainer, &job.run_options(), |event| {
        lines.tell(&event);
        !guard.pressed()
    });
    drop(guard);
    let (ending, directory) = (ending.map_err(failure)?, &job.run.directory);
    // The record of what made the model; not before the run was found to be this job's.
    let record = directory.join("job.toml");
    let text = job.to_text().map_err(failure)?;
    fs::write(&record, text).map_err(|e| Failure::io("write", &record, &e))?;
    match ending {
        Ending::Stopped => Err(Failure::Interrupted),
        Ending::Done(validation) => {
            let written = export(trainer, tokenizer, &job.export.formats, directory).map_err(failure)?;
            tell(job.training.steps, validation, &written, json)
        }
    }
}

/// Lines about a run, one every so many steps.
struct Lines {
    every: u64,
    steps: u64,
    /// Seconds and tokens since the last line.
    since: f64,
    tokens: usize,
}

impl Lines {
    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Skipped(skipped) => terminal::warning(format_args!("{}", sentence(&skipped.reason))),
            Event::Resumed(step) => terminal::note(format_args!("going on behind step {step}")),
            Event::Step(report, seconds) => {
                self.since += seconds;
                self.tokens += report.tokens;
                if report.step.is_multiple_of(self.every) || report.step == self.steps {
                    let speed = self.tokens as f64 / self.since;
                    let left = match (self.steps - report.step) as f64 * report.tokens as f64 / speed {
                        0.0 => String::new(),
                        left => format!("  {} left", human::seconds(left)),
                    };
                    terminal::note(format_args!(
                        "step {}/{}  loss {:.4}  rate {:.2e}  gradient {:.2}  {:.0} tokens/s{left}",
                        report.step,
                        self.steps,
                        report.loss,
                        report.rates.learning_rate,
                        report.length,
                        speed,
                    ));
                    (self.since, self.tokens) = (0.0, 0);
                }
            }
            Event::Evaluated(step, loss, trits) => terminal::note(format_args!(
                "step {step}: validation {loss:.4}, zeros {:.1} %, {} trits flipped",
                100.0 * trits.zeros,
                human::count(trits.flips)
            )),
            Event::Saved(_) => {}
        }
    }
}

fn tell(steps: u64, validation: f64, exported: &[Exported], json: bool) -> Result<()> {
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
            exported: exported.iter().map(written).collect(),
        });
    }
    let mut pairs = Pairs::new();
    pairs.row("steps", human::count(steps));
    pairs.row("validation", format_args!("{validation:.4} nats per token"));
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
    Failure::new(sentence(&error))
}

/// A mistake in the job's text.
fn in_job(path: &Path, error: TrainError) -> Failure {
    Failure::usage(format_args!("{}: {}", path.display(), sentence(&error)))
}
