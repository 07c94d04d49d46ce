//! What somebody types who knows other programs, or makes a slip: one name for one thing, nothing taken in silence, and a text
//! that says why it ended.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::{fs, process::Command};

use common::{Done, User, bitnet};

const TWIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/float-twin");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt");

/// A run that must have worked and said `parts` on standard error.
#[track_caller]
fn says(done: &Done, parts: &[&str]) {
    done.ok();
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} is not in {:?}", done.stderr);
    }
}

#[test]
fn verbs_of_other_programs_get_ours() {
    for (verb, ours) in [
        ("complete", "bitnet run"),
        ("show", "bitnet inspect"),
        ("fetch", "bitnet pull"),
        ("eval", "bitnet evaluate"),
        ("version", "bitnet --version"),
        ("serve", "bitnet chat"),
    ] {
        bitnet(&[verb, "x"]).fails(2, &[&format!("no command '{verb}'"), ours]);
    }
    // What is no verb of anybody's is told in the ordinary way.
    bitnet(&["frobnicate"]).fails(2, &["frobnicate"]);
    bitnet(&["inspekt", "box"]).fails(2, &["inspect"]);
}

#[test]
fn numbers_below_their_range_are_numbers() {
    let run = ["run", "box", "x"];
    for flag in [
        "-n",
        "--seed",
        "--threads",
        "--context",
        "--top-k",
        "--top-p",
        "--min-p",
        "--temperature",
        "--repetition-penalty",
        "--penalty-window",
        "--logprobs",
    ] {
        let done = bitnet(&[&run[..], &[flag, "-1"]].concat());
        done.fails(2, &["-1 is not"]);
        assert!(!done.stderr.contains("-- -1"), "{}", done.stderr);
    }
    let others: [&[&str]; 10] = [
        &["chat", "-n", "0"],
        &["perplexity", "box", "--file", TEXT, "--window", "-5"],
        &["evaluate", "box", "--file", TEXT, "--stride", "-5"],
        &["quantize", TWIN, "-o", "x", "--damping", "-1"],
        &["quantize", TWIN, "-o", "x", "--bits-per-weight", "0"],
        &["quantize", TWIN, "-o", "x", "--tokens", "-1"],
        &["bench", "box", "--depth", "-1"],
        &["bench", "box", "--repetitions", "0"],
        &["doctor", "--threads", "-1"],
        &["twins", "--text", "x", "--seeds", "0"],
    ];
    for args in others {
        bitnet(args).fails(2, &["is not"]);
    }
}

#[test]
fn closed_lists_are_checked_and_listed() {
    for (args, words) in [
        (&["run", "box", "x", "--kernel", "foo"][..], "avx2"),
        (&["inspect", "box", "--kernel", "foo"], "scalar"),
        (&["doctor", "--kernel", "foo"], "scalar"),
        (&["bench", "--synthetic", "7b"], "2b4t"),
        (&["quantize", TWIN, "-o", "x", "--method", "foo"], "two-planes-gptq"),
        (&["quantize", TWIN, "-o", "x", "--tables", "foo"], "int8"),
        (&["convert", "box", "x", "--to", "foo"], "gguf-i2_s"),
        (&["run", "box", "x", "--kv", "foo"], "f16"),
    ] {
        bitnet(args).fails(2, &["possible values", words]);
    }
    assert!(bitnet(&["quantize", "--help"]).ok().contains("[possible values: absmean"));
    // The full name of a kernel is one of its names.
    bitnet(&["run", "box", "x", "-n", "1", "--kernel", "generic-t2-i8-scalar"]).ok();
}

