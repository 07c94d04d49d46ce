//! `bitnet train`, in builds with and without it.
#![allow(clippy::unwrap_used)]

mod common;

use common::User;

#[cfg(not(feature = "training"))]
#[test]
fn a_build_without_training_says_which_has_it() {
    User::new().run(&["train", "job.toml"]).fails(1, &["cannot train job.toml", "--features training"]);
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
        fails(text().as_bytes(), &["--set=training.step=3"], 2, &["no key training.step"]);
        fails(text().as_bytes(), &["--set=model.kv_heads=3"], 1, &["key-value heads"]);
    }
}
