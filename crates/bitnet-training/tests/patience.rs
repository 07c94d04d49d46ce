//! A run that gets no better ends early, with the masters of its lowest validation loss.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use bitnet_training::{Ending, Event, History, TEMPLATE, TrainingJob, on_threads, run, start};
use common::{kernel, values};

fn job(directory: &Path, patience: u32) -> TrainingJob {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt");
    // So much for so short a text that it is soon known by heart.
    let settings: [&str; 15] = [
        &format!("data.files=[{text:?}]"),
        &format!("run.directory={:?}", directory.to_str().unwrap()),
        &format!("run.patience={patience}"),
        "data.vocabulary=258",
        "model.hidden=64",
        "model.ffn=64",
        "model.layers=1",
        "training.steps=600",
        "training.batch=8",
        "training.positions=24",
        "optimizer.learning_rate=2e-2",
        "optimizer.schedule=constant",
        "run.evaluate_every=10",
        "run.save_every=30",
        "export.formats=[]",
    ];
    TrainingJob::read(TEMPLATE, &settings.map(str::to_owned)).unwrap()
}

/// The step and loss that it ended with, steps that were left out, and the bits of its masters.
type End = (u64, f64, u64, Vec<u32>);

fn ended(job: &TrainingJob, stop: Option<u64>) -> Option<End> {
    let work = || {
        let (mut trainer, _) = start(job, kernel()).unwrap();
        let mut best = None;
        let ending = run(&mut trainer, &job.run_options(), |event| {
            if let Event::Best { step, loss, early } = event {
                best = Some((step, loss, early));
            }
            !matches!(event, Event::Step(report, _) if Some(report.step) == stop)
        });
        let Ending::Done(loss) = ending.unwrap() else { return None };
        let (step, lowest, early) = best.unwrap();
        assert_eq!(loss, lowest);
        // The trainer holds what the loss is of.
        assert_eq!((trainer.evaluate(job.run.evaluate_windows), trainer.steps_done()), (loss, step));
        let list = trainer.parameters().list().iter();
        let bits = list.flat_map(|p| values(p.values.clone())).map(f32::to_bits).collect();
        Some((step, loss, early, bits))
    };
    on_threads(1, work).unwrap()
}

#[test]
fn a_run_that_gets_no_better_ends_with_its_best() {
    let directory = tempfile::tempdir().unwrap();
    let job = job(directory.path(), 3);
    let end = ended(&job, None).unwrap();
    let (step, loss, early, _) = &end;
    assert!(*early > 0, "it went through all steps");
    let history = History::read(directory.path(), u64::MAX).unwrap();
    let (last, _) = *history.validations.last().unwrap();
    assert_eq!((last, 600 - last), (step + 30, *early), "three validations behind the lowest");
    let lowest = history.validations.iter().map(|v| v.1).fold(f64::MAX, f64::min);
    assert_eq!(lowest, *loss);
    assert_eq!(history.losses.len() as u64, last);
    // The same command again has nothing to do but to say the same.
    assert_eq!(ended(&job, None).unwrap(), end);
    // Stopped between a validation and a checkpoint, and before and behind its lowest.
    let other = tempfile::tempdir().unwrap();
    let again = self::job(other.path(), 3);
    for stop in [step - 5, step + 1, step + 15] {
        assert!(ended(&again, Some(stop)).is_none());
    }
    // A kill behind the lowest, whose masters were kept, and before the next checkpoint.
    let checkpoints = other.path().join("checkpoints");
    for entry in std::fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().path()) {
        let late = entry.to_str().unwrap().ends_with(&format!("{:010}.safetensors", step + 1))
            || entry.to_str().unwrap().ends_with(&format!("{:010}.safetensors", step + 15));
        if late {
            std::fs::remove_file(entry).unwrap();
        }
    }
    assert_eq!(ended(&again, None).unwrap(), end);
}

#[test]
fn damage_to_the_best_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let job = job(directory.path(), 3);
    let (step, ..) = ended(&job, None).unwrap();
    let best = directory.path().join(format!("checkpoints/best/step-{step:010}.safetensors"));
    std::fs::write(&best, "half").unwrap();
    let (mut trainer, _) = start(&job, kernel()).unwrap();
    let mut named = false;
    let ending = run(&mut trainer, &job.run_options(), |event| {
        named |= matches!(event, Event::Skipped(skipped) if skipped.path == best);
        true
    });
    let Ending::Done(_) = ending.unwrap() else { panic!("nobody stopped it") };
    assert!(named && trainer.steps_done() == step + 30, "the last masters are what there is");
}