#[test]
fn other_spellings_are_the_same_flags() {
    let user = User::new();
    let run = |words: &str| user.run(&words.split(' ').collect::<Vec<_>>());
    let ours = run("run box Lily --max-new-tokens 9 --temperature 0.5 --top-k 3 --seed 4 --threads 1");
    let text = ours.ok();
    for theirs in [
        "run box Lily --max-tokens 9 --temp 0.5 --top_k 3 --seed 4 -t 1",
        "run box Lily --n-predict 9 --temperature 0.5 --top-k 3 --seed 4 -c 512",
        "run -m box -p Lily --max_new_tokens 9 --temp 0.5 --top_k 3 --seed 4 --n_threads 1",
        "run Lily --model box --n_predict 9 --temp 0.5 --top_k 3 --seed 4 --ctx-size 512",
    ] {
        assert_eq!(run(theirs).ok(), text, "{theirs}");
    }
}

#[test]
fn every_verb_with_a_model_takes_it_by_flag() {
    let user = User::new();
    let ids = user.file("ids.json", "[1, 2]");
    let out = user.path("out.npy");
    let calls: [&[&str]; 6] = [
        &["inspect", "-m", "box"],
        &["tokenize", "-m", "box", "hi"],
        &["tokenize", "hi", "--model", "box"],
        &["logits", "-m", "box", "--ids-file", &ids, "--out", out.to_str().unwrap()],
        &["perplexity", "--model", "box", "--file", TEXT, "--window", "512"],
        &["evaluate", "-m", "box", "--file", TEXT, "--window", "512"],
    ];
    for call in calls {
        user.run(call).ok();
    }
    user.pipe(&["chat", "-m", "box"], "/quit\n").ok();
    user.run(&["chat", "-m", "nowhere"]).fails(1, &["no model 'nowhere'"]);
    user.run(&["bench", "-m", "nowhere"]).fails(1, &["no model 'nowhere'"]);
    user.run(&["quantize", "-m", "nowhere", "-o", "x"]).fails(1, &["no model 'nowhere'"]);
    user.run(&["inspect", "box", "-m", "box"]).fails(2, &["cannot be used"]);
    user.run(&["inspect"]).fails(2, &["MODEL"]);
}

#[test]
fn a_text_has_one_name_and_the_others_work() {
    let user = User::new();
    let short = user.file("short.txt", "Speak, speak.");
    for verb in ["perplexity", "evaluate"] {
        for name in ["--file", "--text", "-f"] {
            says(&user.run(&[verb, "box", name, &short, "--quiet"]), &[]);
        }
    }
    let ids = user.run(&["tokenize", "box", "Speak, speak."]);
    assert_eq!(user.run(&["tokenize", "box", "--file", &short]).ok(), ids.ok());
    assert_eq!(user.run(&["tokenize", "box", "--text", &short]).ok(), ids.ok());
    user.run(&["inspect", "box", "--quality", "--text", &short]).ok();
    let (one, two) = (
        ["run", "box", "--file", &short, "--greedy", "-n", "9"],
        ["run", "box", "-p", "Speak, speak.", "--greedy", "-n", "9"],
    );
    assert_eq!(user.run(&one).ok(), user.run(&two).ok());
}

#[test]
fn a_prompt_that_is_not_there_is_told() {
    let user = User::new();
    let empty = user.file("empty.txt", "\n");
    user.run(&["run", "box", "-"]).fails(2, &["there is no prompt", "standard input is empty"]);
    user.run(&["run", "box", "--file", &empty]).fails(2, &["there is no prompt", "empty.txt is empty"]);
    user.run(&["run", "box", "--file", "nowhere.txt"]).fails(1, &["cannot read nowhere.txt"]);
    user.run(&["tokenize", "box"]).fails(2, &["there is no text"]);
    // Nothing is a text when somebody says so.
    user.run(&["run", "box", "-p", "", "-n", "2"]).ok();
    assert_eq!(user.run(&["tokenize", "box", "", "--no-special"]).ok(), "[]\n");
}

