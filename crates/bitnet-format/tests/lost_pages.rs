//! A mapped file that is cut short ends the process with a sentence.

#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use std::{env, fs, process::Command};

use bitnet_format::{Checkpoint, OpenOptions, explain_lost_pages};
use common::{RawGguf, tensor};

/// Says that this process is the child that is to be ended.
const CHILD: &str = "BITNET_TEST_LOST_PAGES";

#[test]
fn a_file_cut_short_under_a_reader_ends_it_with_a_sentence() {
    if let Ok(path) = env::var(CHILD) {
        explain_lost_pages().unwrap();
        let model = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let values = model.tensor("t").unwrap().to_f32();
        panic!("what is not there was read: {values:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, RawGguf::new(vec![tensor("t", &[1 << 16], 0, 0)], vec![0; 4 << 16]).bytes()).unwrap();
    let test = "a_file_cut_short_under_a_reader_ends_it_with_a_sentence";
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, &path);
    let ended = child.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{:?}: {said}", ended.status);
    assert!(said.ends_with("renaming it\n") && said.contains("error: a model file was cut short"), "{said}");
}
