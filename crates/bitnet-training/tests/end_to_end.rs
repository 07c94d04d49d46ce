//! Text becomes a tokenizer, steps, files, and an engine that knows the text.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use bitnet_evaluation::{PerplexityOptions, perplexity};
use bitnet_inference::{GenerateOptions, InferenceEngine, LoadOptions};
use bitnet_text::EncodeOptions;
use bitnet_training::{Ending, Event, TEMPLATE, TrainingJob, export, on_threads, run, start};
use common::kernel;

fn text() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt")
}

fn job(directory: &Path, settings: &[&str]) -> TrainingJob {
    let own = [
        format!("data.files=[{:?}]", text()),
        format!("run.directory={:?}", directory.to_str().unwrap()),
        "data.vocabulary=320".into(),
        "model.hidden=64".into(),
        "model.ffn=128".into(),
        "model.layers=2".into(),
        "model.context=64".into(),
        "training.steps=200".into(),
        "training.batch=8".into(),
        "training.positions=32".into(),
        "optimizer.learning_rate=1e-2".into(),
        "optimizer.warmup=20".into(),
        "run.threads=2".into(),
    ];
    let settings: Vec<String> = own.into_iter().chain(settings.iter().map(|&s| s.to_owned())).collect();
    TrainingJob::read(TEMPLATE, &settings).unwrap()
}

/// Runs a job to its end and exports it; returns the validation loss and what was written.
fn trained(job: &TrainingJob) -> (f64, Vec<export::Exported>) {
    on_threads(job.run.threads, || {
        let (mut trainer, tokenizer) = start(job, kernel()).unwrap();
        let ending = run(&mut trainer, &job.run_options(), |event| !matches!(event, Event::Skipped(_)));
        let Ending::Done(loss) = ending.unwrap() else { panic!("it was not asked to stop") };
        let directory = &job.run.directory;
        (loss, export::export(&trainer, &tokenizer, &job.export.formats, directory).unwrap())
    })
    .unwrap()
}

#[test]
fn a_model_is_trained_and_served() {
    let directory = tempfile::tempdir().unwrap();
    let job = job(directory.path(), &["export.formats=[\"bitnet\", \"hf-packed\", \"gguf-q2_0\"]"]);
    let (loss, exported) = trained(&job);
    assert!(loss < 4.6, "{loss}");
    assert_eq!(exported.len(), 4);
    for e in &exported[1..] {
        let agreement = e.agreement.unwrap();
        assert!(agreement.holds() && agreement.positions == 4 * 32, "{}: {agreement:?}", e.format);
        assert!(agreement.same_top * 100 >= agreement.positions * 97, "{}: {agreement:?}", e.format);
    }
    for e in &exported {
        let engine = InferenceEngine::load(&e.path, &LoadOptions::default()).unwrap();
        let tokenizer = engine.tokenizer().unwrap();
        let plain = EncodeOptions { add_special: false, parse_special: false };
        let text = std::fs::read_to_string(text()).unwrap();
        let ids = tokenizer.encode(&text[..3000], plain).unwrap();
        let options = PerplexityOptions { window: 32, stride: 31, bos: tokenizer.bos() };
        let measured = perplexity(&mut engine.session().unwrap(), &ids, &options, |_, _| ()).unwrap();
        // A model that knows nothing has 320.
        assert!(measured.perplexity < 45.0, "{}: {}", e.format, measured.perplexity);
        let mut session = engine.session().unwrap();
        let options = GenerateOptions { max_new_tokens: 16, ..GenerateOptions::default() };
        let pieces = session.generate("First Citizen:\n", &options).unwrap().count();
        assert!(pieces > 0, "{}", e.format);
    }
    // The same command again has nothing to do but to say the same.
    let (again, _) = trained(&job);
    assert_eq!(again, loss);
    let metrics = std::fs::read_to_string(directory.path().join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().filter(|l| l.contains("learning_rate")).count(), 200);
    assert_eq!(metrics.lines().filter(|l| l.contains("validation")).count(), 2);
}

#[test]
fn ternary_weights_without_int8_activations_are_served_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let job = job(
        directory.path(),
        &[
            "quantization.weights=group-32",
            "quantization.activations=false",
            "model.sub_norms=false",
            "model.activation=silu",
            "model.tied_head=false",
            "training.steps=60",
            "export.formats=[]",
        ],
    );
    let (_, exported) = trained(&job);
    let engine = InferenceEngine::load(&exported[0].path, &LoadOptions::default()).unwrap();
    assert!(!engine.config().trained_int8 && !engine.config().tied_head);
}

#[test]
fn a_run_that_is_asked_to_stop_goes_on_later() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = ["training.steps=12", "export.formats=[]", "run.evaluate_every=5", "optimizer.warmup=2"];
    let (straight, _) = trained(&job(one.path(), &settings));
    let job = job(two.path(), &settings);
    let mut trainer = start(&job, kernel()).unwrap().0;
    let stop = |event: Event<'_>| !matches!(event, Event::Step(report, _) if report.step == 7);
    assert_eq!(run(&mut trainer, &job.run_options(), stop).unwrap(), Ending::Stopped);
    let (resumed, _) = trained(&job);
    assert_eq!(resumed, straight);
}