#[test]
fn what_does_nothing_is_not_taken_in_silence() {
    let run = |more: &[&str]| bitnet(&[&["run", "box", "x", "-n", "1"], more].concat());
    run(&["--stop", ""]).fails(2, &["--stop", "would stop nothing"]);
    run(&["--logit-bias", "99999=3"]).fails(2, &["99999", "vocabulary of 2048"]);
    says(&run(&["--greedy", "--seed", "3"]), &["--seed does nothing"]);
    says(&run(&["--temperature", "0", "--top-p", "0.5"]), &["--top-p does nothing"]);
    says(&run(&["--penalty-window", "9"]), &["--penalty-window does nothing"]);
    let none = run(&["--penalty-window", "9", "--repetition-penalty", "1.1"]);
    assert!(!none.stderr.contains("does nothing"), "{}", none.stderr);
    for verb in ["perplexity", "evaluate"] {
        bitnet(&[verb, "box", "--file", TEXT, "--window", "128", "--stride", "200"])
            .fails(2, &["--stride 200", "window of 128"]);
    }
    says(
        &bitnet(&["inspect", "box", "--threads", "1", "--tune", "never"]),
        &["--threads does", "--tune does"],
    );
    let quantize = |more: &[&str]| bitnet(&[&["quantize", TWIN, "-o", "x"], more].concat());
    let idle = quantize(&["--window", "7", "--tokens", "7", "--held-out-tokens", "7", "--damping", "7"]);
    says(&idle, &["--window does", "--tokens does", "--held-out-tokens does", "--damping does nothing"]);
    says(&quantize(&["--method", "int8", "--group", "row"]), &["--group does nothing"]);
    bitnet(&["quantize", "--init", "job.toml", "--threads", "2"]).fails(2, &["--threads"]);
    says(&run(&["--i2s-64"]), &["--i2s-64 does nothing"]);
    bitnet(&["bench", "--kernels", "--depth", "9"]).fails(2, &["--depth"]);
    bitnet(&["bench", "--synthetic", "tiny", "--write", "x.gguf", "--json"]).fails(2, &["--json"]);
}

#[test]
fn a_text_says_why_it_ended() {
    let run = |more: &[&str]| bitnet(&[&["run", "box", "x", "--ignore-eos"], more].concat());
    says(&run(&["-n", "3"]), &["ended after 3 new tokens"]);
    says(&run(&["--context", "8", "-n", "30"]), &["room for 8 tokens is full", "up to the 512"]);
    assert_eq!(run(&["-n", "3", "--quiet"]).stderr, "");
    assert_eq!(run(&["-n", "3", "--json"]).stderr, "", "it is in the object");
    assert_eq!(run(&["-n", "30", "--stop", "e"]).stderr, "");
    let chat = User::new().pipe(&["chat", "-n", "2", "--ignore-eos"], "Speak.\n");
    says(&chat, &["ended after 2 new tokens"]);
}

#[test]
fn more_context_than_the_model_was_made_for_is_told() {
    let user = User::new();
    let warning = ["warning:", "512 tokens that box was made for"];
    says(&user.run(&["run", "box", "x", "-n", "1", "--context", "600"]), &warning);
    says(&user.run(&["perplexity", "box", "--file", TEXT, "--window", "600"]), &warning);
    let ids = user.file("ids.json", serde_json::json!(vec![1; 513]).to_string());
    let out = user.path("out.npy");
    says(&user.run(&["logits", "box", "--ids-file", &ids, "--out", out.to_str().unwrap()]), &warning);
    assert!(user.run(&["inspect", "box", "--context", "600"]).ok().contains("more than the 512 tokens"));
    let fits = user.run(&["run", "box", "x", "-n", "1", "--context", "512"]);
    assert!(!fits.stderr.contains("warning"), "{}", fits.stderr);
    // A prompt that no context of the model holds gets no cure that makes one.
    let long = user.run(&["run", "box", &"word ".repeat(600)]);
    long.fails(1, &["the prompt has", "made for 512"]);
    assert!(!long.stderr.contains("--context"), "{}", long.stderr);
    // One that some context holds gets it.
    let cut = user.run(&["run", "box", &"word ".repeat(40), "--context", "8"]);
    cut.fails(1, &["room for 8", "--context"]);
}

