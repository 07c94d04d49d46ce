//! `bitnet bench` as a user calls it.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{User, bitnet, oracle};
use serde_json::Value;

const SMALL: [&str; 8] = ["--threads", "1", "--prompt", "16", "--generate", "4", "--repetitions", "3"];

fn bench(more: &[&str]) -> common::Done {
    bitnet(&[&["bench", "--quiet"], more, &SMALL].concat())
}

#[test]
fn rows_are_an_array_with_the_promised_fields() {
    let rows = bench(&["--synthetic", "tiny", "--json", "--depth", "0,20", "--batch", "1,2"]).json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        assert!(["tg", "pp"].contains(&row["test"].as_str().unwrap()));
        for name in ["threads", "depth", "batch", "tokens_per_s", "bytes_per_token", "ops_per_token", "limit"]
        {
            assert!(row[name].is_number(), "{name} of {row}");
        }
        let of_limit = row["of_limit"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&of_limit), "{of_limit}");
        assert!(row["kernel"].is_string() && row["breakdown"].as_array().unwrap().len() > 5);
    }
}

#[test]
fn the_table_names_what_ran() {
    let table = bench(&[&oracle("bitnet-a-bitlinear-packed")]);
    for words in ["kernel", "cpu", "huge pages", "peak memory", "energy", "of limit", "gate/up", "head"] {
        assert!(table.ok().contains(words), "{words} in {}", table.out());
    }
}

#[test]
fn a_regression_is_a_failure_and_noise_is_not() {
    let user = User::new();
    let mut rows = bench(&["--synthetic", "tiny", "--json"]).json();
    let change = |rows: &mut Value, factor: f64| {
        for row in rows.as_array_mut().unwrap() {
            row["tokens_per_s"] = (row["tokens_per_s"].as_f64().unwrap() * factor).into();
            row["of_limit"] = (row["of_limit"].as_f64().unwrap() * factor).into();
        }
    };
    change(&mut rows, 1e4);
    let faster = user.file("faster.json", rows.to_string());
    let slower_now = bench(&["--synthetic", "tiny", "--compare", &faster]);
    assert_eq!(slower_now.code, 1, "{}", slower_now.stderr);
    assert!(slower_now.out().contains("REGRESSION"), "{}", slower_now.out());
    change(&mut rows, 1e-8);
    let slower = user.file("slower.json", rows.to_string());
    assert!(bench(&["--synthetic", "tiny", "--compare", &slower]).ok().contains("faster"));
    let other = user.file("other.json", "{\"rows\": 1}");
    bench(&["--synthetic", "tiny", "--compare", &other]).fails(1, &["other.json", "--json"]);
}

#[test]
fn a_picture_is_written_whole() {
    let user = User::new();
    let path = user.home.path().join("sweep.svg");
    bench(&["--synthetic", "tiny", "--plot", path.to_str().unwrap()]).ok();
    let svg = std::fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn kernels_are_compared_without_a_model() {
    let rows = bitnet(&["bench", "--kernels", "--json", "--quiet"]).json();
    assert!(rows.as_array().unwrap().iter().any(|row| row["speedup"].as_f64().unwrap() == 1.0));
}

#[test]
fn wrong_calls_are_told() {
    bitnet(&["bench"]).fails(2, &["--synthetic"]);
    bitnet(&["bench", "box", "--synthetic", "tiny"]).fails(2, &["--synthetic"]);
    bench(&["--synthetic", "huge"]).fails(2, &["huge", "2b4t"]);
    bench(&["box", "--write", "x.gguf"]).fails(2, &["--synthetic"]);
}
