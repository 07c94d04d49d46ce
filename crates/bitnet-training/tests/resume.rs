//! Runs that stop, are killed or find their files damaged.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc};

use bitnet_model::Config;
use bitnet_training::{
    AdamWOptions, Corpus, FakeQuantization, Parameters, Schedule, Stages, TrainError, Trainer,
    TrainerOptions, Transformer, checkpoint,
};
use burn_tensor::Device;
use common::{kernel, small, values};

fn options() -> TrainerOptions {
    TrainerOptions {
        schedule: Schedule {
            steps: 12,
            warmup: 2,
            peak: 1e-2,
            weight_decay: 0.1,
            stages: Stages::Cosine { floor: 0.1 },
        },
        optimizer: AdamWOptions::default(),
        batch: 3,
        accumulate: 2,
        positions: 12,
        seed: 3,
        lambda_steps: 4,
        divergence: 0.0,
        sum: false,
    }
}

fn corpus() -> Arc<Corpus> {
    let ids = |from: u32, count: u32| (from..from + count).map(|i| (i * i / 3 + i) % 23).collect();
    Arc::new(Corpus { train: ids(0, 400), validation: ids(400, 80) })
}

fn trainer_with(options: TrainerOptions) -> Trainer {
    let model = Transformer::new(small(), FakeQuantization::W158A8, kernel()).unwrap();
    let parameters = Parameters::random(&small(), 1, 0.05, &Device::flex());
    let identity = vec![("seed".to_owned(), "3".to_owned())];
    Trainer::new(model, parameters, corpus(), options, identity).unwrap()
}

fn trainer() -> Trainer {
    trainer_with(options())
}

/// All masters as bits.
fn bits(trainer: &Trainer) -> Vec<u32> {
    let list = trainer.parameters().list().iter();
    list.flat_map(|p| values(p.values.clone())).map(f32::to_bits).collect()
}

fn resumed(directory: &Path) -> (Trainer, Vec<checkpoint::Skipped>) {
    let mut trainer = trainer();
    let (saved, skipped) =
        checkpoint::load_last(directory, trainer.parameters(), options().optimizer).unwrap();
    if let Some(saved) = saved {
        trainer.resume(saved, directory).unwrap();
    }
    (trainer, skipped)
}

#[test]
fn a_run_that_stopped_ends_with_the_bits_of_one_that_did_not() {
    let mut straight = trainer();
    let losses: Vec<f64> = (0..12).map(|_| straight.step().unwrap().loss).collect();
    assert!(losses[11] < losses[0] - 0.1, "{losses:?}");
    let mut again = trainer();
    for _ in 0..12 {
        again.step().unwrap();
    }
    assert_eq!(bits(&straight), bits(&again), "one seed, one result");
    let directory = tempfile::tempdir().unwrap();
    for stop in [1, 5, 9] {
        let mut first = resumed(directory.path()).0;
        while first.steps_done() < stop {
            first.step().unwrap();
        }
        first.save(directory.path(), 2).unwrap();
    }
    let (mut last, skipped) = resumed(directory.path());
    assert_eq!((last.steps_done(), skipped.len()), (9, 0));
    for _ in 0..3 {
        last.step().unwrap();
    }
    assert_eq!(bits(&last), bits(&straight));
    assert_eq!(last.evaluate(4), straight.evaluate(4));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "the last two are kept");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = trainer();
    let mut paths = Vec::new();
    for _ in 0..3 {
        first.step().unwrap();
        paths.push(first.save(directory.path(), 5).unwrap());
    }
    let whole = std::fs::read(&paths[2]).unwrap();
    let damage = |bytes: &[u8]| {
        std::fs::write(&paths[2], bytes).unwrap();
        let (trainer, skipped) = resumed(directory.path());
        assert_eq!((trainer.steps_done(), skipped.len()), (2, 1));
        assert_eq!(skipped[0].path, paths[2]);
        let sentence = skipped[0].reason.to_string();
        assert!(sentence.contains("damaged") && sentence.contains("step-0000000003"), "{sentence}");
    };
    for cut in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        damage(&whole[..cut]);
    }
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        // Padding of the header and the spelling of its numbers aside, every bit counts.
        if at > 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize {
            damage(&flipped);
        }
    }
    std::fs::write(&paths[2], &whole).unwrap();
    std::fs::write(directory.path().join(".step-0000000004.safetensors.1-0.partial"), "half").unwrap();
    let (trainer, skipped) = resumed(directory.path());
    assert_eq!((trainer.steps_done(), skipped.len()), (3, 0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "what a killed run left is gone");
}

#[test]
fn another_run_does_not_take_a_checkpoint_up() {
    let directory = tempfile::tempdir().unwrap();
    trainer().save(directory.path(), 1).unwrap();
    let model = Transformer::new(small(), FakeQuantization::W158A8, kernel()).unwrap();
    let parameters = Parameters::random(&small(), 1, 0.05, &Device::flex());
    let identity = vec![("seed".to_owned(), "4".to_owned())];
    let mut other = Trainer::new(model, parameters, corpus(), options(), identity).unwrap();
    let (saved, _) =
        checkpoint::load_last(directory.path(), other.parameters(), options().optimizer).unwrap();
    let refused = other.resume(saved.unwrap(), directory.path()).unwrap_err().to_string();
    assert!(refused.contains("seed = 3, now it is 4"), "{refused}");
    let larger = Config { layers: 3, ..small() };
    let larger = Parameters::random(&larger, 1, 0.05, &Device::flex());
    let (none, skipped) = checkpoint::load_last(directory.path(), &larger, options().optimizer).unwrap();
    assert!(none.is_none() && skipped[0].reason.to_string().contains("layers.2"), "{skipped:?}");
}

#[test]
fn a_run_that_loses_its_way_is_stopped() {
    let schedule = Schedule { peak: 30.0, warmup: 0, ..options().schedule };
    let mut wild = trainer_with(TrainerOptions { schedule, divergence: 0.05, lambda_steps: 0, ..options() });
    let error = (0..200).find_map(|_| wild.step().err()).unwrap();
    assert!(matches!(error, TrainError::Diverged { .. } | TrainError::NotANumber { .. }), "{error}");
    let before = bits(&wild);
    assert!(before.iter().all(|b| f32::from_bits(*b).is_finite()));
}
