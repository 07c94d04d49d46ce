//! `bitnet pull` against a server that plays the hub.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::{fs, path::PathBuf};

use common::{
    ORACLE_MADE, User,
    hub::{COMMIT, Plan, sha256},
    oracle,
};

const MODEL: &str = "bitnet-a-offline-packed";
const FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
];

/// A repository with a model and with things that running it does not take.
fn model() -> Plan {
    let plan = FILES.iter().fold(Plan::default(), |plan, name| {
        plan.file(name, fs::read(format!("{}/{name}", oracle(MODEL))).unwrap())
    });
    plan.file("README.md", "words")
        .file("pytorch_model.bin", vec![0; 1000])
        .file("onnx/model.safetensors", "no")
}

fn weights() -> Vec<u8> {
    fs::read(format!("{}/model.safetensors", oracle(MODEL))).unwrap()
}

fn user(endpoint: &str) -> User {
    let user = User::new().with("HF_ENDPOINT", endpoint);
    let home = user.path("hf");
    user.with("HF_HOME", home)
}

fn folder(user: &User) -> PathBuf {
    user.path("hf/hub/models--some--model")
}

/// Files under `blobs`, sorted.
fn blobs(user: &User) -> Vec<String> {
    let entries = fs::read_dir(folder(user).join("blobs")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn fetches_what_running_takes_and_runs_it_without_the_network() {
    let hub = model().serve();
    let user = user(&hub.endpoint);
    let done = user.run(&["pull", "some/model"]);
    let path = PathBuf::from(done.ok().trim_end());
    assert_eq!(path, folder(&user).join("snapshots").join(COMMIT));
    let mut names: Vec<_> =
        fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected = FILES.to_vec();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), weights());
    // The layout that other clients of the hub read.
    assert!(folder(&user).join("blobs").join(sha256(&weights())).is_file());
    assert_eq!(fs::read_to_string(folder(&user).join("refs/main")).unwrap(), COMMIT);
    assert!(fs::symlink_metadata(path.join("config.json")).unwrap().is_symlink());

    let fetched = hub.requests().len();
    let again = user.run(&["pull", "some/model", "--json"]).json();
    assert_eq!(hub.requests().len(), fetched + 1, "only the list is asked for again");
    assert_eq!(again["commit"], COMMIT);
    assert!(again["files"].as_array().unwrap().iter().all(|f| f["fetched"] == false));

    // Nobody is asked any more.
    let offline = user.with("HF_ENDPOINT", "http://127.0.0.1:9").with("HF_HUB_OFFLINE", "1");
    let run = offline.run(&["run", "some/model", "First Citizen:", "--greedy", "-n", "3", "--print", "ids"]);
    let direct =
        offline.run(&["run", &oracle(MODEL), "First Citizen:", "--greedy", "-n", "3", "--print", "ids"]);
    assert_eq!(run.ok(), direct.ok());
    assert_eq!(hub.requests().len(), fetched + 1);
}

#[test]
fn goes_on_where_a_connection_broke() {
    let mut plan = model();
    plan.cut = Some(("model.safetensors".into(), 1_000_000, 1));
    let hub = plan.serve();
    let user = user(&hub.endpoint);
    user.run(&["pull", "some/model"]).ok();
    assert_eq!(hub.gets("/store/model.safetensors"), ["-", "1000000-"]);
    assert_eq!(fs::read(folder(&user).join("blobs").join(sha256(&weights()))).unwrap(), weights());
}

#[test]
fn goes_on_where_an_earlier_command_stopped() {
    let mut plan = model();
    plan.cut = Some(("model.safetensors".into(), 0, usize::MAX));
    let hub = plan.serve();
    let mine = user(&hub.endpoint);
    mine.run(&["pull", "some/model"])
        .fails(1, &["'model.safetensors' broke off", "run the same command again"]);
    assert!(!folder(&mine).join("refs/main").exists(), "an incomplete model is not announced");
    mine.run(&["run", "some/model", "hi"]).fails(1, &["bitnet pull some/model"]);

    let partial = folder(&mine).join("blobs").join(format!("{}.incomplete", sha256(&weights())));
    fs::write(&partial, &weights()[..700_000]).unwrap();
    let hub = model().serve();
    let mine = mine.with("HF_ENDPOINT", &hub.endpoint);
    mine.run(&["pull", "some/model"]).ok();
    assert_eq!(hub.gets("/store/model.safetensors"), ["700000-"]);
    assert!(!partial.exists());
}

