//! Attention relations, from the job to the step.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc};

use bitnet_model::Config;
use bitnet_training::{
    AdamWOptions, Corpus, DistillOptions, Examples, FakeQuantization, Lessons, Parameters, RelationOptions,
    Schedule, Stages, StepReport, TEMPLATE, Teacher, Trainer, TrainerOptions, TrainingJob, Transformer,
    checkpoint, on_threads,
};
use burn_tensor::Device;
use common::{kernel, small, values};

fn config(hidden: usize, head_dim: usize, layers: usize) -> Config {
    Config { hidden, head_dim, layers, qk_norms: true, ..small() }
}

fn student() -> Config {
    config(32, 8, 2)
}

fn model(config: &Config, seed: u64) -> (Transformer, Parameters) {
    let model = Transformer::new(config.clone(), FakeQuantization::W158A8, kernel()).unwrap();
    (model, Parameters::random(config, seed, 0.3, &Device::flex()))
}

fn relations(layer: i64, teacher_layer: i64) -> RelationOptions {
    RelationOptions { weight: 3.0, heads: 4, layer, teacher_layer }
}

/// A wider and deeper one.
fn teacher(relations: Option<RelationOptions>) -> Teacher {
    taught_by(config(48, 12, 3), 9, relations)
}

fn taught_by(config: Config, seed: u64, relations: Option<RelationOptions>) -> Teacher {
    let (model, parameters) = model(&config, seed);
    let options = DistillOptions { temperature: 1.0, weight: 0.0 };
    let teacher = Teacher::new(model, parameters, options, &student(), 12).unwrap();
    match relations {
        Some(relations) => teacher.with_relations(relations, &student()).unwrap(),
        None => teacher,
    }
}

fn trainer(teacher: Teacher, recomputing: bool) -> Trainer {
    let options = TrainerOptions {
        schedule: Schedule { steps: 40, warmup: 0, peak: 1e-2, weight_decay: 0.1, stages: Stages::Constant },
        optimizer: AdamWOptions::default(),
        batch: 3,
        accumulate: 2,
        positions: 12,
        seed: 3,
        lambda_steps: 0,
        divergence: 0.0,
        sum: false,
    };
    let ids = |from: u32, count: u32| (from..from + count).map(|i| (i * i / 3 + i) % 23).collect();
    let corpus = Arc::new(Corpus { train: ids(0, 400), validation: ids(400, 80) });
    let (model, parameters) = model(&student(), 1);
    let model = model.recomputing(recomputing);
    let identity = vec![("seed".to_owned(), "3".to_owned())];
    Trainer::new(model, parameters, corpus, options, identity).unwrap().with_teacher(teacher)
}

fn steps(trainer: &mut Trainer, count: usize) -> Vec<StepReport> {
    on_threads(2, || (0..count).map(|_| trainer.step().unwrap()).collect()).unwrap()
}

/// All masters as bits.
fn bits(trainer: &Trainer) -> Vec<u32> {
    let list = trainer.parameters().list().iter();
    list.flat_map(|p| values(p.values.clone())).map(f32::to_bits).collect()
}

#[test]
fn they_are_learned_beside_the_text_from_a_model_of_another_width() {
    for (layer, teacher_layer) in [(-1, -2), (0, 0)] {
        let mut with = trainer(teacher(Some(relations(layer, teacher_layer))), false);
        let reports = steps(&mut with, 30);
        let mut without = trainer(teacher(None), false);
        let first = steps(&mut without, 1)[0];
        assert_eq!(first.relations, None);
        let mean = |reports: &[StepReport]| {
            reports.iter().map(|r| r.relations.unwrap()).sum::<f64>() / reports.len() as f64
        };
        let [begin, end] = [mean(&reports[..3]), mean(&reports[27..])];
        assert!(begin > 0.02 && end < 0.8 * begin, "{begin} to {end}");
        // The loss is that of the text, and three times the distance.
        let apart = reports[0].loss - first.loss - 3.0 * reports[0].relations.unwrap();
        assert!(apart.abs() < 1e-5, "{apart}");
    }
}

#[test]
fn whoever_is_his_own_teacher_has_nothing_to_learn() {
    for layer in [0, 1] {
        let (quiet, own) =
            (taught_by(student(), 1, None), taught_by(student(), 1, Some(relations(layer, layer))));
        let (mut quiet, mut own) = (trainer(quiet, false), trainer(own, false));
        assert_eq!(steps(&mut own, 1)[0].relations, Some(0.0));
        steps(&mut quiet, 1);
        // Not one bit of the gradients is other.
        assert_eq!(bits(&own), bits(&quiet));
    }
}

