//! What a model's own files say of sampling: obeyed where no flag speaks, and told.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{User, oracle};

/// A model whose directory has this `generation_config.json`.
fn model(user: &User, name: &str, generation: &str) -> String {
    let directory = user.path(name);
    fs::create_dir(&directory).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let from = oracle(&format!("bitnet-a-offline-packed/{file}"));
        fs::copy(from, directory.join(file)).unwrap();
    }
    fs::write(directory.join("generation_config.json"), generation).unwrap();
    directory.to_str().unwrap().to_owned()
}

const NOTE: &str = "by the model's own files; flags override";

#[test]
fn a_models_files_decide_where_no_flag_does() {
    let user = User::new();
    let said = model(&user, "said", r#"{"do_sample": true, "temperature": 5.0, "top_k": 3, "top_p": 1.0}"#);
    let silent = model(&user, "silent", r#"{"do_sample": false, "temperature": 5.0, "top_k": 3}"#);
    let run = |model: &str, flags: &[&str]| {
        let command =
            ["run", model, "First Citizen:", "-n", "24", "--seed", "5", "--ignore-eos", "--print", "ids"];
        user.run(&[&command[..], flags].concat())
    };
    let (by_file, by_flags) =
        (run(&said, &[]), run(&silent, &["--temperature", "5", "--top-k", "3", "--top-p", "1"]));
    let told = format!("temperature 5, top-k 3, top-p 1 {NOTE}");
    assert!(by_file.stderr.contains(&told), "{}", by_file.stderr);
    assert_eq!(by_file.ok(), by_flags.ok());
    let plain = run(&silent, &[]);
    assert!(!plain.stderr.contains(NOTE), "{}", plain.stderr);
    assert_ne!(plain.ok(), by_file.ok());
    // Flags speak first, and then nothing is left to tell.
    let flags = ["--temperature", "0.6", "--top-k", "40", "--top-p", "0.9"];
    let over = run(&said, &flags);
    assert_eq!((over.ok(), over.stderr.contains(NOTE)), (plain.ok(), false), "{}", over.stderr);
    let greedy = run(&said, &["--greedy"]);
    assert!(greedy.ok() == run(&silent, &["--greedy"]).ok() && !greedy.stderr.contains(NOTE));
}

#[test]
fn a_suggestion_that_cannot_be_is_told_and_passed_over() {
    let user = User::new();
    let wrong = model(&user, "wrong", r#"{"top_p": 0, "temperature": 5.0}"#);
    let done = user.run(&["run", &wrong, "First Citizen:", "-n", "2", "--print", "ids"]);
    done.ok();
    let told = "top_p in generation_config.json of the model must be above 0, not 0; what its files say of sampling is passed over";
    assert!(done.stderr.contains(told) && !done.stderr.contains(NOTE), "{}", done.stderr);
}
