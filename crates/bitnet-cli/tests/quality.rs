//! `bitnet inspect --quality`: tables, JSON, the page, and mistakes. Whether the figures are right is for
//! `bitnet-evaluation/tests/quality.rs`.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{ORACLE_MADE, User, bitnet, oracle};

const MODEL: &str = "bitnet-a-offline-packed";

fn text() -> String {
    format!("{ORACLE_MADE}/tinyshakespeare-6000.txt")
}

#[test]
fn every_figure_is_in_the_table_and_in_json() {
    let alone = bitnet(&["inspect", &oracle(MODEL), "--quality"]);
    assert!(alone.ok().contains("zeros") && !alone.ok().contains("SQNR"), "{}", alone.ok());
    let (masters, other) = (oracle("bitnet-a-online-bf16"), oracle("gguf/bitnet-a-I2_S.gguf"));
    let all = ["--masters", &masters, "--against", &other, "--calibration", &text()];
    let model = oracle(MODEL);
    let base = [&["inspect", &model, "--quality"][..], &all].concat();
    let words = bitnet(&base);
    for part in [
        "SQNR dB",
        "cosine",
        "flipped",
        "scale drift",
        "at +-127",
        "max/rms",
        "outliers",
        "layers.3.mlp.down_proj",
    ] {
        assert!(words.ok().contains(part), "{part} is not in {}", words.ok());
    }
    let told = bitnet(&[&base[..], &["--json"]].concat()).json();
    assert_eq!(
        (told["matrices"].as_array().unwrap().len(), told["activations"].as_array().unwrap().len()),
        (28, 16)
    );
    assert_eq!(told["matrices"][0]["flipped"], 0.0);
    let cosine = told["matrices"][0]["cosine"].as_f64().unwrap();
    assert!((0.85..0.9).contains(&cosine), "{cosine}");
    assert!(told["activations"][0]["saturated"].as_f64().unwrap() >= 1.0 / 256.0);
}

#[test]
fn the_page_stands_alone() {
    let user = User::new();
    let page = user.path("page.html");
    let (model, masters) = (oracle(MODEL), oracle("bitnet-a-online-bf16"));
    let args = [
        "inspect",
        &model,
        "--quality",
        "--html",
        page.to_str().unwrap(),
        "--masters",
        &masters,
        "--calibration",
    ];
    user.run(&[&args[..], &[&text()]].concat()).ok();
    let html = fs::read_to_string(&page).unwrap();
    // Zeros, scale, dead lines, SQNR, cosine; five figures of activations.
    assert_eq!(html.matches("<svg").count(), 10, "{}", html.len());
    assert_eq!(html.matches("<tr>").count(), 1 + 28 + 1 + 16);
    for outside in ["http", "<script", "src=", "<link", "url(", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.contains("NaN"));
    let left = fs::read_dir(user.home.path()).unwrap().flatten().filter(|e| e.path().is_file()).count();
    assert_eq!(left, 1, "the page, no drafts");
}

#[test]
fn each_mistake_has_its_own_words() {
    let user = User::new();
    let inspect = |args: &[&str]| user.run(&[&["inspect", &oracle(MODEL)], args].concat());
    inspect(&["--masters", "x"]).fails(2, &["--quality"]);
    inspect(&["--html", "x.html"]).fails(2, &["--quality"]);
    inspect(&["--quality", "--masters", "nowhere"]).fails(1, &["no model 'nowhere'"]);
    inspect(&["--quality", "--masters", &oracle(MODEL)]).fails(1, &["masters are floats"]);
    inspect(&["--quality", "--against", &oracle("bitnet-c-silu-online-bf16")])
        .fails(1, &["cannot be compared"]);
    inspect(&["--quality", "--calibration", "nowhere.txt"]).fails(1, &["cannot read nowhere.txt"]);
    inspect(&["--quality", "--calibration", &user.file("empty.txt", "")]).fails(1, &["empty"]);
    inspect(&["--quality", "--html", "/nowhere/page.html"]).fails(1, &["cannot create /nowhere/page.html"]);
}