#[test]
fn starts_over_where_ranges_are_not_known() {
    let mut plan = model();
    plan.no_ranges = true;
    plan.cut = Some(("model.safetensors".into(), 500_000, 1));
    let hub = plan.serve();
    let user = user(&hub.endpoint);
    user.run(&["pull", "some/model"]).ok();
    assert_eq!(fs::read(folder(&user).join("blobs").join(sha256(&weights()))).unwrap(), weights());
}

#[test]
fn refuses_what_has_a_wrong_checksum() {
    for name in ["model.safetensors", "tokenizer.json"] {
        let mut plan = model();
        plan.corrupt = Some(name.into());
        let hub = plan.serve();
        let user = user(&hub.endpoint);
        user.run(&["pull", "some/model"]).fails(1, &[&format!("'{name}' does not have the checksum")]);
        assert!(blobs(&user).iter().all(|b| !b.ends_with(".incomplete")), "{:?}", blobs(&user));
        assert!(!folder(&user).join("snapshots").join(COMMIT).join(name).exists());
        assert!(!folder(&user).join("refs/main").exists());
    }
}

#[test]
fn a_damaged_partial_file_is_found_out() {
    let hub = model().serve();
    let user = user(&hub.endpoint);
    fs::create_dir_all(folder(&user).join("blobs")).unwrap();
    let partial = folder(&user).join("blobs").join(format!("{}.incomplete", sha256(&weights())));
    fs::write(&partial, vec![7; 1000]).unwrap();
    user.run(&["pull", "some/model"]).fails(1, &["checksum", "thrown away"]);
    user.run(&["pull", "some/model"]).ok();
    // One that is too long to be a beginning is dropped at once.
    fs::remove_file(folder(&user).join("blobs").join(sha256(&weights()))).unwrap();
    fs::write(&partial, vec![7; weights().len() + 1]).unwrap();
    user.run(&["pull", "some/model"]).ok();
}

#[test]
fn says_why_the_hub_refuses() {
    let cases: [(u16, &str, &[&str]); 5] = [
        (404, "RepoNotFound", &["knows no model some/model", "spelling"]),
        (401, "", &["knows no model some/model", "HF_TOKEN"]),
        (403, "GatedRepo", &["some/model is gated", "HF_TOKEN"]),
        (404, "RevisionNotFound", &["has no revision 'main'"]),
        (503, "", &["answers 503", "again later"]),
    ];
    for (status, code, parts) in cases {
        let hub = Plan { refuse: Some((status, code)), ..model() }.serve();
        user(&hub.endpoint).run(&["pull", "some/model"]).fails(1, parts);
    }
}

#[test]
fn gives_the_token_to_the_hub() {
    let hub = Plan { token: Some("hf_secret"), ..model() }.serve();
    let user = user(&hub.endpoint);
    user.run(&["pull", "some/model"]).fails(1, &["gated"]);
    fs::create_dir_all(user.path("hf")).unwrap();
    user.file("hf/token", "hf_secret\n");
    let done = user.run(&["pull", "some/model"]);
    done.ok();
    assert!(!done.stderr.contains("hf_secret"));
}

#[test]
fn says_when_nobody_answers() {
    // Nothing listens on the discard port of this machine.
    user("http://127.0.0.1:9")
        .run(&["pull", "some/model"])
        .fails(1, &["cannot reach http://127.0.0.1:9", "network"]);
    user("not-an-address").run(&["pull", "some/model"]).fails(1, &["HF_ENDPOINT"]);
    let offline = User::new().with("HF_HUB_OFFLINE", "1");
    offline.run(&["pull", "some/model"]).fails(1, &["HF_HUB_OFFLINE"]);
    for wrong in ["model", "a/b/c", "../x", "a/b c", ""] {
        User::new().run(&["pull", wrong]).fails(2, &["OWNER/REPO"]);
    }
}

#[test]
fn of_several_files_one_must_be_named() {
    let gguf = fs::read(oracle("gguf/bitnet-c-embdQ8_0-TQ2_0.gguf")).unwrap();
    let hub = Plan::default()
        .file("a.gguf", gguf.clone())
        .file("b.gguf", gguf.clone())
        .file("README.md", "x")
        .serve();
    let user = user(&hub.endpoint);
    user.run(&["pull", "some/model"]).fails(1, &["several models", "--file", "a.gguf, b.gguf"]);
    user.run(&["pull", "some/model", "--file", "c.gguf"]).fails(1, &["no file 'c.gguf'", "a.gguf"]);
    let path = user.run(&["pull", "some/model", "--file", "b.gguf"]);
    assert!(path.ok().trim_end().ends_with("b.gguf"));
    assert_eq!(fs::read(path.ok().trim_end()).unwrap(), gguf);
    assert!(hub.gets("a.gguf").is_empty());
    user.run(&["inspect", "some/model"]).ok();
    user.run(&["inspect", "some/model:b.gguf"]).ok();
    user.run(&["inspect", "some/model:a.gguf"]).fails(1, &["--file a.gguf"]);
    user.run(&["pull", "some/model", "--file", "a.gguf"]).ok();
    user.run(&["inspect", "some/model"]).fails(1, &["several models", "some/model:a.gguf"]);
}

