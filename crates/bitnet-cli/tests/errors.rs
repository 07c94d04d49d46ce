//! Every mistake that a user will make gets one sentence with a cure, the right exit status, and no result.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{User, bitnet, oracle};

const MODEL: &str = "bitnet-a-offline-packed";

#[test]
fn a_word_that_is_no_model() {
    bitnet(&["run", "Once upon a time"])
        .fails(2, &["'Once upon a time' is no model", "bitnet run --prompt 'Once upon a time'"]);
    bitnet(&["run", "box"]).fails(2, &["there is no prompt", "bitnet run MODEL"]);
    bitnet(&["run", "-m", "box"]).fails(2, &["there is no prompt"]);
    bitnet(&["run", "-m", "box", "-p", "x", "y"]).fails(2, &["'y' is one word too many", "quotes"]);
    bitnet(&["run", "missing.gguf"]).fails(1, &["no model 'missing.gguf'"]);
    bitnet(&["run", "missing/folder", "x"])
        .fails(1, &["no model 'missing/folder'", "bitnet pull missing/folder"]);
    bitnet(&["inspect", "nowhere", "--json"]).fails(1, &["no model 'nowhere'"]);
    bitnet(&["tokenize", "nowhere", "x"]).fails(1, &["no model 'nowhere'"]);
    bitnet(&["chat", "nowhere"]).fails(1, &["no model 'nowhere'"]);
}

#[test]
fn numbers_that_cannot_be() {
    let cases: [(&[&str], &str); 9] = [
        (&["--threads", "0"], "--threads"),
        (&["--threads", "two"], "--threads"),
        (&["--temperature", "-1"], "--temperature"),
        (&["--top-p", "1.5"], "--top-p"),
        (&["--repetition-penalty", "0"], "--repetition-penalty"),
        (&["--logit-bias", "x=1"], "--logit-bias"),
        (&["--context", "0"], "--context"),
        (&["--greedy", "--temperature", "1"], "--temperature"),
        (&["--nonsense"], "--nonsense"),
    ];
    for (args, part) in cases {
        bitnet(&[&["run", "box", "x"], args].concat()).fails(2, &[part]);
    }
    bitnet(&["frobnicate"]).fails(2, &["frobnicate"]);
    let nothing = bitnet::<&str>(&[]);
    assert_eq!((nothing.code, nothing.out()), (2, ""));
    assert!(nothing.stderr.contains("Usage: bitnet"));
}

#[test]
fn kernels_that_cannot_be() {
    for args in [&["run", "box", "x"][..], &["inspect", "box"], &["doctor"]] {
        bitnet(&[args, &["--kernel", "nonsense"]].concat()).fails(2, &["nonsense", "scalar"]);
    }
    User::new()
        .with("BITNET_KERNEL", "nonsense")
        .run(&["run", "box", "x"])
        .fails(1, &["no kernel is named 'nonsense'", "BITNET_KERNEL"]);
}

#[test]
fn ids_that_cannot_be() {
    let user = User::new();
    let out = user.path("out.npy");
    let logits = |ids: &str| user.run(&["logits", "box", "--ids-file", ids, "--out", out.to_str().unwrap()]);
    logits("missing.json").fails(1, &["cannot read missing.json", "no such file"]);
    logits(&user.file("a.json", "{\"ids\": [1]}")).fails(1, &["not a JSON array of token ids", "[1, 2, 3]"]);
    logits(&user.file("b.json", "[1, -2]")).fails(1, &["not a JSON array of token ids"]);
    logits(&user.file("c.json", "[]")).fails(1, &["holds no ids"]);
    logits(&user.file("d.json", "[1, 2048]")).fails(1, &["2048 is outside the vocabulary of 2048"]);
    logits(&user.file("e.json", [0xff, 0xfe])).fails(1, &["not UTF-8"]);
    logits(user.home.path().to_str().unwrap()).fails(1, &["is a directory"]);
    assert!(!out.exists());
    let good = user.file("f.json", "[1, 2]");
    user.run(&["logits", "box", "--ids-file", &good, "--out", "/nowhere/out.npy"])
        .fails(1, &["cannot create /nowhere/out.npy"]);
    let run = |ids: &str| user.run(&["run", "box", "--ids-file", &user.file("g.json", ids), "--greedy"]);
    run("[5000]").fails(1, &["5000", "vocabulary"]);
    run("[]").fails(1, &["empty"]);
    user.run(&["tokenize", "box", "--decode", "[99999]"]).fails(1, &["99999 is outside the vocabulary"]);
    user.run(&["tokenize", "box", "--decode", "hello"]).fails(1, &["not a JSON array"]);
}

#[test]
fn prompts_that_do_not_fit() {
    let long = "word ".repeat(600);
    bitnet(&["run", "box", &long]).fails(1, &["the prompt has", "context", "made for 512"]);
    let file = User::new();
    let text = file.file("text.txt", "short");
    file.run(&["perplexity", "box", "--file", &text, "--window", "100", "--context", "50"])
        .fails(1, &["window"]);
    let empty = file.file("empty.txt", "");
    file.run(&["perplexity", "box", "--file", &empty]).fails(1, &["holds no text"]);
}

#[test]
fn files_that_are_no_models() {
    let user = User::new();
    let folder = user.path("folder");
    fs::create_dir(&folder).unwrap();
    for name in [
        user.file("text.gguf", "this is no model"),
        user.file("empty.safetensors", ""),
        user.file("cut.gguf", &fs::read(oracle("gguf/bitnet-a-I2_S.gguf")).unwrap()[..5000]),
        folder.to_str().unwrap().to_owned(),
    ] {
        for command in ["run", "inspect"] {
            let done = user.run(&[command, &name, "x"][..if command == "run" { 3 } else { 2 }]);
            done.fails(1, &[]);
            assert!(done.stderr.contains(&name), "{} does not name {name}", done.stderr);
        }
    }
}

#[test]
fn a_model_without_a_tokenizer_takes_ids() {
    let user = User::new();
    let folder = user.path("bare");
    fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(format!("{}/{name}", oracle(MODEL)), folder.join(name)).unwrap();
    }
    let model = folder.to_str().unwrap();
    user.run(&["run", model, "hello"]).fails(1, &["no tokenizer", "--ids-file"]);
    user.run(&["tokenize", model, "hello"]).fails(1, &["no tokenizer"]);
    let ids = user.file("ids.json", "[2043, 39]");
    user.run(&["run", model, "--ids-file", &ids, "--greedy", "-n", "4"])
        .fails(1, &["no tokenizer", "--print ids"]);
    let done = user.run(&["run", model, "--ids-file", &ids, "--greedy", "-n", "4", "--print", "ids"]);
    assert_eq!(done.json().as_array().unwrap().len(), 4);
}

#[test]
fn chat_needs_a_template() {
    // The dense family without a template of its own.
    let user = User::new();
    let folder = user.path("plain");
    fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(format!("{}/{name}", oracle("llama-b-bitlinear-packed")), folder.join(name)).unwrap();
    }
    let model = folder.to_str().unwrap();
    user.run(&["chat", model]).fails(1, &["no chat template", "bitnet run"]);
    user.run(&["run", model, "--chat", "-p", "hi"]).fails(1, &["no chat template"]);
    user.run(&["run", model, "hi", "-n", "2"]).ok();
}
