//! `bitnet finetune`, in builds with and without it.
#![allow(clippy::unwrap_used)]

mod common;

use common::User;

#[cfg(not(feature = "training"))]
#[test]
fn a_build_without_training_says_which_has_it() {
    User::new()
        .run(&["finetune", "job.toml"])
        .fails(1, &["this build of bitnet has no training", "--features training"]);
}

#[cfg(feature = "training")]
mod with_training {
    use super::*;

    const EXAMPLES: &str = "{\"prompt\": \"The box says\", \"completion\": \" nothing\"}\n\
        {\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"}, {\"role\": \"assistant\", \"content\": \"A box.\"}]}\n";

    /// A user with a job and examples, and the job's path.
    fn user(examples: &str) -> (User, String) {
        let user = User::new();
        user.file("examples.jsonl", examples);
        let job = user.path("job.toml").to_str().unwrap().to_owned();
        user.run(&["finetune", "--init", job.as_str()]).ok();
        (user, job)
    }

    const SMALL: [&str; 6] = [
        "--set=examples.files=[\"examples.jsonl\"]",
        "--set=start.model=box",
        "--set=examples.epochs=4",
        "--set=training.positions=32",
        "--set=optimizer.warmup=1",
        "--threads=1",
    ];

    #[test]
    fn the_model_in_the_box_is_tuned_and_run() {
        let (user, job) = user(&EXAMPLES.repeat(6));
        let args: Vec<&str> = ["finetune", job.as_str(), "--json"].into_iter().chain(SMALL).collect();
        let told = user.run(&args).json();
        assert_eq!(
            (told["steps"].as_u64(), told["exported"][0]["format"].as_str()),
            (Some(5), Some("adapter"))
        );
        let adapter = told["exported"][0]["path"].as_str().unwrap().to_owned();
        let run = ["run", "box", "The box says", "--greedy", "--max-new-tokens", "3", "--adapter", &adapter];
        user.run(&run).ok();
        user.run(&["run", "box", "The", "--adapter", "nowhere"])
            .fails(1, &["nowhere", "adapter_config.json"]);
        let again = user.run(&args);
        assert_eq!(again.json()["validation"], told["validation"]);
        let with = |more: &[&'static str]| {
            let all: Vec<&str> = args.iter().copied().chain(more.iter().copied()).collect();
            user.run(&all)
        };
        with(&["--set=lora.alpha=4.0", "--quiet"]).fails(1, &["lora.alpha = 16.0, now it is 4.0"]);
        with(&["--set=lora.rank=4", "--quiet"]).fails(1, &["lora.rank = 8, now it is 4"]);
        with(&["--set=lora.projections=[\"head\"]"]).fails(2, &["lora.projections has \"head\""]);
        with(&["--set=training.steps=7"]).fails(2, &["one of examples.epochs and training.steps is 0"]);
        with(&["--set=start.model=boxes"]).fails(1, &["no model 'boxes'"]);
        with(&["--set=optimizer.warmup=100"]).fails(1, &["takes all of the 5 steps"]);
        user.run(&["train", job.as_str(), SMALL[0], SMALL[1]])
            .fails(2, &["no section [data]", "bitnet train"]);
    }

    #[test]
    fn a_broken_line_is_named_before_the_first_step() {
        let (user, job) = user(&format!("{EXAMPLES}{{\"prompt\": \"a\", \n"));
        let args: Vec<&str> = ["finetune", job.as_str()].into_iter().chain(SMALL).collect();
        user.run(&args).fails(1, &["line 3 of", "examples.jsonl"]);
        assert!(!user.path("tuned").exists());
    }
}