#[test]
fn a_refused_turn_costs_nothing() {
    let user = User::new();
    let (before, after) = (user.path("before.json"), user.path("after.json"));
    let lines = format!(
        "Speak, speak.\nWho are you?\n/save {}\n{}\n/save {}\n",
        before.display(),
        "word ".repeat(2000),
        after.display()
    );
    let done = user.pipe(&["chat", "--greedy", "-n", "8"], &lines);
    assert_eq!(done.code, 1, "a line of the script was refused: {}", done.stderr);
    assert!(done.stderr.contains("the prompt has") && !done.stderr.contains("forgotten"), "{}", done.stderr);
    let said = fs::read_to_string(before).unwrap();
    assert_eq!(said.matches("\"role\"").count(), 4);
    assert_eq!(fs::read_to_string(after).unwrap(), said);
}

#[test]
fn a_script_of_turns_fails_with_its_lines() {
    let chat = |lines: &str| User::new().pipe(&["chat", "-n", "2"], lines);
    for line in ["/nosuch\n", "/save\n", "/save /nowhere/x.json\n"] {
        let done = chat(line);
        assert_eq!(done.code, 1, "{line}: {}", done.stderr);
        assert!(done.stderr.contains("a line of the conversation was refused"), "{}", done.stderr);
    }
    assert!(chat("/nosuch\n/nosuch\n").stderr.contains("2 lines"));
    says(&chat("/HELP\n/Exit\n/nosuch\n"), &["/exit"]);
}

#[test]
fn a_conversation_can_be_repeated() {
    let user = User::new();
    let lines = "Speak, speak.\nWho are you?\n";
    let first = user.pipe(&["chat", "-n", "12", "--ignore-eos"], lines);
    let seed = first.stderr.split("seed ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let again = user.pipe(&["chat", "-n", "12", "--ignore-eos", "--seed", &seed], lines);
    assert_eq!(first.ok(), again.ok());
    let answers = user.pipe(&["chat", "-n", "12", "--ignore-eos", "--seed", &seed, "--json"], lines);
    let answers: Vec<serde_json::Value> =
        answers.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert!(first.ok().contains(answer["text"].as_str().unwrap()), "{answer}");
        assert_eq!(
            (&answer["finish_reason"], answer["ids"].as_array().unwrap().len()),
            (&"length".into(), 12)
        );
    }
    assert_eq!(answers[0]["seed"].to_string(), seed);
}

#[test]
fn a_name_that_says_another_format_is_told() {
    let user = User::new();
    let path = |name: &str| user.path(name).to_str().unwrap().to_owned();
    let ids = user.file("ids.json", "[1]");
    says(&user.run(&["convert", "box", &path("a.bitnet"), "--to", "gguf-i2_s"]), &["a GGUF file", ".bitnet"]);
    says(&user.run(&["convert", "box", &path("a.gguf"), "--to", "hf-master"]), &["a directory", ".gguf"]);
    says(&user.run(&["quantize", TWIN, "-o", &path("q.gguf")]), &["a .bitnet file", ".gguf"]);
    says(&user.run(&["logits", "box", "--ids-file", &ids, "--out", &path("x.json")]), &[".npy", ".json"]);
    let bench = [
        "bench",
        "--synthetic",
        "tiny",
        "--threads",
        "1",
        "--prompt",
        "0",
        "--generate",
        "2",
        "--repetitions",
        "1",
        "--plot",
    ];
    says(&user.run(&[&bench[..], &[&path("x.png")]].concat()), &["an SVG picture", ".png"]);
    let good = user.run(&["convert", "box", &path("b.gguf"), "--to", "gguf-i2_s"]);
    assert!(!good.ok().is_empty() && !good.stderr.contains("warning"), "{}", good.stderr);
}

