//! Runs that begin with a model: what is read back is what was written, and contradictions are named.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use bitnet_inference::{ActivationChoice, InferenceEngine, LoadOptions};
use bitnet_quant::Granularity;
use bitnet_training::{
    FakeQuantization, Found, Lessons, Minibatch, TEMPLATE, TrainError, Trainer, TrainingJob, Transformer,
    export, on_threads, start,
};
use burn_tensor::{Device, Tensor};
use common::{kernel, values};

fn text() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt")
}

fn settings(directory: &Path, more: &[&str]) -> Vec<String> {
    let own = [
        format!("data.files=[{:?}]", text()),
        format!("run.directory={:?}", directory.to_str().unwrap()),
        "training.steps=6".into(),
        "training.batch=4".into(),
        "training.positions=24".into(),
        "optimizer.warmup=1".into(),
        "export.formats=[]".into(),
        "run.threads=2".into(),
    ];
    own.into_iter().chain(more.iter().map(|&s| s.to_owned())).collect()
}

/// A job without the section `[model]`, which begins with `model`.
fn from(model: &Path, directory: &Path, more: &[&str]) -> Result<TrainingJob, TrainError> {
    let (before, behind) =
        (TEMPLATE.find("\n[model]\n").unwrap(), TEMPLATE.find("\n[quantization]\n").unwrap());
    let text = [&TEMPLATE[..before], &TEMPLATE[behind..]].concat();
    let start = format!("start.model={:?}", model.to_str().unwrap());
    TrainingJob::read(&text, &settings(directory, &[&[start.as_str()], more].concat()))
}

const SIZES: [&str; 7] = [
    "data.vocabulary=300",
    "model.hidden=64",
    "model.ffn=96",
    "model.layers=2",
    "model.context=48",
    "optimizer.learning_rate=1e-2",
    "model.tied_head=false",
];

/// A few steps of a fresh model, and its files.
fn trained(directory: &Path, more: &[&str]) -> (Trainer, Vec<export::Exported>) {
    let job = TrainingJob::read(TEMPLATE, &settings(directory, &[&SIZES[..], more].concat())).unwrap();
    on_threads(2, || {
        let (mut trainer, tokenizer) = start(&job, kernel()).unwrap();
        for _ in 0..6 {
            trainer.step().unwrap();
        }
        let exported = export::export(&trainer, &tokenizer, &job.export.formats, directory).unwrap();
        (trainer, exported)
    })
    .unwrap()
}

fn evaluate(trainer: &Trainer) -> u64 {
    on_threads(2, || trainer.evaluate(8).to_bits()).unwrap()
}

fn begun(job: &TrainingJob) -> Result<Trainer, TrainError> {
    on_threads(2, || start(job, kernel()).map(|(trainer, _)| trainer)).unwrap()
}

#[test]
fn what_was_written_is_read_back_with_the_same_loss_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    let (trainer, exported) = trained(
        directory.path(),
        &["export.formats=[\"bitnet\", \"hf-packed\", \"gguf-i2_s\"]", "model.hidden=128", "model.ffn=128"],
    );
    let expected = evaluate(&trainer);
    assert_eq!(exported.len(), 4);
    for e in &exported {
        // Packed forms have no masters: theirs are made, and round to the same trits and scales.
        let job = from(&e.path, directory.path(), &[]).unwrap();
        assert_eq!(evaluate(&begun(&job).unwrap()), expected, "{}", e.format);
    }
}

#[test]
fn floats_that_are_exactly_ternary_are_trits_with_their_scales() {
    for weights in ["tensor", "row", "group-32"] {
        let directory = tempfile::tempdir().unwrap();
        let weights = format!("quantization.weights={weights}");
        let same = [weights.as_str(), "quantization.activations=false"];
        let more = ["model.sub_norms=false", "model.activation=silu"];
        let formats = ["export.formats=[\"bitnet\"]"];
        let (trainer, exported) = trained(directory.path(), &[&same[..], &more[..], &formats[..]].concat());
        let agreement = exported[1].agreement.unwrap();
        assert!(agreement.rms < 1e-5, "{weights}: {agreement:?}");
        let again = begun(&from(&exported[0].path, directory.path(), &same).unwrap()).unwrap();
        assert_eq!(evaluate(&again), evaluate(&trainer), "{weights}");
    }
}

