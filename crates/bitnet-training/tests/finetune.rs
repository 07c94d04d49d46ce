//! Fine-tuning: what is learned of an example, side paths from the first step to the engine, and teachers.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bitnet_inference::{InferenceEngine, LoadOptions};
use bitnet_text::{EncodeOptions, Tokenizer};
use bitnet_training::{
    Ending, Event, FINETUNE_TEMPLATE, Fold, Lessons, TEMPLATE, TrainError, Trainer, TrainingJob,
    export::{self, Exported},
    finish, on_threads, run, start,
};
use common::kernel;

/// The format of a model that answers behind its name, as BitNet b1.58 2B-4T's.
const CHAT: &str = "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: \
    {{ message.content | trim }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}";

/// A small model in a directory: `master` and `hf-packed`, each with a chat template.
fn base(directory: &Path, more: &[&str]) -> [PathBuf; 2] {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt");
    let own = [
        format!("data.files=[{text:?}]"),
        format!("run.directory={:?}", directory.to_str().unwrap()),
        "data.vocabulary=300".into(),
        "model.hidden=64".into(),
        "model.ffn=96".into(),
        "model.layers=2".into(),
        "model.context=128".into(),
        "training.steps=30".into(),
        "training.batch=4".into(),
        "training.positions=32".into(),
        "optimizer.learning_rate=1e-2".into(),
        "optimizer.warmup=2".into(),
        "export.formats=[\"hf-packed\"]".into(),
    ];
    let settings: Vec<String> = own.into_iter().chain(more.iter().map(|&s| s.to_owned())).collect();
    let job = TrainingJob::read(TEMPLATE, &settings).unwrap();
    on_threads(2, || {
        let (mut trainer, tokenizer) = start(&job, kernel()).unwrap();
        for _ in 0..job.training.steps {
            trainer.step().unwrap();
        }
        export::export(&trainer, &tokenizer, &job.export.formats, directory).unwrap();
    })
    .unwrap();
    ["master", "hf-packed"].map(|name| {
        let model = directory.join(name);
        fs::write(model.join("chat_template.jinja"), CHAT).unwrap();
        model
    })
}

/// Chats and completions by turns.
fn lines(count: usize) -> String {
    let animals = ["cat", "dog", "cow", "duck"];
    let says = ["meow", "woof", "moo", "quack"];
    let line = |i: usize| match (i % 2, animals[i / 2 % 4], says[i / 2 % 4]) {
        (0, animal, says) => format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{animal}?\"}}, {{\"role\": \"assistant\", \"content\": \"{says}\"}}]}}\n"
        ),
        (_, animal, says) => {
            format!("{{\"prompt\": \"The {animal} says\", \"completion\": \" {says}, {says}\"}}\n")
        }
    };
    (0..count).map(line).collect()
}

fn job(model: &Path, directory: &Path, more: &[&str]) -> TrainingJob {
    let data = directory.join("data.jsonl");
    if !data.exists() {
        fs::write(&data, lines(40)).unwrap();
    }
    let own = [
        format!("examples.files=[{:?}]", data.to_str().unwrap()),
        format!("start.model={:?}", model.to_str().unwrap()),
        format!("run.directory={:?}", directory.join("tuned").to_str().unwrap()),
        "examples.epochs=2".into(),
        "training.positions=40".into(),
        "optimizer.learning_rate=1e-2".into(),
        "optimizer.warmup=0".into(),
        "run.threads=2".into(),
    ];
    let settings: Vec<String> = own.into_iter().chain(more.iter().map(|&s| s.to_owned())).collect();
    TrainingJob::read(FINETUNE_TEMPLATE, &settings).unwrap()
}

fn begun(job: &TrainingJob) -> Result<Trainer, TrainError> {
    on_threads(2, || start(job, kernel()).map(|(trainer, _)| trainer)).unwrap()
}

