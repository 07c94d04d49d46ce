//! Rules of the workspace, as tests: layers, sizes of files, and words that do not belong.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

mod circles;
mod names;
mod source;

/// A crate may depend only on crates before it (ARCHITECTURE.md).
const ORDER: &[&str] = &[
    "bitnet-core",
    "bitnet-quant",
    "bitnet-kernels",
    "bitnet-format",
    "bitnet-text",
    "bitnet-model",
    "bitnet-device",
    "bitnet-cpu",
    "bitnet-decoder",
    "bitnet-conformance",
    "bitnet-source",
    "bitnet-inference",
    "bitnet-evaluation",
    "bitnet-convert",
    "bitnet-calibration",
    "bitnet-training",
    "bitnet-benchmarks",
    "bitnet-cli",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    rust_files(&root().join("crates"), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Names of our crates under `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" && line.starts_with("bitnet-") {
            names.push(line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned());
        }
    }
    names
}

#[test]
fn arrows_point_one_way() {
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let place = ORDER
            .iter()
            .position(|&n| n == name)
            .unwrap_or_else(|| panic!("{name} has no place in the order"));
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        for dependency in dependencies(&manifest) {
            let theirs = ORDER.iter().position(|&n| n == dependency);
            assert!(
                theirs.is_some_and(|t| t < place),
                "{name} depends on {dependency}, which does not stand above it"
            );
        }
    }
}

#[test]
fn unsafe_stays_in_its_rooms() {
    for name in [
        "bitnet-quant",
        "bitnet-text",
        "bitnet-model",
        "bitnet-source",
        "bitnet-inference",
        "bitnet-evaluation",
        "bitnet-convert",
        "bitnet-calibration",
        "bitnet-training",
        "bitnet-benchmarks",
    ] {
        let lib = fs::read_to_string(root().join("crates").join(name).join("src/lib.rs")).unwrap();
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{name} does not forbid unsafe code");
    }
}

#[test]
fn files_fit_a_reader() {
    // Tables of one entry per mistake or per test case are long without being hard.
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 450, "{} has {lines} lines: split it by subject", path.display());
    }
}

#[test]
fn names_say_the_subject() {
    for path in sources() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bad = ["utils", "helpers", "misc"].contains(&stem.as_str())
            || ["_old", "_new", "_v2", "_fixed", "_broken"].iter().any(|tail| stem.ends_with(tail));
        assert!(!bad, "{} is not named by its subject", path.display());
    }
}

#[test]
fn every_dependency_has_a_reason() {
    for name in ORDER {
        let Ok(manifest) = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")) else {
            continue;
        };
        let mut previous = "";
        let mut dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                dependencies = line.contains("dependencies");
            } else if dependencies
                && !line.trim().is_empty()
                && !line.starts_with('#')
                && !line.starts_with([' ', ']', '}'])
            {
                let ours = line.starts_with("bitnet-");
                assert!(ours || previous.starts_with('#'), "{name}: '{line}' has no reason above it");
            }
            previous = line;
        }
    }
}
