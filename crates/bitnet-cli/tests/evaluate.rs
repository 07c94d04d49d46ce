//! `bitnet evaluate`: figures as tables and as JSON, and each mistake in its own words. Whether the figures are right is for
//! `bitnet-evaluation/tests/evaluation.rs`.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{ORACLE_MADE, User, bitnet, oracle};

const MODEL: &str = "bitnet-a-offline-packed";

fn text() -> String {
    format!("{ORACLE_MADE}/tinyshakespeare-6000.txt")
}

#[test]
fn a_text_is_scored_as_perplexity_scores_it() {
    let more = ["--window", "128", "--stride", "100", "--json"];
    let told = bitnet(&[&["evaluate", "box", "--text", &text()][..], &more].concat()).json();
    let wanted = bitnet(&[&["perplexity", "box", "--file", &text()][..], &more].concat()).json();
    for key in ["mean_nll", "perplexity", "tokens", "tokens_scored", "windows", "window", "stride"] {
        assert_eq!(told["text"][key], wanted[key], "{key}");
    }
    let text = &told["text"];
    let bits = |nats: f64, bytes: f64| nats / std::f64::consts::LN_2 / bytes;
    let nats = text["mean_nll"].as_f64().unwrap() * text["tokens_scored"].as_f64().unwrap();
    // The text is ASCII, 6,000 bytes, and nearly all of it is scored.
    let (least, most) = (bits(nats, 6000.0), bits(nats, 5500.0));
    assert!((least..most).contains(&text["bits_per_byte"].as_f64().unwrap()), "{text}");
    assert!(text.get("against").is_none() && told.get("tasks").is_none());
}

#[test]
fn two_models_side_by_side() {
    let base = ["evaluate", &oracle(MODEL), "--text", &text(), "--window", "64"].map(str::to_owned);
    let run = |against: &str, more: &[&str]| {
        let more = [&["--against", against][..], more].concat().into_iter().map(str::to_owned);
        bitnet(&base.iter().cloned().chain(more).collect::<Vec<_>>())
    };
    // Nearly the same weights: this file's embedding and scales are f16.
    let same = run(&oracle("gguf/bitnet-a-TQ1_0.gguf"), &["--json"]).json();
    let against = &same["text"]["against"];
    assert!(
        against["kl"]["max"].as_f64().unwrap() < 0.1 && against["top1_agreement"].as_f64().unwrap() > 0.95
    );
    let itself = run(&oracle(MODEL), &["--json"]).json();
    assert_eq!(itself["text"]["against"]["kl"]["max"], 0.0);
    assert_eq!(itself["text"]["against"]["logit_difference"]["max"], 0.0);
    let words = run(&oracle("bitnet-c-silu-online-bf16"), &[]);
    for part in
        ["nats/token", "bits/byte", "KL divergence", "same first choice", "|logit difference|", "scored"]
    {
        assert!(words.ok().contains(part), "{part} is not in {}", words.ok());
    }
}

#[test]
fn questions_are_counted() {
    let user = User::new();
    let file = user.file(
        "tasks.jsonl",
        "{\"query\": \"First Citizen:\\nBefore we proceed any further, hear me\", \"choices\": [\"speak\", \"go\"], \"gold\": 0}\n\n\
         {\"question\": \"All:\\nSpeak,\", \"choices\": [\"never at all\", \"speak\"], \"answer\": \"B\"}\n",
    );
    let told = user.run(&["evaluate", &oracle(MODEL), "--tasks", &file, "--tasks", &file, "--json"]).json();
    assert_eq!(told["tasks"].as_array().unwrap().len(), 2);
    let task = &told["tasks"][0];
    assert_eq!(
        (&task["questions"], &task["accuracy"], &task["chance"]),
        (&2.into(), &1.0.into(), &0.5.into())
    );
    assert_eq!(task["answers"][1]["line"], 3);
    assert_eq!(task, &told["tasks"][1]);
    let words = user.run(&["evaluate", &oracle(MODEL), "--tasks", &file]);
    assert!(words.ok().contains("100.00 %") && words.ok().contains("tasks.jsonl"), "{}", words.ok());
}

