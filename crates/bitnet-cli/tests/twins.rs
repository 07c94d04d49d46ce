//! `bitnet twins`: a table of pairs, the same for the same seeds.
#![cfg(feature = "training")]
#![allow(clippy::unwrap_used)]

mod common;

use common::User;

const TINY: [&str; 12] = [
    "twins",
    "--text",
    "text.txt",
    "--steps=30",
    "--set=model.hidden=32",
    "--set=model.ffn=32",
    "--set=model.layers=1",
    "--set=training.batch=4",
    "--set=training.positions=16",
    "--set=run.report_every=15",
    "--threads=2",
    "--quiet",
];

fn user() -> User {
    let user = User::new();
    user.file("text.txt", (0..200).map(|i| format!("line {i} of a text, {}\n", i % 7)).collect::<String>());
    user
}

#[test]
fn the_same_seeds_give_the_same_pairs() {
    let user = user();
    let args = |more: &[&'static str]| [&TINY[..], more].concat();
    let told = user.run(&args(&["--seeds=2", "--rates=1e-2,2e-2", "--json"])).json();
    let pairs = told["pairs"].as_array().unwrap();
    assert_eq!((pairs.len(), told["tokens"].as_u64(), told["steps"].as_u64()), (4, Some(30 * 64), Some(30)));
    let rate = &told["rates"][0];
    let mean = |key: &str| (pairs[0][key].as_f64().unwrap() + pairs[1][key].as_f64().unwrap()) / 2.0;
    for key in ["float", "ternary", "gap"] {
        assert!((rate[key]["mean"].as_f64().unwrap() - mean(key)).abs() < 1e-12, "{key}: {told}");
        assert!(rate[key]["deviation"].as_f64().unwrap() > 0.0, "{key}: {told}");
    }
    // ASCII: a byte is a character.
    let bits = rate["float_bits_per_character"].as_f64().unwrap();
    assert!((bits - mean("float") / std::f64::consts::LN_2).abs() < 1e-9, "{told}");
    // The second rate alone, one seed: the same bits as in the run of all.
    let alone = user.run(&args(&["--seeds=1", "--set=optimizer.learning_rate=2e-2", "--json"])).json();
    assert_eq!(alone["pairs"][0], pairs[2]);
    assert_ne!(pairs[2]["fingerprints"], pairs[3]["fingerprints"]);
    let table = user.run(&args(&["--seeds=1"]));
    let lines: Vec<&str> = table.ok().lines().collect();
    assert!(lines[0].starts_with(" rate  seed") || lines[0].starts_with("rate"), "{lines:?}");
    assert!(lines[4].starts_with("gap ") && lines[4].contains("bits per character"), "{lines:?}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let user = user();
    let args = |more: &[&'static str]| [&TINY[..], more].concat();
    user.run(&args(&["--set=quantization.weights=none", "--set=quantization.activations=false"]))
        .fails(1, &["has no twin"]);
    user.run(&args(&["--rates=0"])).fails(2, &["--rates", "0 is not a number above 0"]);
    user.run(&["twins", "--text", "other.txt"]).fails(1, &["other.txt"]);
}
