//! What the tests read in `testdata/oracle`.

// Every test file uses its own part of this.
#![allow(dead_code)]

use std::{fs, path::PathBuf};

/// A file or directory under `testdata/oracle`.
pub fn oracle(relative: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle")).join(relative)
}

/// The first prompt of `<dir>/expected/f32/cases.json`.
pub fn prompt(dir: &str) -> Vec<u32> {
    let text = fs::read(oracle(&format!("{dir}/expected/f32/cases.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    json[0]["prompt_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
