//! `bitnet train`, in builds with and without it.
#![allow(clippy::unwrap_used)]

mod common;

use common::User;

#[cfg(not(feature = "training"))]
#[test]
fn a_build_without_training_says_which_has_it() {
    for words in [
        &["train", "job.toml"][..],
        &["train", "--init", "job.toml"],
        &["finetune", "x"],
        &["twins", "--text", "a.txt"],
    ] {
        User::new().run(words).fails(1, &["this build of bitnet has no training", "--features training"]);
    }
}

#[cfg(feature = "training")]
mod with_training {
    use super::*;

    /// A user with a job, and the job's path.
    fn user(text: impl AsRef<[u8]>) -> (User, String) {
        let user = User::new();
        user.file("text.txt", text);
        let job = user.path("job.toml").to_str().unwrap().to_owned();
        user.run(&["train", "--init", job.as_str()]).ok();
        (user, job)
    }

    const SMALL: [&str; 12] = [
        "--set=data.files=[\"text.txt\"]",
        "--set=data.vocabulary=300",
        "--set=model.hidden=64",
        "--set=model.ffn=64",
        "--set=model.layers=1",
        "--set=training.batch=2",
        "--set=training.positions=16",
        "--set=training.steps=4",
        "--set=optimizer.warmup=1",
        "--set=run.save_every=2",
        "--set=export.formats=[\"bitnet\"]",
        "--threads=1",
    ];

    fn text() -> String {
        (0..200).map(|i| format!("line {} of a text, with {} words\n", i, i % 7)).collect()
    }

    #[test]
    fn a_job_is_trained_and_taken_up_again() {
        let (user, job) = user(text());
        let args = |more: &[&'static str]| -> Vec<String> {
            let all = ["train", job.as_str()].into_iter().chain(SMALL).chain(more.iter().copied());
            all.map(str::to_owned).collect()
        };
        let run = |more: &[&'static str]| {
            let args = args(more);
            user.run(&args)
        };
        let told = run(&["--json"]).json();
        assert_eq!(told["steps"], 4);
        let model = told["exported"][1]["path"].as_str().unwrap().to_owned();
        assert!(user.path("run/job.toml").exists());
        user.run(&["run", model.as_str(), "line", "--max-new-tokens", "3"]).ok();
        let again = run(&["--json"]);
        assert_eq!(again.json()["validation"], told["validation"]);
        assert!(again.stderr.contains("going on behind step 4"), "{}", again.stderr);
        run(&["--set=training.seed=2", "--quiet"]).fails(1, &["training.seed = 1, now it is 2"]);
        user.run(&["train", "--init", job.as_str()]).fails(1, &["exists already"]);
    }

    #[test]
    fn what_cannot_be_trained_is_refused_before_the_first_step() {
        let fails = |text: &[u8], more: &[&str], code, parts: &[&str]| {
            let (user, job) = user(text);
            let args: Vec<&str> =
                ["train", job.as_str()].into_iter().chain(SMALL).chain(more.iter().copied()).collect();
            user.run(&args).fails(code, parts);
            assert!(!user.path("run").exists());
        };
        fails(b" \n", &[], 1, &["text.txt holds no text"]);
        fails(b"caf\xe9", &[], 1, &["text.txt is not UTF-8: byte 3"]);
        fails(&vec![b'x'; 1 << 21], &[], 1, &["line 1 of", "2097152 bytes"]);
        fails(b"too short", &[], 1, &["tokens, and one window takes 17"]);
        fails(text().as_bytes(), &["--set=data.files=[\"other.txt\"]"], 1, &["other.txt"]);
        fails(text().as_bytes(), &["--set=data.tokenizer=text.txt"], 1, &["tokenizer"]);
        fails(
            text().as_bytes(),
            &["--set=model.heads=3"],
            2,
            &["model.hidden 64 is not a multiple of model.heads 3"],
        );
        fails(
            text().as_bytes(),
            &["--set=training.step=3"],
            2,
            &["no key training.step; did you mean training.steps?"],
        );
        fails(text().as_bytes(), &["--set=model.kv_heads=3"], 1, &["key-value heads"]);
    }

    #[test]
    fn a_key_that_is_not_there_is_told_with_its_line_and_the_nearest() {
        let (user, job) = user(text());
        let written = std::fs::read_to_string(&job).unwrap();
        let line = written.lines().position(|l| l.starts_with("warmup =")).unwrap() + 1;
        for (from, to, at, meant) in [
            ("warmup =", "warmpu =", line, "did you mean `warmup`?"),
            ("[optimizer]", "[optimiser]", 0, "did you mean `optimizer`?"),
        ] {
            std::fs::write(&job, written.replace(from, to)).unwrap();
            let at = if at == 0 { String::new() } else { format!("line {at}") };
            user.run(&["train", job.as_str()]).fails(2, &["job.toml", &at, meant]);
        }
        assert!(!user.path("run").exists());
    }

    #[test]
    fn a_tokenizer_of_another_model_is_not_taken() {
        let (user, job) = user(text());
        let run = |more: &[&'static str]| {
            let args: Vec<&str> =
                ["train", job.as_str()].into_iter().chain(SMALL).chain(more.iter().copied()).collect();
            user.run(&args)
        };
        run(&[]).ok();
        let copied = std::fs::read_to_string(user.path("run/master/tokenizer.json")).unwrap();
        // Other ids for the same text: the run that was begun cannot go on with them.
        let mut other: serde_json::Value = serde_json::from_str(&copied).unwrap();
        other["model"]["merges"] = serde_json::json!([]);
        user.file("other.json", other.to_string());
        run(&["--set=data.tokenizer=other.json", "--quiet"]).fails(1, &["another directory for another run"]);
        user.file("broken.json", &copied[..copied.len() / 2]);
        run(&["--set=data.tokenizer=broken.json", "--set=run.directory=new"]).fails(1, &["tokenizer"]);
        assert!(!user.path("new").exists());
    }

    #[test]
    fn a_run_that_loses_its_way_names_the_last_good_checkpoint() {
        let (user, job) = user(text());
        let more = ["--set=optimizer.learning_rate=1e6", "--set=training.steps=50", "--set=run.save_every=1"];
        let args: Vec<&str> = ["train", job.as_str()].into_iter().chain(SMALL).chain(more).collect();
        let lost = user.run(&args);
        let last = "; the last checkpoint, ";
        let cure = "begin again with a lower optimizer.learning_rate, in another run.directory";
        assert_eq!(lost.code, 1, "{}", lost.stderr);
        assert!(lost.stderr.contains("training stopped") && lost.stderr.contains(last), "{}", lost.stderr);
        assert!(lost.stderr.contains(cure) && !user.path("run/master").exists(), "{}", lost.stderr);
    }
}