/// Runs a job to its end.
fn tuned(job: &TrainingJob) -> (f64, Vec<Exported>, Option<Fold>) {
    on_threads(2, || {
        let (mut trainer, tokenizer) = start(job, kernel()).unwrap();
        let before = trainer.evaluate(100);
        let ending = run(&mut trainer, &job.run_options(), |_| true).unwrap();
        let Ending::Done(loss) = ending else { panic!("it was not asked to stop") };
        let (exported, fold) = finish(job, &trainer, &tokenizer, &job.run.directory).unwrap();
        assert!(loss < before - 0.3, "{before} before, {loss} behind");
        (loss, exported, fold)
    })
    .unwrap()
}

#[test]
fn only_answers_are_learned_and_an_example_sees_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let [_, model] = base(directory.path(), &["training.steps=3"]);
    let tokenizer = InferenceEngine::load(&model, &LoadOptions::default()).unwrap();
    let tokenizer: &Tokenizer = tokenizer.tokenizer().unwrap();
    let trainer = begun(&job(&model, directory.path(), &[])).unwrap();
    let Lessons::Examples(examples) = trainer.lessons() else { panic!("examples") };
    assert_eq!((examples.train.len(), examples.validation.len()), (36, 4));
    let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
    let decoded = |ids: &[u32]| tokenizer.decode(ids, false);
    // A chat: the prompt is what `bitnet chat` gives the model, the answer ends with its own end.
    let chat = &examples.train[0];
    assert_eq!((chat.answers.len(), chat.answers[0].end), (1, chat.ids.len()));
    let (asked, said) = chat.ids.split_at(chat.answers[0].start);
    let engine = InferenceEngine::load(&model, &LoadOptions::default()).unwrap();
    let turn = [bitnet_text::Message::new("user", "cat?")];
    let served = bitnet_text::encode_chat(tokenizer, engine.chat_template().unwrap(), &turn, true).unwrap();
    assert_eq!(asked, served);
    assert_eq!((decoded(&said[..said.len() - 1]).as_str(), said[said.len() - 1]), ("meow", eos));
    // A completion: the prompt is what `bitnet run` gives the model.
    let completion = &examples.train[1];
    let (asked, said) = completion.ids.split_at(completion.answers[0].start);
    let plain = EncodeOptions { add_special: true, parse_special: false };
    assert_eq!((asked, asked[0]), (&tokenizer.encode("The cat says", plain).unwrap()[..], bos));
    assert_eq!((decoded(&said[..said.len() - 1]).as_str(), said[said.len() - 1]), (" meow, meow", eos));
    assert_eq!(completion.line.number, 2);
    // Rows filled up beside longer ones give the losses that they give alone.
    let alone = begun(&job(&model, directory.path(), &["training.batch=1"])).unwrap();
    let together = begun(&job(&model, directory.path(), &["training.batch=4"])).unwrap();
    let (alone, together) = on_threads(2, || (alone.evaluate(4), together.evaluate(4))).unwrap();
    assert!((alone - together).abs() < 1e-5, "{alone} alone, {together} together");
}

#[test]
fn conversations_are_learned_turn_by_turn() {
    let directory = tempfile::tempdir().unwrap();
    let [_, model] = base(directory.path(), &["training.steps=3"]);
    let turn = |role: &str, content: &str| format!("{{\"role\": \"{role}\", \"content\": \"{content}\"}}");
    let talk = [
        turn("system", "Be short."),
        turn("user", "cat? <|end_of_text|>"),
        turn("assistant", " meow "),
        turn("user", "dog?"),
        turn("assistant", "woof"),
        turn("user", "bye"),
    ];
    let line = format!("{{\"messages\": [{}]}}\n", talk.join(", "));
    fs::write(directory.path().join("data.jsonl"), line.repeat(3)).unwrap();
    let trainer = begun(&job(&model, directory.path(), &["training.positions=120"])).unwrap();
    let Lessons::Examples(examples) = trainer.lessons() else { panic!("examples") };
    let engine = InferenceEngine::load(&model, &LoadOptions::default()).unwrap();
    let tokenizer = engine.tokenizer().unwrap();
    let example = &examples.train[0];
    let said: Vec<String> =
        example.answers.iter().map(|r| tokenizer.decode(&example.ids[r.clone()], false)).collect();
    assert_eq!(said, ["meow<|end_of_text|>", "woof<|end_of_text|>"]);
    // What a person types is text, whatever it looks like: of the ends there are one a turn.
    let ends = example.ids.iter().filter(|&&id| Some(id) == tokenizer.eos()).count();
    assert_eq!((ends, example.ids.len()), (5, example.answers[1].end));
}