#[test]
fn blocks_that_are_computed_again_and_runs_that_go_on_have_the_same_bits() {
    let listening = || teacher(Some(relations(0, -1)));
    let mut whole = trainer(listening(), false);
    let reports = steps(&mut whole, 6);
    let mut again = trainer(listening(), true);
    assert_eq!(steps(&mut again, 6), reports);
    assert_eq!(bits(&again), bits(&whole));
    let directory = tempfile::tempdir().unwrap();
    let mut killed = trainer(listening(), false);
    steps(&mut killed, 4);
    killed.save(directory.path(), 2).unwrap();
    let mut resumed = trainer(listening(), false);
    let optimizer = AdamWOptions::default();
    let (saved, _) = checkpoint::load_last(directory.path(), resumed.parameters(), optimizer).unwrap();
    resumed.resume(saved.unwrap(), directory.path()).unwrap();
    assert_eq!(steps(&mut resumed, 2), reports[4..]);
    assert_eq!(bits(&resumed), bits(&whole));
}

/// What fills up the rows of shorter examples relates to nothing.
#[test]
fn rows_filled_up_do_not_count() {
    let example = |length: u32| bitnet_training::examples::Example {
        ids: (0..length).map(|i| (i * 7 + length) % 23).collect(),
        answers: std::iter::once(2..length as usize).collect(),
        line: bitnet_training::examples::Line { path: Arc::from(Path::new("a.jsonl")), number: 1 },
    };
    let distance = |lengths: &[u32], batch: usize, accumulate: usize| {
        let all: Vec<_> = lengths.iter().map(|&length| example(length)).collect();
        let lessons = Arc::new(Examples { train: all.clone(), validation: all });
        let options = TrainerOptions { batch, accumulate, ..trainer(teacher(None), false).options().clone() };
        let (model, parameters) = model(&student(), 1);
        let trainer = Trainer::new(model, parameters, Lessons::from(lessons), options, Vec::new()).unwrap();
        let mut trainer = trainer.with_teacher(teacher(Some(relations(-1, -1))));
        steps(&mut trainer, 1)[0].relations.unwrap()
    };
    let (short, long) = (distance(&[5], 1, 1), distance(&[11], 1, 1));
    let together = distance(&[5, 11], 2, 1);
    // Relations count each row: of 5 ids, 4 are read, of 11, 10.
    let wanted = (4.0 * short + 10.0 * long) / 14.0;
    assert!((together - wanted).abs() < 1e-6 * wanted, "{together}, not {wanted}");
    assert!((short - long).abs() > 1e-3 * long);
}

#[test]
fn what_cannot_be_is_refused_by_its_key() {
    let read = |settings: &[&str]| {
        let settings: Vec<String> =
            ["data.files=[\"a.txt\"]"].iter().chain(settings).map(|&s| s.to_owned()).collect();
        TrainingJob::read(TEMPLATE, &settings).map(|_| ()).map_err(|e| e.to_string())
    };
    let taught = "distillation.teacher=b";
    let refused = |settings: &[&str], parts: &[&str]| {
        let error = read(settings).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    read(&[taught, "relations.weight=1.0"]).unwrap();
    // Relations that nobody asks for are not looked at.
    read(&["relations.heads=7"]).unwrap();
    refused(&["relations.weight=1.0"], &["relations.weight", "distillation.teacher names no model"]);
    refused(&[taught, "relations.weight=-1.0"], &["relations.weight is -1"]);
    refused(&[taught, "relations.weight=nan"], &["relations.weight is NaN"]);
    let on = "relations.weight=1.0";
    refused(&[taught, on, "relations.heads=0"], &["relations.heads is 0"]);
    refused(
        &[taught, on, "relations.heads=12"],
        &["relations.heads is 12", "queries of the student have 256"],
    );
    refused(
        &[taught, on, "relations.heads=256"],
        &["relations.heads is 256", "keys and values of the student"],
    );
    refused(&[taught, on, "relations.layer=9"], &["relations.layer is 9", "the student has", "blocks"]);
    refused(&[taught, on, "relations.layer=-99"], &["relations.layer is -99"]);
    // What only the teacher's own sizes tell.
    let told = |config: Config, relations| {
        let (model, parameters) = model(&config, 1);
        let options = DistillOptions { temperature: 1.0, weight: 0.5 };
        let teacher = Teacher::new(model, parameters, options, &student(), 12).unwrap();
        teacher.with_relations(relations, &student()).unwrap_err().to_string()
    };
    let error = told(config(40, 10, 2), RelationOptions { heads: 16, ..relations(0, 0) });
    assert!(error.contains("relations.heads is 16") && error.contains("teacher have 40"), "{error}");
    let error = told(config(48, 12, 3), relations(0, 3));
    assert!(error.contains("relations.teacher_layer is 3, and the teacher has 3 blocks"), "{error}");
}
