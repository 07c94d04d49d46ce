//! `bitnet convert`: every target, what it proves, what it refuses.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{User, oracle};

const TARGETS: [&str; 9] = [
    "hf-packed",
    "hf-master",
    "gguf-i2_s",
    "gguf-tq1_0",
    "gguf-tq2_0",
    "gguf-q2_0",
    "gguf-pq2_0",
    "gguf-ptq1_0",
    "bitnet",
];

fn greedy(user: &User, model: &str) -> String {
    user.run(&["run", model, "First Citizen:", "--greedy", "-n", "12", "--ignore-eos", "--print", "ids"])
        .ok()
        .to_owned()
}

#[test]
fn every_target_is_proved_and_runs() {
    let user = User::new();
    let expected = greedy(&user, "box");
    for target in TARGETS {
        let out = user.path(target);
        let out = out.to_str().unwrap();
        let told = user.run(&["convert", "box", out, "--to", target, "--json"]).json();
        assert_eq!(told["target"], target);
        for what in ["trits", "vectors"] {
            assert_eq!(told[format!("{what}_equal")], told[what], "{what} in {target}");
            assert!(told[what].as_u64().unwrap() > 0);
        }
        if told["max_scale_loss"] == 0.0 {
            assert_eq!(told["scales_equal"], told["scales"], "{target}");
            assert_eq!(greedy(&user, out), expected, "{target}");
        }
    }
    let words = user.run(&["convert", "box", user.path("again").to_str().unwrap(), "--to", "bitnet"]);
    let trits = words.ok().lines().find(|line| line.starts_with("trits")).unwrap_or_default().to_owned();
    assert!(trits.ends_with(" 4,521,984 of 4,521,984 equal"), "{}", words.ok());
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let user = User::new();
    let out = user.path("out");
    let name = out.to_str().unwrap();
    let groups = oracle("qwen3-a-ternary-g64");
    user.run(&["convert", &groups, name, "--to", "gguf-i2_s"]).fails(1, &["--to bitnet"]);
    user.run(&["convert", "box", name, "--to", "gguf-q1_0"]).fails(1, &["Q1_0 has no zeros", "--to bitnet"]);
    user.run(&["convert", "box", name, "--to", "gguf-q4_0"]).fails(2, &["gguf-q4_0", "gguf-q2_0"]);
    user.run(&["convert", "box", name]).fails(2, &["--to"]);
    user.run(&["convert", "nowhere", name, "--to", "bitnet"]).fails(1, &["no model 'nowhere'"]);
    user.run(&["convert", "box", "/nowhere/out", "--to", "bitnet"]).fails(1, &["/nowhere"]);
    assert!(!out.exists());
    fs::write(&out, "precious").unwrap();
    user.run(&["convert", "box", name, "--to", "bitnet"]).fails(1, &["exists already", "--force"]);
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    user.run(&["convert", "box", user.path("model").to_str().unwrap(), "--to", "bitnet"]).ok();
    let model = user.path("model");
    let model = model.to_str().unwrap();
    user.run(&["convert", model, model, "--to", "gguf-tq2_0", "--force"]).fails(1, &["would destroy"]);
    user.run(&["inspect", model]).ok();
}