#[test]
fn side_paths_are_learned_resumed_and_served() {
    let directory = tempfile::tempdir().unwrap();
    let [_, model] = base(directory.path(), &[]);
    let (loss, exported, fold) = tuned(&job(&model, directory.path(), &[]));
    assert!(fold.is_none() && exported.len() == 1);
    let agreement = exported[0].agreement.unwrap();
    assert!(agreement.holds() && agreement.positions > 20, "{agreement:?}");
    // The adapter changes what the engine says, and alone nothing else.
    let adapter = LoadOptions { adapter: Some(exported[0].path.clone()), ..LoadOptions::default() };
    let logits = |options: &LoadOptions| {
        let engine = InferenceEngine::load(&model, options).unwrap();
        let mut session = engine.session().unwrap();
        session.feed(&[0, 40, 41, 42]).unwrap().to_vec()
    };
    assert!(common::difference(&logits(&adapter), &logits(&LoadOptions::default())) > 0.05);
    // The same run, stopped on the way.
    let again =
        job(&model, directory.path(), &[&format!("run.directory={:?}", directory.path().join("again"))]);
    let mut trainer = begun(&again).unwrap();
    let stop = |event: Event<'_>| !matches!(event, Event::Step(report, _) if report.step == 4);
    let ending = on_threads(2, || run(&mut trainer, &again.run_options(), stop).unwrap()).unwrap();
    assert_eq!(ending, Ending::Stopped);
    let (resumed, files, _) = tuned(&again);
    assert_eq!(resumed.to_bits(), loss.to_bits());
    let bytes = |e: &Exported| fs::read(e.path.join("adapter_model.safetensors")).unwrap();
    assert!(bytes(&files[0]) == bytes(&exported[0]), "the adapters have the same bytes");
}

#[test]
fn side_paths_are_folded_only_where_that_is_no_worse() {
    let directory = tempfile::tempdir().unwrap();
    let [_, model] = base(directory.path(), &[]);
    let (_, exported, fold) =
        tuned(&job(&model, directory.path(), &["lora.fold=true", "lora.fold_bound=5.0"]));
    let fold = fold.unwrap();
    let untuned = begun(&job(&model, directory.path(), &[])).unwrap();
    let untuned = on_threads(2, || untuned.evaluate(100)).unwrap();
    assert!(
        fold.holds() && fold.folded != fold.beside && fold.folded < untuned - 0.1,
        "{untuned} before, {fold:?}"
    );
    let formats: Vec<&str> = exported.iter().map(|e| e.format.as_str()).collect();
    assert_eq!(formats, ["adapter", "master", "bitnet"]);
    assert!(exported[2].agreement.unwrap().holds());
    assert!(!Fold { bound: 0.0, folded: fold.beside + 0.01, ..fold }.holds());
}

#[test]
fn the_model_itself_is_tuned_with_either_loss() {
    let directory = tempfile::tempdir().unwrap();
    let [master, _] = base(directory.path(), &[]);
    for loss in ["mean", "sum"] {
        let loss = format!("examples.loss={loss}");
        let run = format!("run.directory={:?}", directory.path().join(&loss));
        let (_, exported, fold) = tuned(&job(
            &master,
            directory.path(),
            &["lora.rank=0", "optimizer.learning_rate=3e-3", &loss, &run],
        ));
        assert!(fold.is_none() && exported.len() == 2 && exported[1].agreement.unwrap().holds());
        assert!(exported[0].path.join("chat_template.jinja").exists(), "the template stays with the model");
    }
}