#[test]
fn each_mistake_has_its_own_words() {
    let user = User::new();
    let model = oracle(MODEL);
    let evaluate = |args: &[&str]| user.run(&[&["evaluate", &model], args].concat());
    evaluate(&[]).fails(2, &["--file"]);
    evaluate(&["--against", "box"]).fails(2, &["--file"]);
    evaluate(&["--text", "nowhere.txt"]).fails(1, &["cannot read nowhere.txt"]);
    evaluate(&["--text", &user.file("empty.txt", "")]).fails(1, &["holds no text"]);
    evaluate(&["--text", &user.file("bytes.txt", [0xff])]).fails(1, &["not UTF-8"]);
    evaluate(&["--text", &text(), "--against", "nowhere"]).fails(1, &["no model 'nowhere'"]);
    evaluate(&["--text", &text(), "--window", "64", "--context", "32"]).fails(1, &["a window of 64"]);
    let other = format!("{ORACLE_MADE}/bitnet-e-bitlinear-packed");
    evaluate(&["--text", &text(), "--against", &other]).fails(1, &["cannot be compared"]);
    let good = "{\"query\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": 0}\n";
    let tasks = |lines: &str| evaluate(&["--tasks", &user.file("tasks.jsonl", lines)]);
    tasks(&format!("{good}{{\"query\n{good}")).fails(1, &["tasks.jsonl, line 2: this is not JSON"]);
    tasks(&format!("{good}{good}{{\"query\": \"a\", \"gold\": 0}}"))
        .fails(1, &["line 3: there are no choices"]);
    tasks("").fails(1, &["there is no question in the file"]);
    let long = format!(
        "{good}{{\"query\": \"{}\", \"choices\": [\"b\", \"c\"], \"gold\": 0}}",
        "word ".repeat(6000)
    );
    tasks(&long).fails(1, &["line 2: question and answer have", "--context"]);
}

#[test]
fn a_tokenizer_that_differs_in_one_token_is_another() {
    let user = User::new();
    let copy = |name: &str, change: &dyn Fn(String) -> String| {
        let folder = user.path(name);
        fs::create_dir(&folder).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            let bytes = fs::read(format!("{}/{file}", oracle(MODEL))).unwrap();
            let bytes = match file {
                "tokenizer.json" => change(String::from_utf8(bytes).unwrap()).into_bytes(),
                _ => bytes,
            };
            fs::write(folder.join(file), bytes).unwrap();
        }
        folder.to_str().unwrap().to_owned()
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    // One merge less: the same tokens, and a text is cut differently.
    let cut = copy("cut", &|text| {
        let mut value = json(&text);
        value["model"]["merges"].as_array_mut().unwrap().remove(20);
        value.to_string()
    });
    let against =
        |other: &str| user.run(&["evaluate", &oracle(MODEL), "--text", &text(), "--against", other]);
    against(&cut).fails(1, &["their tokenizers cut this text differently"]);
    // Two words that change places.
    let swapped = copy("swapped", &|text| {
        let mut value = json(&text);
        let vocabulary = value["model"]["vocab"].as_object_mut().unwrap();
        let [a, b] = ["A", "B"].map(|word| vocabulary[word].clone());
        vocabulary.insert("A".into(), b);
        vocabulary.insert("B".into(), a);
        value.to_string()
    });
    against(&swapped).fails(1, &["their tokenizers differ: token", "\"A\"", "\"B\""]);
    // Nothing is put before a text, so an empty question has nothing that predicts its answer.
    let bare = copy("bare", &|text| {
        let mut value = json(&text);
        value["post_processor"] = serde_json::Value::Null;
        value.to_string()
    });
    against(&bare).fails(1, &["their texts begin differently"]);
    let tasks = user.file("tasks.jsonl", "{\"query\": \"\", \"choices\": [\"b\", \"c\"], \"gold\": 0}");
    user.run(&["evaluate", &bare, "--tasks", &tasks]).fails(1, &["line 1: the question is empty"]);
}