/// What holds them has the trained model's loss to the bit, and in the engine its logits.
#[test]
fn scales_of_rows_and_groups_are_served_with_int8_activations() {
    for (name, granularity) in [("row", Granularity::Row), ("group-32", Granularity::Group(32))] {
        let directory = tempfile::tempdir().unwrap();
        let weights = format!("quantization.weights={name}");
        let formats = "export.formats=[\"bitnet\", \"hf-master\"]";
        let (trainer, exported) = trained(directory.path(), &[&weights, formats]);
        let expected = evaluate(&trainer);
        assert_eq!(exported.len(), 3);
        for e in &exported {
            let found = Found::open(&e.path).unwrap();
            let wanted = FakeQuantization { weights: Some(granularity), ..FakeQuantization::W158A8 };
            assert_eq!(found.quantization(), wanted, "{name} as {}", e.format);
            let job = from(&e.path, directory.path(), &[&weights]).unwrap();
            assert_eq!(evaluate(&begun(&job).unwrap()), expected, "{name} as {}", e.format);
            let agreement = on_threads(2, || export::agreement(&trainer, &e.path, &LoadOptions::default()))
                .unwrap()
                .unwrap();
            let same = agreement.rms < 1e-3 && agreement.same_top == agreement.positions;
            assert!(same, "{name} as {}: {agreement:?}", e.format);
        }
    }
}

#[test]
fn contradictions_name_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let (_, exported) = trained(directory.path(), &["export.formats=[\"bitnet\"]"]);
    let (master, packed) = (&exported[0].path, &exported[1].path);
    let refused = |job: Result<TrainingJob, TrainError>, parts: &[&str]| {
        let error = job.and_then(|job| begun(&job)).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let start = format!("start.model={:?}", master.to_str().unwrap());
    let with_model = |more: &[&str]| {
        let all = [&SIZES[..], &[start.as_str()], more].concat();
        TrainingJob::read(TEMPLATE, &settings(directory.path(), &all))
    };
    begun(&with_model(&[]).unwrap()).unwrap();
    refused(with_model(&["model.ffn=128"]), &["model.ffn is 128", "master has 96", "[model]"]);
    refused(with_model(&["model.activation=silu"]), &["model.activation", "is false", "has true"]);
    let from = |model: &PathBuf, more: &[&str]| from(model, directory.path(), more);
    refused(from(packed, &["training.positions=49"]), &["training.positions is 49", "room for 48"]);
    refused(
        from(packed, &["quantization.weights=none", "quantization.activations=false"]),
        &["int8 activations"],
    );
    refused(from(&directory.path().join("none"), &[]), &["none"]);
    // Another tokenizer than the model's, and one that is too large for it.
    let other = directory.path().join("tokenizer.json");
    let texts = [std::fs::read_to_string(text()).unwrap()];
    let json = bitnet_training::train_tokenizer(&texts, 280).unwrap();
    std::fs::write(&other, &json).unwrap();
    let other = format!("data.tokenizer={:?}", other.to_str().unwrap());
    refused(
        from(master, &[&other]),
        &["data.tokenizer is", "tokenizer.json", "master has another tokenizer"],
    );
    let larger = bitnet_training::train_tokenizer(&texts, 600).unwrap();
    std::fs::write(master.join("tokenizer.json"), larger).unwrap();
    refused(from(master, &[]), &["the tokenizer has 600 entries and the model 300"]);
}

/// Dense Llama- and Qwen3-class models begin as the floats that `transformers` has, and become ternary by degrees.
#[test]
fn float_models_become_ternary_step_by_step() {
    for name in ["dense-llama-f16", "dense-qwen3-bf16"] {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/oracle-made").join(name);
        let found = Found::open(&model).unwrap();
        assert_eq!(found.quantization(), FakeQuantization::NONE, "{name}");
        let parameters = found.parameters(None, &Device::flex()).unwrap();
        let transformer = Transformer::new(found.config().clone(), FakeQuantization::NONE, kernel()).unwrap();
        let ids: Vec<u32> = (0..20).map(|i| (i * 37 + 5) % found.config().vocab as u32).collect();
        let batch = Minibatch { sequences: 1, ids: ids.clone().into(), targets: vec![None; 20].into() };
        let leaves: Vec<Tensor<2>> =
            parameters.list().iter().map(|p| Tensor::from_inner(p.values.clone())).collect();
        let ours = values(transformer.logits(&parameters, &leaves, &batch));
        assert!(ours.iter().all(|x| x.is_finite()));
        let directory = tempfile::tempdir().unwrap();
        let job = from(&model, directory.path(), &["quantization.lambda_steps=4", "training.positions=16"])
            .unwrap();
        let mut trainer = begun(&job).unwrap();
        assert!(matches!(trainer.lessons(), Lessons::Text(_)));
        let losses: Vec<f64> = (0..6).map(|_| trainer.step().unwrap().loss).collect();
        assert!(losses.iter().all(|l| l.is_finite()), "{name}: {losses:?}");
        assert!(trainer.model().quantization().lambda == 1.0 && trainer.model().config().trained_int8);
        // Where the engine runs dense models, it gives the same logits.
        let options = LoadOptions { activations: ActivationChoice::Float, ..LoadOptions::default() };
        if let Ok(engine) = InferenceEngine::load(&model, &options) {
            let mut served = Vec::new();
            engine.session().unwrap().logits(&ids, |row| served.extend_from_slice(row)).unwrap();
            assert!(
                common::difference(&ours, &served) < 2e-4,
                "{name}: {}",
                common::difference(&ours, &served)
            );
        }
    }
}
