//! Options of `run`, `logits` and `perplexity` arrive where they are meant to: what is parsed and then left out is seen here.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use common::{Done, User, oracle};
use serde_json::Value;

/// How an option shows.
enum Seen {
    /// The result is another one than without it.
    Changes,
    /// The same on standard error, which has these words with the option only.
    Tells(&'static str),
    /// The value reaches somebody who refuses it, with these words.
    Refused(&'static str),
    /// What fails without it is done with it.
    Allows,
    /// Standard output is JSON with it, and was not.
    Json,
}

use Seen::{Allows, Changes, Json, Refused, Tells};

/// A command line, the option that is added to it, and how it shows. `--a 1 | --a 2` compares two values, for what is another thing each
/// time without the option. Words in braces are paths of [`Place`].
type Row = (&'static str, &'static str, Seen);

/// What is added to command lines that choose tokens.
const SAMPLING: [Row; 11] = [
    ("", "--temperature 4 --seed 7 | --greedy", Changes),
    ("--seed 7", "--temperature 4", Changes),
    ("--seed 7 --temperature 4", "--top-k 2", Changes),
    ("--seed 7 --temperature 4", "--top-p 0.05", Changes),
    ("--seed 7 --temperature 4", "--min-p 0.9", Changes),
    ("--seed 7 --greedy", "--repetition-penalty 3", Changes),
    ("--seed 7 --greedy", "--frequency-penalty 8", Changes),
    ("--seed 7 --greedy", "--presence-penalty 8", Changes),
    ("--seed 7 --greedy --repetition-penalty 3", "--penalty-window 1", Changes),
    ("--seed 7 --greedy", "--logit-bias 30=100", Changes),
    ("--temperature 1", "--seed 7 | --seed 8", Changes),
];

/// What is added to command lines that run a model; with `-v` they say how they run it.
const ENGINE: [Row; 8] = [
    ("", "--threads 3", Changes),
    ("", "--kernel scalar", Changes),
    ("", "--activations float", Changes),
    ("", "--kv int8", Changes),
    ("", "--sparsity on", Changes),
    ("", "--layout base3", Changes),
    ("", "--tune again", Tells("measuring how this machine")),
    ("", "--adapter nowhere", Refused("nowhere")),
];

const RUN: &str = "run {model} First -v --json --logprobs 0 -n 24 --ignore-eos";
const RUN_ROWS: [Row; 13] = [
    ("run -p First -n 3 --seed 7", "--model {model}", Changes),
    ("run {model} First -n 3 --seed 7", "--stats", Tells("/s)")),
    ("run {model} First -n 3 --seed 7", "--print ids", Changes),
    ("run {model} First -n 3 --seed 7", "--json", Json),
    ("run {model} First -n 3 --seed 7 --json", "--logprobs 1", Changes),
    ("run {model} First --seed 7 --json -n 9", "--chat", Changes),
    ("run {model} First --seed 7 --json -n 9 --chat", "--system Short.", Changes),
    ("run {model} First --seed 7 --json --greedy", "--max-new-tokens 5", Changes),
    ("run {model} First --seed 7 --json --logit-bias 2044=1000", "--ignore-eos", Changes),
    ("run {model} First --seed 7 --json --greedy -n 60", "--stop e", Changes),
    ("run {model} First --seed 7 --json --greedy -n 60", "--context 20", Changes),
    ("run {i2s} First --seed 7 --json -n 5", "--i2s-64", Changes),
    ("run {model}", "--prompt First", Allows),
];

const LOGITS: &str = "logits {model} -v --ids-file {ids} --out {out}";
const LOGITS_ROWS: [Row; 4] = [
    ("logits {i2s} --ids-file {ids} --out {out}", "--i2s-64", Changes),
    ("logits {model} --ids-file {ids} --out {out}", "--context 2", Refused("context")),
    ("logits {model} --ids-file {ids}", "--out {out}", Allows),
    ("logits {model} --out {out}", "--ids-file {ids}", Allows),
];

const PERPLEXITY: &str = "perplexity {model} -v --file {text} --json";
const PERPLEXITY_ROWS: [Row; 6] = [
    ("perplexity {model}", "--file {text}", Allows),
    ("perplexity {model} --file {text} --json", "--window 64", Changes),
    ("perplexity {model} --file {text} --json --window 64", "--stride 20", Changes),
    ("perplexity {model} --file {text} --json --window 64", "--context 32", Refused("a window of 64")),
    ("perplexity {model} --file {text}", "--json", Json),
    ("perplexity {i2s} --file {text} --json", "--i2s-64", Changes),
];

/// All rows, each with its whole command line.
fn rows() -> Vec<(String, &'static str, Seen)> {
    let plain = RUN_ROWS.into_iter().chain(LOGITS_ROWS).chain(PERPLEXITY_ROWS);
    let mut rows: Vec<_> = plain.map(|(base, option, seen)| (base.to_owned(), option, seen)).collect();
    let mut add = |base: &str, with: Vec<Row>| {
        rows.extend(
            with.into_iter().map(|(beside, option, seen)| (format!("{base} {beside}"), option, seen)),
        );
    };
    add(RUN, SAMPLING.into());
    add(&format!("{RUN} --seed 7 --temperature 3"), ENGINE.into());
    for base in [LOGITS, PERPLEXITY] {
        add(base, ENGINE.into());
    }
    rows
}

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
        ]);
        for (word, name) in [("{out}", "out"), ("{there}", "there")] {
            paths.insert(word, user.path(name).to_str().unwrap().to_owned());
        }
        Self { user, paths }
    }

    /// Runs a command line; a chat hears two lines.
    fn run(&self, line: &str) -> Done {
        let out = Path::new(&self.paths["{out}"]);
        let _ = fs::remove_file(out);
        fs::write(&self.paths["{there}"], "here first").unwrap();
        let words: Vec<_> =
            line.split_whitespace().map(|word| self.paths.get(word).map_or(word, String::as_str)).collect();
        if words[0] == "chat" { self.user.pipe(&words, "Speak.\nAgain?\n") } else { self.user.run(&words) }
    }

    /// What a run gave, without what is another thing each time: standard output, the file it wrote, how the model was run.
    fn result(&self, done: &Done) -> String {
        let mut text = match serde_json::from_str::<Value>(done.out()) {
            Ok(json) => steady(json).to_string(),
            Err(_) => done
                .out()
                .lines()
                .filter(|line| !line.starts_with("free here"))
                .collect::<Vec<_>>()
                .join("\n"),
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
