use super::*;

fn read(settings: &[&str]) -> Result<TrainingJob, TrainError> {
    let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
    TrainingJob::read(TEMPLATE, &settings)
}

#[track_caller]
fn refused(settings: &[&str], sentence: &str) {
    let error = read(settings).unwrap_err().to_string();
    assert!(error.contains(sentence), "{error}");
}

#[test]
fn the_template_is_a_job_and_settings_override_it() {
    let job = read(&["data.files=[\"a.txt\"]"]).unwrap();
    assert_eq!(job.quantization(None).unwrap(), FakeQuantization::W158A8);
    job.config(300, Some(0), Some(1)).unwrap().check().unwrap();
    let other = read(&["data.files=[\"a.txt\"]", "training.steps = 77", "model.activation=silu"]).unwrap();
    assert_eq!((other.training.steps, other.model.as_ref().unwrap().activation), (77, Activation::Silu));
    let differ = |a: &TrainingJob, b: &TrainingJob| {
        let (a, b) = (a.identity(1).unwrap(), b.identity(1).unwrap());
        a.into_iter().zip(b).filter(|(a, b)| a != b).count()
    };
    assert_eq!((differ(&job, &job.clone()), differ(&job, &other)), (0, 2));
}

#[test]
fn every_key_is_explained() {
    for (at, line) in TEMPLATE.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
        let explained =
            line.contains('#') || TEMPLATE.lines().nth(at - 1).is_some_and(|l| l.starts_with('#'));
        assert!(explained, "{line}");
    }
}

#[test]
fn unknown_and_contradictory_keys_are_refused_by_name() {
    let files = "data.files=[\"a.txt\"]";
    let unknown = TrainingJob::read(&TEMPLATE.replace("warmup", "warmpu"), &[]).unwrap_err().to_string();
    assert!(unknown.contains("warmpu") && unknown.contains("line"), "{unknown}");
    refused(&[], "data.files");
    refused(&["steps=3"], "section.key=value");
    refused(&[files, "training.stepz=3"], "no key training.stepz");
    refused(&[files, "training.steps=many"], "training.steps");
    refused(&[files, "training.batch=0"], "training.batch is 0");
    refused(&[files, "training.positions=100000"], "model.context");
    refused(&[files, "optimizer.warmup=1000000"], "optimizer.warmup");
    refused(&[files, "optimizer.beta2=1.0"], "beta2");
    refused(&[files, "model.heads=5"], "model.heads 5");
    refused(&[files, "quantization.weights=half"], "\"half\"");
    refused(&[files, "quantization.weights=group-20"], "multiple of 32");
    refused(&[files, "quantization.weights=none"], "the float twin rounds nothing");
    refused(&[files, "quantization.weights=none", "quantization.activations=false"], "trains floats");
    refused(
        &[files, "quantization.weights=row"],
        "\"hf-packed\", which does not hold int8 activations beside scales",
    );
    read(&[files, "quantization.weights=group-64", "export.formats=[\"bitnet\", \"hf-master\"]"]).unwrap();
    refused(&[files, "quantization.activations=false"], "sub_norms");
    refused(&[files, "export.formats=[\"gguf-q9\"]"], "gguf-q9");
}

#[test]
fn the_job_of_the_model_in_the_box_is_still_one() {
    // What came later has, where it is not said, the value that changes nothing.
    let job = TrainingJob::read(include_str!("../../../bitnet-cli/box/job.toml"), &[]).unwrap();
    assert!(!job.training.gradient_checkpointing && job.run.patience == 0);
    assert_eq!(job.data.as_ref().unwrap().separator, "<|endoftext|>");
    let separator =
        |job: &TrainingJob| job.identity(1).unwrap().into_iter().find(|(key, _)| *key == "data.separator");
    assert_eq!(separator(&job).unwrap().1, "\"<|endoftext|>\"");
    let single = TrainingJob::read(TEMPLATE, &["data.files=[\"a.txt\"]".into()]).unwrap();
    assert_eq!(single.data.as_ref().unwrap().separator, "");
    assert_eq!(
        separator(&single),
        None,
        "what a checkpoint remembers of a job without a separator stays as it was"
    );
}
