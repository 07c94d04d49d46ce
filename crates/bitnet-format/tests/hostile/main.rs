//! Files that are truncated, overlapping, overflowing or mislabelled: each has its own clear error.
//!
//! The files are committed under `testdata/hostile`, where other tests and the fuzzers find them too. They are made by
//! `gguf.rs`, `safetensors.rs` and `directories.rs` here; `BITNET_WRITE_HOSTILE=1 cargo test -p bitnet-format --test
//! hostile` writes them anew, and without it the test checks that the committed ones are what those say.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

#[path = "../common/mod.rs"]
mod common;
mod directories;
mod gguf;
mod safetensors;
mod seeds;

use std::{collections::BTreeSet, fs, path::Path};

use bitnet_format::{Checkpoint, FormatError, FormatErrorKind, OpenOptions};

/// What a case must end in: the name of the error's variant, and a part of its sentence.
pub type Expectation = (&'static str, &'static str);

/// Files by name, relative to the case; a case of one file has one with an empty name.
pub struct Case {
    pub name: &'static str,
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// What is opened, relative to the case.
    pub open: &'static str,
    pub expect: Expectation,
}

impl Case {
    pub fn file(name: &'static str, bytes: Vec<u8>, expect: Expectation) -> Self {
        Self { name, files: vec![("", bytes)], open: "", expect }
    }
}

/// The name of the variant of an error.
fn variant(error: &FormatError) -> String {
    let text = format!("{:?}", error.kind());
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// Opens, then reads every tensor as what it is.
fn open_and_read(path: &Path) -> Result<(), FormatError> {
    let checkpoint = Checkpoint::open(path, &OpenOptions::default())?;
    // What lies in files that are not there is told when it is asked for.
    checkpoint.absent().try_for_each(|name| checkpoint.tensor(name).map(drop))?;
    for info in checkpoint.tensors() {
        let view = checkpoint.tensor(info.name())?;
        match info.ty().is_ternary() {
            true => drop(view.to_ternary()?),
            false => drop(view.to_f32()?),
        }
    }
    Ok(())
}

#[test]
fn every_hostile_file_has_its_own_error() {
    let root = common::testdata("hostile");
    let write = std::env::var_os("BITNET_WRITE_HOSTILE").is_some();
    let (mut sentences, mut wrong) = (BTreeSet::new(), Vec::new());
    for case in gguf::cases().into_iter().chain(safetensors::cases()).chain(directories::cases()) {
        let at = root.join(case.name);
        for (name, bytes) in &case.files {
            let path = if name.is_empty() { at.clone() } else { at.join(name) };
            if write {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            let committed = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(&committed == bytes, "{} is not what its case says", path.display());
        }
        let path = if case.open.is_empty() { at } else { at.join(case.open) };
        let Err(error) = open_and_read(&path) else {
            wrong.push(format!("{} is read without an error", case.name));
            continue;
        };
        let sentence = error.to_string();
        let fits = variant(&error) == case.expect.0 && sentence.contains(case.expect.1);
        // The file that is wrong is named, and no two mistakes are told in the same words.
        if !fits || !sentence.contains("hostile") || !sentences.insert(sentence.clone()) {
            wrong.push(format!(
                "{}: {} {sentence:?}, expected {:?}",
                case.name,
                variant(&error),
                case.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(sentences.len() > 80, "only {} cases", sentences.len());
}

#[test]
fn seeds_of_the_fuzzers_are_valid() {
    let root = common::testdata("seeds");
    for (name, bytes) in seeds::seeds() {
        let path = root.join(name);
        if std::env::var_os("BITNET_WRITE_HOSTILE").is_some() {
            fs::create_dir_all(&root).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name} is not what the test says");
        // Others need files beside them.
        if name.ends_with(".gguf") {
            open_and_read(&path).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

#[test]
fn a_missing_file_and_a_device_are_told_apart() {
    let options = OpenOptions::default();
    let missing = Checkpoint::open("/no/such/model.gguf", &options).unwrap_err();
    assert!(matches!(missing.kind(), FormatErrorKind::Io(_)), "{missing}");
    assert!(missing.to_string().contains("/no/such/model.gguf"));
    #[cfg(unix)]
    {
        let device = Checkpoint::open("/dev/null", &options).unwrap_err();
        assert!(matches!(device.kind(), FormatErrorKind::NotAFile), "{device}");
    }
}
