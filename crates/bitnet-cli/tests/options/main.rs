//! Options arrive where they are meant to: what is parsed and then left out is seen here. Every option of every verb has a row, or
//! stands in [`rows::ELSEWHERE`] with the test that has it.
#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../common/mod.rs"]
mod common;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use common::{Done, User, oracle};
use rows::{
    ELSEWHERE,
    Seen::{Allows, Changes, Json, Refused, Tells},
    rows,
};
use serde_json::Value;

const TWIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/float-twin");
const TASKS: &str = r#"{"query": "First Citizen", "choices": [":", " the people"], "gold": 0}"#;

/// Files that command lines name.
struct Place {
    user: User,
    paths: BTreeMap<&'static str, String>,
}

impl Place {
    fn new() -> Self {
        let user = User::new();
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let shakespeare =
            read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt"));
        let mut paths = BTreeMap::from([
            ("{model}", oracle("bitnet-a-offline-packed")),
            ("{i2s}", oracle("gguf/bitnet-a-I2_S.gguf")),
            ("{text}", user.file("text.txt", &shakespeare[..2500])),
            ("{ids}", user.file("ids.json", "[2043, 300, 301, 302, 303]")),
            ("{master}", oracle("bitnet-a-online-bf16")),
            ("{twin}", TWIN.to_owned()),
            ("{held}", format!("{TWIN}/held-out.txt")),
            ("{tasks}", user.file("tasks.jsonl", TASKS)),
        ]);
        for (word, name) in [("{out}", "out"), ("{there}", "there")] {
            paths.insert(word, user.path(name).to_str().unwrap().to_owned());
        }
        let folder = user.path("pages");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("bitnet.1"), "a page").unwrap();
        paths.insert("{folder}", folder.to_str().unwrap().to_owned());
        let job = user.path("job.toml");
        user.run(&["quantize", "--init", job.to_str().unwrap()]).ok();
        let text = read(job.to_str().unwrap()).replacen("model = \"\"", &format!("model = {TWIN:?}"), 1);
        paths.insert("{job}", user.file("job.toml", text));
        Self { user, paths }
    }

    /// Runs a command line; a chat hears two lines.
    fn run(&self, line: &str) -> Done {
        let out = Path::new(&self.paths["{out}"]);
        let _ = fs::remove_file(out);
        let _ = fs::remove_dir_all(out);
        fs::write(&self.paths["{there}"], "here first").unwrap();
        let words: Vec<_> =
            line.split_whitespace().map(|word| self.paths.get(word).map_or(word, String::as_str)).collect();
        if words[0] == "chat" { self.user.pipe(&words, "Speak.\nAgain?\n") } else { self.user.run(&words) }
    }

    /// What a run gave, without what is another thing each time: standard output, the file it wrote, how the model was run.
    fn result(&self, done: &Done) -> String {
        let line = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(json) => steady(json).to_string(),
            Err(_) => line.to_owned(),
        };
        let mut text = match serde_json::from_str::<Value>(done.out()) {
            Ok(json) => steady(json).to_string(),
            // A chat prints an object for each answer.
            Err(_) => {
                let lines = done.out().lines().filter(|line| !line.starts_with("free here"));
                lines.map(line).collect::<Vec<_>>().join("\n")
            }
        };
        text.extend(done.stderr.lines().filter(|line| line.contains("model loaded")));
        text + &format!("{:?}", fs::read(&self.paths["{out}"]).ok())
    }
}

/// What a clock or the machine's other work has a part in.
const VOLATILE: &str = "speed seconds tokens_per_s median min max spread rate limit limit_unit limits of_limit reliable peak above \
    free_bytes joules_per_token empty_step_s fair_share of_fair_share available used_of_limit swap_used in_use best buffer_bytes \
    huge_page_bytes findings cpu";

/// JSON without that; of samples and parts of a step the number stays, of notes what is not about the measuring.
fn steady(json: Value) -> Value {
    match json {
        Value::Object(entries) => entries
            .into_iter()
            .filter(|(key, _)| !VOLATILE.split_whitespace().any(|word| word == key))
            .map(|(key, value)| match key.as_str() {
                "samples" | "breakdown" => (key, value.as_array().unwrap().len().into()),
                "notes" => (key, value.to_string().contains("zeros are left out").into()),
                _ => (key, steady(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(steady).collect(),
        other => other,
    }
}

#[test]
fn every_option_arrives() {
    let place = Place::new();
    let mut wrong = Vec::new();
    let (mut known, mut repeated) = (BTreeMap::new(), BTreeSet::new());
    for (base, option, seen) in rows() {
        let (first, second) = option.split_once('|').unwrap_or(("", option));
        let without = format!("{base} {first}");
        let (plain, before) = known.entry(without.clone()).or_insert_with(|| {
            let done = place.run(&without);
            let result = place.result(&done);
            (done, result)
        });
        if matches!(seen, Changes) && repeated.insert(without.clone()) {
            let again = place.run(&without);
            if place.result(&again) != *before {
                wrong.push(format!("{without}: twice the same gives two results"));
            }
        }
        let done = place.run(&format!("{base} {second}"));
        let (works, worked) = (done.code == 0, plain.code == 0);
        let json = |done: &Done| serde_json::from_str::<Value>(done.out()).is_ok();
        let right = match seen {
            Changes => worked && works && place.result(&done) != *before,
            Tells(words) => worked && works && done.stderr.contains(words) && !plain.stderr.contains(words),
            Refused(words) => worked && !works && done.stderr.contains(words),
            Allows => !worked && works,
            Json => worked && works && json(&done) && !json(plain),
        };
        if !right {
            let codes = format!("status {}, then {}", plain.code, done.code);
            wrong.push(format!("{base} {option}: {codes}\n{}\n{}", plain.stderr, done.stderr));
        }
    }
    assert!(wrong.is_empty(), "{} options do not show:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_hub_is_asked_for_the_revision() {
    let hub = common::hub::Plan::default().serve();
    let user = User::new().with("HF_ENDPOINT", &hub.endpoint);
    user.run(&["pull", "some/model", "--revision", "v2"]).fails(1, &["some/model"]);
    let asked = hub.requests();
    assert!(asked.iter().all(|line| line.contains("/revision/v2 ")) && !asked.is_empty(), "{asked:?}");
}

/// The options of every verb, as the command itself lists them for a shell.
fn options() -> BTreeSet<(String, String)> {
    let everywhere = ["color", "quiet", "verbose", "help", "version"];
    let script = common::bitnet(&["completions", "fish"]);
    let lines = script.ok().lines().filter_map(|line| {
        let (_, rest) = line.split_once("__fish_bitnet_using_subcommand ")?;
        let (verb, rest) = rest.split_once('"')?;
        let (_, long) = rest.split_once(" -l ")?;
        Some((verb.to_owned(), long.split(' ').next()?.to_owned()))
    });
    lines.filter(|(_, long)| !everywhere.contains(&long.as_str())).collect()
}

#[test]
fn every_option_of_every_verb_has_a_row() {
    let all = options();
    assert!(all.len() > 150, "{all:?}");
    let mut seen = BTreeSet::new();
    for (base, option, _) in rows() {
        let verb = base.split(' ').next().unwrap();
        let words = option.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        seen.extend(words.map(|word| (verb.to_owned(), word.split('=').next().unwrap().to_owned())));
    }
    for (verb, options, _) in ELSEWHERE {
        seen.extend(options.split(' ').map(|option| (verb.to_owned(), option.to_owned())));
    }
    let without: Vec<_> = all.difference(&seen).collect();
    assert!(without.is_empty(), "options without a row: {without:?}");
}
