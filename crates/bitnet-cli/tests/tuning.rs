//! What the tuner finds is kept, told, and changes no result.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{User, oracle};

#[test]
fn a_finding_is_kept_told_and_changes_no_result() {
    let user = User::new();
    let user = {
        let cache = user.home.path().join("cache");
        user.with("XDG_CACHE_HOME", cache)
    };
    let folder = user.home.path().join("cache").join("bitnet-rust").join("tuning");
    let model = oracle("bitnet-a-offline-packed");
    let ids = |tune: &[&str]| {
        let mut args = vec!["run", &model, "First", "--greedy", "-n", "12", "--print", "ids"];
        args.extend(tune);
        user.run(&args).ok().to_owned()
    };

    // A model that fits in the caches is not measured unless that is asked for.
    let plain = ids(&[]);
    assert!(!folder.exists());
    assert_eq!(ids(&["--tune", "again"]), plain);
    let kept: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");

    let told = user.run(&["doctor", "--json", "--threads", "1"]).json();
    let trials = told["tuning"][0]["trials"].as_array().unwrap().clone();
    for knob in ["threads", "layout", "rows per chunk", "prefill", "pages"] {
        let chosen = trials.iter().filter(|t| t["knob"] == knob && t["chosen"] == true).count();
        assert_eq!(chosen, 1, "{knob}: {trials:?}");
    }
    let words = user.run(&["doctor", "--threads", "1"]);
    assert!(words.ok().contains("rows per chunk"), "{}", words.out());

    // Damage is not believed, and not fatal.
    fs::write(&kept[0], "{").unwrap();
    assert_eq!(user.run(&["doctor", "--json", "--threads", "1"]).json()["tuning"], serde_json::json!([]));
    assert_eq!(ids(&["--tune", "again"]), plain);
}