#[test]
fn fetches_all_shards_of_the_index() {
    let folder = format!("{ORACLE_MADE}/bitnet-d-offline-packed-3shards");
    let names = fs::read_dir(&folder).unwrap().flatten().filter(|e| e.path().is_file());
    let plan = names.fold(Plan::default(), |plan, e| {
        plan.file(e.file_name().to_str().unwrap(), fs::read(e.path()).unwrap())
    });
    // Not in the index, so not needed.
    let hub = plan.file("consolidated.safetensors", "x").serve();
    let user = user(&hub.endpoint);
    let path = PathBuf::from(user.run(&["pull", "some/model"]).ok().trim_end());
    let shards = fs::read_dir(&path)
        .unwrap()
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|e| e == "safetensors"));
    assert_eq!(shards.count(), 3);
    user.run(&["inspect", "some/model"]).ok();
}

#[test]
fn nothing_is_written_outside_of_the_cache() {
    let hub = Plan { also_listed: vec!["../../evil.gguf", "/etc/evil.gguf"], ..Plan::default() }
        .file("x.txt", "x")
        .serve();
    let mine = user(&hub.endpoint);
    mine.run(&["pull", "some/model"]).fails(1, &["neither safetensors nor GGUF"]);
    mine.run(&["pull", "some/model", "--file", "../../evil.gguf"]).fails(1, &["no file"]);

    let hub = Plan { etag: Some("../../evil"), ..model() }.serve();
    let mine = user(&hub.endpoint);
    mine.run(&["pull", "some/model"]).fails(1, &["entity tag"]);
    assert_eq!(blobs(&mine), [""; 0]);

    let index = r#"{"weight_map": {"a": "../../evil.safetensors"}}"#;
    let hub = model().file("model.safetensors.index.json", index).serve();
    user(&hub.endpoint).run(&["pull", "some/model"]).fails(1, &["names a file outside"]);
}

#[test]
fn says_when_there_is_no_checksum() {
    let hub = Plan { etag: Some("opaque-tag"), ..Plan::default() }.file("a.gguf", vec![1; 10]).serve();
    let done = user(&hub.endpoint).run(&["pull", "some/model"]);
    done.ok();
    assert!(done.stderr.contains("no checksum for 'a.gguf'"), "{}", done.stderr);
}

#[test]
fn the_revision_that_is_asked_for_is_fetched() {
    let hub = Plan { revision: Some("v1.0"), ..model() }.serve();
    let user = user(&hub.endpoint);
    user.run(&["pull", "some/model"]).fails(1, &["some/model"]);
    user.run(&["pull", "some/model", "--revision", "v1.0"]).ok();
    assert!(hub.requests().iter().any(|line| line.contains("/revision/v1.0 ")), "{:?}", hub.requests());
    assert_eq!(fs::read_to_string(folder(&user).join("refs/v1.0")).unwrap(), COMMIT);
    assert!(!folder(&user).join("refs/main").exists());
    user.run(&["inspect", "some/model"]).ok();
    user.run(&["pull", "https://huggingface.co/some/model/tree/v1.0", "--revision", "v2"])
        .fails(2, &["'v1.0'", "'v2'"]);
}

#[test]
fn a_wrong_part_is_not_taken_for_the_one_that_is_missing() {
    for etag in [None, Some("opaque-tag")] {
        let mut plan = Plan { wrong_part: true, etag, ..model() };
        plan.cut = Some(("model.safetensors".into(), 1_000_000, 1));
        let hub = plan.serve();
        let user = user(&hub.endpoint);
        let path = user.run(&["pull", "some/model", "--file", "model.safetensors"]);
        assert_eq!(fs::read(path.ok().trim_end()).unwrap(), weights());
        assert_eq!(hub.gets("/store/model.safetensors"), ["-", "1000000-", "-"]);
    }
}

