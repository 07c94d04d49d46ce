//! Files that are damaged, and files that come in parts.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{User, oracle};

#[test]
fn inspect_verifies_a_file_by_its_digests() {
    let user = User::new();
    let path = user.home.path().join("m.bitnet");
    let name = path.to_str().unwrap();
    user.run(&["convert", &oracle("bitnet-a-offline-packed"), name, "--to", "bitnet"]).ok();
    let whole = user.run(&["inspect", name, "--verify"]);
    assert!(whole.ok().contains("every tensor is what was written"), "{}", whole.out());
    assert_eq!(
        user.run(&["inspect", name, "--verify", "--json"]).json()["digests"],
        "every tensor is what was written"
    );
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    user.run(&["inspect", name, "--verify"]).fails(1, &["m.bitnet: 1 of ", "not what was written: \"model."]);
    let other = user.run(&["inspect", &oracle("gguf/bitnet-a-I2_S.gguf"), "--verify"]);
    assert!(other.ok().contains("this file carries none"), "{}", other.out());
}