#[test]
fn what_is_no_example_is_named_by_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let [master, model] = base(directory.path(), &["training.steps=3"]);
    let refused = |data: &[u8], parts: &[&str]| {
        fs::write(directory.path().join("data.jsonl"), data).unwrap();
        let error = begun(&job(&model, directory.path(), &[])).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let with = |line: &str| format!("{}\n{line}\n", lines(4)).into_bytes();
    refused(b"", &["data.jsonl holds no text"]);
    refused(b"\n \n", &["data.jsonl holds no text"]);
    refused(&with("{\"prompt\": \"a\", "), &["line 6 of", "data.jsonl", "column"]);
    refused(&with("[1, 2]"), &["line 6 of"]);
    refused(&with("{\"prompt\": \"a\"}"), &["line 6 of", "neither"]);
    refused(&with("{\"prompt\": \"a\", \"completion\": \"b\", \"messages\": []}"), &["line 6 of", "neither"]);
    refused(&with("{\"prompt\": \"a\", \"completion\": \" \"}"), &["line 6 of", "completion is empty"]);
    refused(&with("{\"prompt\": \"a\", \"answer\": \"b\"}"), &["line 6 of", "answer"]);
    refused(&with("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"), &["line 6 of", "assistant"]);
    refused(
        &with(
            "{\"messages\": [{\"role\": \"a<b\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}",
        ),
        &["line 6 of", "role"],
    );
    refused(
        &[lines(4).as_bytes(), b"{\"prompt\": \"\xff\"}\n"].concat(),
        &["line 5 of", "not UTF-8: byte 12"],
    );
    let long = format!("{{\"prompt\": \"a\", \"completion\": \"{}\"}}", "be or not ".repeat(30));
    refused(&with(&long), &["line 6 of", "tokens, and training.positions is 40"]);
    refused(lines(1).as_bytes(), &["1 examples", "nothing is left"]);
    // Without a template there are no chats.
    fs::remove_file(master.join("chat_template.jinja")).unwrap();
    let text = fs::read_to_string(master.join("config.json")).unwrap();
    let other = text.replace("BitNetForCausalLM", "BitnetForCausalLM");
    assert_ne!(text, other);
    fs::write(master.join("config.json"), other).unwrap();
    fs::write(directory.path().join("data.jsonl"), lines(4)).unwrap();
    let error = begun(&job(&master, directory.path(), &[])).unwrap_err().to_string();
    assert!(error.contains("line 1 of") && error.contains("no chat template"), "{error}");
}

#[test]
fn a_student_listens_to_its_teacher() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [master, model] = base(one.path(), &[]);
    let teacher = |path: &Path| format!("distillation.teacher={:?}", path.to_str().unwrap());
    let alone = ["distillation.weight=1.0", "distillation.temperature=1.0", "training.positions=40"];
    // Whoever is his own teacher has nothing to learn.
    let own = teacher(&model);
    let mut same = begun(&job(&model, one.path(), &[&alone[..], &[&own]].concat())).unwrap();
    let report = on_threads(2, || same.step().unwrap()).unwrap();
    assert!(report.loss.abs() < 1e-5 && report.length < 1e-3, "{report:?}");
    // Another model comes nearer to its teacher.
    let [other, _] = base(two.path(), &["training.seed=5", "training.steps=4"]);
    let more = [&alone[..], &[&own, "lora.rank=0", "optimizer.learning_rate=3e-3"]].concat();
    let mut student = begun(&job(&other, two.path(), &more)).unwrap();
    let losses = on_threads(2, || (0..9).map(|_| student.step().unwrap().loss).collect::<Vec<_>>()).unwrap();
    assert!(losses[8] < losses[0] * 0.8 && losses.iter().all(|l| *l > 0.0), "{losses:?}");
    // A teacher speaks the student's language.
    let three = tempfile::tempdir().unwrap();
    let [foreign, _] = base(three.path(), &["data.vocabulary=280", "training.steps=1", "optimizer.warmup=0"]);
    let error = begun(&job(&master, one.path(), &[&teacher(&foreign)])).unwrap_err().to_string();
    assert!(error.contains("teacher") && error.contains("tokenizer"), "{error}");
}