#[test]
fn a_mirror_may_redirect_before_the_hub_answers() {
    for status in [301, 302, 303, 307, 308] {
        let hub = Plan { elsewhere: true, ..model() }.serve();
        let mirror = Plan { mirrors: Some((status, hub.endpoint.clone())), ..Plan::default() }.serve();
        let user = user(&mirror.endpoint).with("HF_TOKEN", "hf_secret");
        user.run(&["pull", "some/model"]).ok();
        assert_eq!(fs::read(folder(&user).join("blobs").join(sha256(&weights()))).unwrap(), weights());
        // The hub is at another port than the endpoint: the token is not for it.
        assert!(mirror.tokens() > 0 && hub.tokens() == 0, "{status}: {}", hub.tokens());
    }
    let first = Plan { mirrors: Some((302, String::new())), ..Plan::default() }.serve();
    user(&first.endpoint).run(&["pull", "some/model"]).fails(1, &["in circles"]);
}

#[test]
fn the_parts_of_a_split_file_are_one_model() {
    // What is in the parts does not matter to the hub.
    let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let plan = parts.iter().fold(Plan::default(), |plan, name| plan.file(name, *name));
    let hub = plan.clone().serve();
    let whole = user(&hub.endpoint);
    let path = PathBuf::from(whole.run(&["pull", "some/model"]).ok().trim_end());
    assert!(path.ends_with(parts[0]) && path.with_file_name(parts[1]).is_file());

    // Beside another model one must be named, and any part stands for all.
    let hub = plan.file("x.gguf", "x").serve();
    let one = user(&hub.endpoint);
    let told = one.run(&["pull", "some/model"]);
    told.fails(1, &["several models", "with one of m-00001-of-00002.gguf, x.gguf"]);
    for asked in [&["some/model:m-00002-of-00002.gguf"][..], &["some/model", "--file", parts[1]]] {
        let path = PathBuf::from(one.run(&[&["pull"], asked].concat()).ok().trim_end());
        assert!(path.ends_with(parts[0]) && path.with_file_name(parts[1]).is_file());
    }
    assert!(hub.gets("x.gguf").is_empty());
    let torn = Plan::default().file(parts[1], "half").serve();
    user(&torn.endpoint)
        .run(&["pull", "some/model"])
        .fails(1, &["all 2 parts", "'m-00001-of-00002.gguf' is missing"]);
}

#[test]
fn what_was_fetched_is_listed_and_removed() {
    let hub = model().serve();
    let user = user(&hub.endpoint);
    assert!(user.run(&["list"]).stderr.contains("no model was fetched"));
    user.run(&["pull", "some/model"]).ok();
    let told = user.run(&["list", "--json"]).json();
    let sizes: u64 =
        FILES.iter().map(|name| fs::metadata(format!("{}/{name}", oracle(MODEL))).unwrap().len()).sum();
    assert_eq!((told[0]["repo"].as_str(), told[0]["bytes"].as_u64()), (Some("some/model"), Some(sizes)));
    assert_eq!(told[0]["revisions"], serde_json::json!(["main"]));
    assert!(user.run(&["list"]).ok().contains("some/model"));

    user.run(&["remove", "some/model"]).fails(2, &["--yes"]);
    user.run(&["remove", "some/other", "--yes"]).fails(1, &["some/other was not fetched", "bitnet list"]);
    user.run(&["remove", "../model", "--yes"]).fails(2, &["OWNER/REPO"]);
    assert!(folder(&user).exists());
    user.run(&["remove", "some/model", "--yes"]).ok();
    assert!(!folder(&user).exists());
    assert_eq!(user.run(&["list", "--json"]).json(), serde_json::json!([]));
    assert!(user.path("hf/hub").is_dir());
}

#[cfg(unix)]
#[test]
fn removing_follows_no_links() {
    use std::os::unix::fs::symlink;
    let hub = model().serve();
    let user = user(&hub.endpoint);
    user.run(&["pull", "some/model"]).ok();
    fs::create_dir(user.path("precious")).unwrap();
    let kept = user.file("precious/blob", "precious");
    for place in ["blobs/link", "snapshots/link", "link"] {
        symlink(user.path("precious"), folder(&user).join(place)).unwrap();
    }
    symlink(user.path("precious"), user.path("hf/hub/models--a--link")).unwrap();
    let told = user.run(&["list", "--json"]).json();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    user.run(&["remove", "a/link", "--yes"]).fails(1, &["a/link was not fetched"]);
    user.run(&["remove", "some/model", "--force"]).ok();
    assert!(!folder(&user).exists());
    assert_eq!(fs::read(kept).unwrap(), b"precious");
}
