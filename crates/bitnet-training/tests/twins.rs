//! Twins are reproducible, and rounding costs what it costs.

#![allow(clippy::unwrap_used)]

mod common;

use bitnet_training::{
    TEMPLATE, TrainError, TrainingJob, on_threads,
    twins::{Kin, Pair, pair},
};
use common::kernel;

fn job() -> TrainingJob {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt");
    let settings: [&str; 12] = [
        &format!("data.files=[{text:?}]"),
        "data.vocabulary=258",
        "model.hidden=32",
        "model.ffn=64",
        "model.layers=1",
        "model.context=32",
        "training.steps=60",
        "training.batch=8",
        "training.positions=24",
        "optimizer.learning_rate=1e-2",
        "optimizer.warmup=3",
        "export.formats=[]",
    ];
    TrainingJob::read(TEMPLATE, &settings.map(str::to_owned)).unwrap()
}

fn twins(seed: u64) -> (Pair, Vec<(Kin, u64, f64)>) {
    let mut steps = Vec::new();
    let work = || {
        let told = |kin, report: &bitnet_training::StepReport| {
            steps.push((kin, report.step, report.loss));
            true
        };
        pair(&job(), seed, kernel(), told)
    };
    let pair = on_threads(2, work).unwrap().unwrap().unwrap();
    (pair, steps)
}

#[test]
fn one_seed_gives_one_pair_to_the_bit() {
    let (first, steps) = twins(1);
    assert_eq!((first, steps.clone()), twins(1));
    assert_eq!(steps.len(), 120);
    let begin: Vec<f64> = steps.iter().filter(|s| s.1 == 1).map(|s| s.2).collect();
    // Fresh models of one seed know nothing, by nearly the same bits.
    assert!((begin[0] - begin[1]).abs() < 0.02 && begin[0] != begin[1], "{begin:?}");
    let (other, _) = twins(2);
    assert_ne!(first.float.fingerprint, other.float.fingerprint);
    assert_ne!(first.ternary.fingerprint, first.float.fingerprint);
    assert!(first.float.validation < 3.6 && first.ternary.validation < 3.7, "{first:?}");
    assert_eq!(first.float.trits.count, 0);
    assert!((0.2..0.5).contains(&first.ternary.trits.zeros), "{first:?}");
}

#[test]
fn twins_end_when_nobody_wants_them() {
    let ended =
        on_threads(1, || pair(&job(), 1, kernel(), |kin, report| kin == Kin::Float || report.step < 3));
    assert!(ended.unwrap().unwrap().is_none());
    let mut nothing = job();
    nothing.quantization.weights = "none".into();
    let refused = pair(&nothing, 1, kernel(), |_, _| true).unwrap_err();
    assert!(matches!(&refused, TrainError::Job(what) if what.contains("no twin")), "{refused}");
}