#[test]
fn threads_beyond_reason_are_told_and_not_started() {
    let plain = bitnet(&["run", "box", "x", "-n", "3", "--greedy"]);
    let done = bitnet(&["run", "box", "x", "-n", "3", "--greedy", "--threads", "1024", "--stats"]);
    assert_eq!(done.ok(), plain.ok());
    let processors = std::thread::available_parallelism().unwrap().get();
    let most = (8 * processors).max(64);
    if most < 1024 {
        says(&done, &["1024 threads on", &format!("{most} are used"), &format!("{most} threads")]);
    }
}

#[test]
fn a_template_is_missed_in_the_words_of_the_verb() {
    bitnet(&["run", TWIN, "First", "--chat"]).fails(1, &["no chat template", "leave --chat out"]);
    bitnet(&["chat", TWIN]).fails(1, &["no chat template", "bitnet run"]);
}

#[test]
fn help_names_variables_and_pages_of_words() {
    let pull = bitnet(&["pull", "--help"]);
    for variable in ["HF_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY"] {
        assert!(pull.ok().contains(variable), "{variable}");
    }
    let help = bitnet(&["--help"]);
    assert!(help.ok().contains("BITNET_KERNEL") && help.ok().contains("glossary"));
    let version = bitnet(&["--version"]);
    assert!(version.ok().contains("commit ") && version.ok().contains("training "), "{}", version.out());
    assert_eq!(bitnet(&["-V"]).ok(), concat!("bitnet ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// What bash offers for `words`, of which the last is being typed.
fn bash_offers(words: &[&str]) -> Vec<String> {
    let user = User::new();
    let script = user.file("bitnet.bash", bitnet(&["completions", "bash"]).ok());
    fs::create_dir(user.path("folder")).unwrap();
    user.file("a model.gguf", "");
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let ask = format!(
        ". {script}; COMP_WORDS=({}); COMP_CWORD={}; _bitnet bitnet '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1
    );
    let answer = Command::new("bash").args(["-c", &ask]).current_dir(user.home.path()).output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn completions_offer_models_where_models_stand() {
    for words in [&["bitnet", "run", ""][..], &["bitnet", "inspect", ""], &["bitnet", "chat", "--model", ""]]
    {
        let offers = bash_offers(words);
        for wanted in ["box", "a model.gguf", "folder"] {
            assert!(offers.iter().any(|offer| offer == wanted), "{wanted} in {offers:?} for {words:?}");
        }
        assert!(offers.iter().all(|offer| !offer.starts_with('-')), "{offers:?}");
    }
    assert!(bash_offers(&["bitnet", "run", "--tem"]).contains(&"--temperature".to_owned()));
    assert!(bash_offers(&["bitnet", "bench", "--synthetic", "2b"]).contains(&"2b4t".to_owned()));
    assert!(bash_offers(&["bitnet", "quantize", "--method", "two"]).contains(&"two-planes".to_owned()));
    assert!(bash_offers(&["bitnet", "completions", "fi"]).contains(&"fish".to_owned()));
    // Files of other kinds are left to the shell.
    assert!(bash_offers(&["bitnet", "train", ""]).is_empty());
    let (zsh, fish) = (bitnet(&["completions", "zsh"]), bitnet(&["completions", "fish"]));
    assert!(zsh.ok().contains("_bitnet_models() {") && zsh.ok().contains(":_bitnet_models' \\"));
    assert!(fish.ok().contains("__fish_bitnet_using_subcommand chat\" -a box"));
    let behind: Vec<&str> = fish.out().lines().filter(|line| line.contains(" -l model ")).collect();
    assert!(behind.len() > 8 && behind.iter().all(|line| line.ends_with(" -r -F -a box")), "{behind:?}");
}
