//! Readers of the expected values in `testdata/oracle`, made by other people's software.

// Every test file uses its own part of this.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::PathBuf,
};

/// A file or directory under `testdata/oracle`.
pub fn oracle(relative: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle")).join(relative)
}

/// A float array of numpy, row-major.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A `.npy`; integers and booleans become the floats that equal them.
pub fn npy(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let (start, length) = match bytes[6] {
        1 => (10, u16::from_le_bytes([bytes[8], bytes[9]]) as usize),
        _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
    };
    let header = std::str::from_utf8(&bytes[start..start + length]).unwrap();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let shape = header.split('(').nth(1).unwrap().split(')').next().unwrap();
    let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let data = &bytes[start + length..];
    let words = || data.as_chunks::<4>().0.iter();
    let values = match header.split('\'').nth(3).unwrap() {
        "<f4" => words().map(|b| f32::from_le_bytes(*b)).collect(),
        "<i4" => words()
            .map(|b| i32::from_le_bytes(*b))
            .inspect(|i| assert!(i.abs() < 1 << 24))
            .map(|i| i as f32)
            .collect(),
        "|i1" => data.iter().map(|&b| f32::from(b as i8)).collect(),
        "|u1" | "|b1" => data.iter().map(|&b| f32::from(b)).collect(),
        other => panic!("dtype {other}"),
    };
    Array { shape, values }
}

/// The arrays of a `.npz`.
pub fn npz(path: PathBuf) -> BTreeMap<String, Array> {
    let mut archive = zip::ZipArchive::new(Cursor::new(fs::read(path).unwrap())).unwrap();
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        arrays.insert(file.name().trim_end_matches(".npy").to_owned(), npy(&bytes));
    }
    arrays
}

/// One prompt of `cases.json`.
#[derive(Clone, Debug)]
pub struct Case {
    pub prompt: Vec<u32>,
    pub greedy: Vec<u32>,
    pub margins: Vec<f64>,
}

/// A file with expected values: of a directory in `<dir>/expected/f32`, of a GGUF file in `<dir>` itself.
fn expected(dir: &str, file: &str) -> PathBuf {
    let of_directory = oracle(&format!("{dir}/expected/f32"));
    if of_directory.exists() { of_directory.join(file) } else { oracle(dir).join(file) }
}

/// The prompts of `cases.json` among the expected values.
pub fn cases(dir: &str) -> Vec<Case> {
    let text = fs::read(expected(dir, "cases.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let ids =
        |v: &serde_json::Value| v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
    let case = |c: &serde_json::Value| Case {
        prompt: ids(&c["prompt_ids"]),
        greedy: ids(&c["greedy"]),
        margins: c["greedy_margin"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect(),
    };
    json.as_array().unwrap().iter().map(case).collect()
}

/// The expected logits of prompt `i`, if they are in the repository: of all positions, or of the last four of a long prompt.
pub fn expected_logits(dir: &str, i: usize) -> Option<Array> {
    let names = [format!("logits_{i}.npy"), format!("logits_{i}_last4.npy")];
    names.iter().find_map(|name| fs::read(expected(dir, name)).ok()).map(|bytes| npy(&bytes))
}
