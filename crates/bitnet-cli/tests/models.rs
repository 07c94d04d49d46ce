//! Commands that run or read models, held to the expected values made by others.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;

use common::{ORACLE_MADE, User, bitnet, oracle};
use serde_json::Value;

const MODEL: &str = "bitnet-a-offline-packed";

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn case(model: &str, i: usize) -> Value {
    json(&oracle(&format!("{model}/expected/f32/cases.json")))[i].clone()
}

/// Shape and values of a two-dimensional little-endian f32 array.
fn npy(path: &std::path::Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).unwrap().trim().to_owned();
    let (values, rest) = bytes[end..].as_chunks::<4>();
    assert!(rest.is_empty());
    (header, values.iter().map(|v| f32::from_le_bytes(*v)).collect())
}

#[test]
fn greedy_ids_are_those_of_transformers() {
    // (model, directory of the expected values, prompts)
    let models = [
        (MODEL, MODEL),
        ("llama-b-bitlinear-packed", "llama-b-bitlinear-packed"),
        ("gguf/bitnet-a-I2_S.gguf", MODEL),
        ("qwen3-a-ternary-g64", "qwen3-a-ternary-g64"),
    ];
    let user = User::new();
    for (model, expected) in models {
        for i in [0, 1] {
            let case = case(expected, i);
            let ids = user.file("ids.json", case["prompt_ids"].to_string());
            let mut args = vec!["run".into(), oracle(model), "--ids-file".into(), ids];
            args.extend(
                "--greedy --max-new-tokens 32 --ignore-eos --print ids".split(' ').map(str::to_owned),
            );
            let done = user.run(&args);
            let got: Vec<u64> = serde_json::from_str(done.ok()).unwrap();
            // Behind a step whose two best tokens are this close, another order of sums may choose the other.
            let margins = case["greedy_margin"].as_array().unwrap();
            let sure = margins.iter().take_while(|m| m.as_f64().unwrap() >= 0.2).count();
            let wanted: Vec<u64> = serde_json::from_value(case["greedy"].clone()).unwrap();
            assert_eq!(got.len(), wanted.len(), "{model}");
            assert!(sure >= 8, "the oracle says too little of {model}");
            assert_eq!(got[..sure], wanted[..sure], "{model}, prompt {i}");
        }
    }
}

#[test]
fn logits_are_those_of_transformers() {
    let user = User::new();
    let ids = user.file("ids.json", case(MODEL, 0)["prompt_ids"].to_string());
    let out = user.path("out.npy");
    let done = user.run(&["logits", &oracle(MODEL), "--ids-file", &ids, "--out", out.to_str().unwrap()]);
    assert_eq!(done.ok(), "");
    let (header, values) = npy(&out);
    let (_, wanted) = npy(oracle(&format!("{MODEL}/expected/f32/logits_0.npy")).as_ref());
    assert!(header.contains("'descr': '<f4'") && header.contains("'shape': (9, 2048)"), "{header}");
    assert_eq!(values.len(), wanted.len());
    let worst = values.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-3, "{worst}");
    let left = fs::read_dir(user.home.path()).unwrap().flatten().filter(|e| e.path().is_file()).count();
    assert_eq!(left, 2, "the ids and the logits, no drafts");
}

/// The first words of the program. Renewed with the model in the box, and with nothing else.
#[test]
fn the_model_in_the_box_tells_this_story() {
    let run = User::new().run(&["run", "box", "Once upon a time", "--greedy", "-n", "40"]);
    let story = ", there was a little boy named Tim. Tim loved to play with his toy car. One day, Tim found a big box. He wanted to play \
                 with it.\nTim went to the park";
    assert_eq!(run.ok().trim_end_matches('\n'), story);
}

#[test]
fn one_seed_means_one_text_for_any_threads_and_kernel() {
    let user = User::new();
    let args = |more: &[&str]| {
        let args = [
            "run",
            "--prompt",
            "ROMEO:",
            "-n",
            "40",
            "--ignore-eos",
            "--temperature",
            "0.9",
            "--top-k",
            "50",
        ];
        [&args, more].concat().iter().map(|&a| a.to_owned()).collect::<Vec<_>>()
    };
    let text = user.run(&args(&["--seed", "7"])).ok().to_owned();
    for more in [&["--seed", "7", "--threads", "3"][..], &["--seed", "7", "--kernel", "scalar"]] {
        assert_eq!(user.run(&args(more)).ok(), text);
    }
    assert_ne!(user.run(&args(&["--seed", "8"])).ok(), text);
    let told = user.run(&args(&["--json"])).json();
    let again = user.run(&args(&["--seed", &told["seed"].to_string()]));
    assert_eq!(again.ok().trim_end_matches('\n'), told["text"].as_str().unwrap().trim_end_matches('\n'));
}

#[test]
fn json_says_everything_about_a_run() {
    let user = User::new();
    let args = ["run", "box", "Once upon a time", "--greedy", "-n", "5", "--json", "--logprobs", "2"];
    let told = user.run(&args).json();
    assert_eq!(told["finish_reason"], "length");
    assert_eq!(told["ids"].as_array().unwrap().len(), 5);
    assert_eq!(told["prompt_ids"][0], 0);
    let tokens = told["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    for (token, id) in tokens.iter().zip(told["ids"].as_array().unwrap()) {
        assert_eq!(&token["id"], id);
        assert_eq!(token["top"].as_array().unwrap().len(), 2);
        // Greedy takes the likeliest.
        assert_eq!(token["top"][0]["id"], token["id"]);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let text: String = tokens.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert_eq!(text, told["text"].as_str().unwrap());
    assert_eq!(told["speed"]["new_tokens"], 5);

    // Without JSON the same on standard error, and the text alone on standard output.
    let plain =
        user.run(&args[..6].iter().copied().chain(["--logprobs", "0", "--stats"]).collect::<Vec<_>>());
    assert_eq!(plain.ok().trim_end_matches('\n'), text.trim_end_matches('\n'));
    assert_eq!(plain.stderr.lines().count(), 7, "{}", plain.stderr);
    assert!(plain.stderr.contains("greedy"));
}

#[test]
fn generation_stops_where_it_is_told_to() {
    let (user, model) = (User::new(), oracle(MODEL));
    let base = ["run", &model, "First Citizen:\nBefore we proceed", "--greedy", "--json", "-n", "60"];
    let run = |more: &[&str]| user.run(&[&base, more].concat()).json();
    let text = run(&[])["text"].as_str().unwrap().to_owned();
    assert!(text.contains("hear me speak"), "{text}");
    let stopped = run(&["--stop", "speak", "--stop", "never said"]);
    assert_eq!(stopped["finish_reason"], "stop_string");
    assert_eq!(stopped["text"].as_str().unwrap(), &text[..text.find("speak").unwrap()]);
    let full = run(&["--context", "12", "--ignore-eos"]);
    assert_eq!(full["finish_reason"], "context_full");
    let nothing = user.run(&["run", "box", "x", "-n", "0", "--print", "ids"]);
    assert_eq!(nothing.ok(), "[]\n");
    // A bias can forbid the token that would come.
    let first = run(&[])["ids"][0].clone();
    assert_ne!(run(&["--logit-bias", &format!("{first}=-100")])["ids"][0], first);
}

#[test]
fn prompts_come_by_word_by_flag_and_by_pipe() {
    let user = User::new();
    let more = ["--greedy", "-n", "8"];
    let text = |form: &[&str]| user.run(&[form, &more].concat()).ok().to_owned();
    let boxed = text(&["run", "box", "All:\n"]);
    assert_eq!(text(&["run", "--model", "box", "--prompt", "All:\n"]), boxed);
    assert_eq!(text(&["run", "-p", "All:\n"]), boxed);
    let model = oracle(MODEL);
    let other = text(&["run", &model, "All:\n"]);
    assert_ne!(other, boxed);
    assert_eq!(text(&["run", "-m", &model, "All:\n"]), other);
    assert_eq!(text(&["run", &model, "-p", "All:\n"]), other);
    assert_eq!(user.pipe(&[&["run", "box", "-"][..], &more].concat(), "All:\n\n").ok(), boxed);
    let first = user.run(&["run"]);
    assert!(!first.ok().is_empty() && first.stderr.contains("the one in the box"));
}

#[test]
fn questions_are_put_in_the_form_of_the_model() {
    let cases = json(&oracle(&format!("{MODEL}/expected/tokenizer_cases.json")));
    let (user, model) = (User::new(), oracle(MODEL));
    for case in cases["chat"].as_array().unwrap() {
        let messages = case["messages"].as_array().unwrap();
        let said = |i: usize| messages[i]["content"].as_str().unwrap();
        let mut args = vec!["run", &model, "--chat", "--greedy", "-n", "1", "--json"];
        match messages.len() {
            1 => args.extend(["-p", said(0)]),
            2 if messages[0]["role"] == "system" => args.extend(["--system", said(0), "-p", said(1)]),
            _ => continue,
        }
        if case["add_generation_prompt"] == true {
            assert_eq!(user.run(&args).json()["prompt_ids"], case["ids"]);
        }
    }
}

#[test]
fn tokens_are_those_of_transformers() {
    let cases = json(&oracle(&format!("{MODEL}/expected/tokenizer_cases.json")));
    let user = User::new();
    let model = oracle(MODEL);
    for case in cases["encode"].as_array().unwrap() {
        let file = user.file("text.txt", case["text"].as_str().unwrap());
        let ids = |more: &[&str]| user.run(&[&["tokenize", &model, "--file", &file], more].concat()).json();
        assert_eq!(ids(&[]), case["ids"]);
        assert_eq!(ids(&["--no-special"]), case["ids_no_special"]);
        let decoded = user.run(&["tokenize", &model, "--decode", &case["ids"].to_string()]);
        assert_eq!(decoded.ok(), format!("{}\n", case["decoded"].as_str().unwrap()));
    }
    let plain = user.run(&["tokenize", &model, "--plain", "--no-special", "<|eot_id|>"]).json();
    assert!(plain.as_array().unwrap().len() > 3, "{plain}");
    assert_eq!(
        user.run(&["tokenize", &model, "--no-special", "<|eot_id|>"]).json(),
        serde_json::json!([2045])
    );
    assert_eq!(
        user.pipe(&["tokenize", "box", "--no-special"], "-5 degrees").json(),
        user.run(&["tokenize", "box", "--no-special", "-5 degrees"]).json()
    );
    let pieces = user.run(&["tokenize", &model, "--pieces", "Hello"]);
    assert!(pieces.ok().contains("2043  \"<|begin_of_text|>\""), "{}", pieces.ok());
    // The tokenizer alone will do.
    let alone =
        user.run(&["tokenize", &format!("{model}/tokenizer.json"), "Hello, world!", "--no-special"]).json();
    assert_eq!(alone, serde_json::json!([39, 414, 78, 11, 874, 0]));
}

#[test]
fn perplexity_is_that_of_transformers() {
    let expected = json(&oracle(&format!("{MODEL}/expected/ppl.json")));
    let file = format!("{ORACLE_MADE}/tinyshakespeare-6000.txt");
    let told = bitnet(&["perplexity", &oracle(MODEL), "--file", &file, "--window", "128", "--json"]).json();
    assert_eq!(told["tokens"], expected["n_tokens_text"]);
    assert_eq!(told["tokens_scored"], expected["tokens_scored"]);
    let difference = told["mean_nll"].as_f64().unwrap() - expected["mean_nll"].as_f64().unwrap();
    assert!(difference.abs() < 0.01, "{difference}");
    assert_eq!(told["windows"].as_array().unwrap().len(), 15);
    let words = bitnet(&["perplexity", &oracle(MODEL), "--file", &file, "--window", "128", "--stride", "64"]);
    assert!(words.ok().contains("perplexity") && words.ok().contains("stride 64"), "{}", words.ok());
}

#[test]
fn inspect_says_what_a_file_is() {
    let told = bitnet(&["inspect", &oracle(MODEL), "--json"]).json();
    assert_eq!(told["config"]["family"], "bitnet-b1.58");
    assert_eq!(told["parameters"], 2_757_888);
    assert_eq!(told["tensors"].as_array().unwrap().len(), 29);
    let trits = &told["trits"];
    let sum: u64 = ["minus", "zero", "plus"].iter().map(|k| trits[k].as_u64().unwrap()).sum();
    assert_eq!(told["ternary_parameters"], sum);
    // Keys and values, four blocks of two heads of 32, two bytes each.
    assert_eq!(told["memory"]["kv_bytes_per_token"], 2 * 4 * 2 * 32 * 2);
    let words = bitnet(&["inspect", &oracle("qwen3-a-ternary-g64"), "--tensors"]);
    assert!(words.ok().contains("per 64") && words.ok().contains("down_proj"), "{}", words.ok());
    let widths: Vec<_> =
        words.ok().lines().filter(|l| l.starts_with("model.layers.0.")).map(|l| l.find(" x ")).collect();
    assert!(widths.len() > 5 && widths.windows(2).all(|w| w[0] == w[1]), "columns line up: {widths:?}");
}

#[test]
fn a_conversation_is_one_sequence() {
    let (user, model) = (User::new(), oracle(MODEL));
    let saved = user.path("chat.json");
    let lines =
        format!("/help\nSpeak, speak.\n/speed\nWho are you?\n/save {}\n/quit\nnever read\n", saved.display());
    let done = user.pipe(&["chat", &model, "--greedy", "-n", "12"], &lines);
    let messages = json(saved.to_str().unwrap());
    let roles: Vec<_> = messages.as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    let answers: Vec<_> =
        [1, 3].iter().map(|&i: &usize| messages[i]["content"].as_str().unwrap().to_owned()).collect();
    for answer in &answers {
        assert!(done.ok().contains(answer), "{answer:?} in {:?}", done.ok());
    }
    assert!(done.stderr.contains("/reset") && done.stderr.contains("then 11 tokens in"), "{}", done.stderr);
    // The second question alone gets another answer than after the first: the conversation was read whole.
    let alone = user.run(&["run", &model, "--chat", "--greedy", "-n", "12", "Who are you?"]);
    assert_ne!(alone.ok().trim(), answers[1]);
    let anew = user.pipe(&["chat", &model, "--greedy", "-n", "12"], "Speak, speak.\n/reset\nWho are you?\n");
    assert!(anew.ok().ends_with(alone.ok()), "{:?} and {:?}", anew.ok(), alone.ok());
    assert!(!user.path(".local").exists(), "a pipe writes no history");
}

#[test]
fn each_answer_of_a_conversation_goes_on_with_the_generator() {
    let (user, model) = (User::new(), oracle(MODEL));
    let saved = [user.path("first.json"), user.path("second.json")];
    let [first, second] = saved.each_ref().map(|path| path.display());
    let lines = format!("Speak.\n/save {first}\n/reset\nSpeak.\n/save {second}\n");
    user.pipe(&["chat", &model, "--seed", "5", "--temperature", "2", "--top-p", "1", "-n", "12"], &lines)
        .ok();
    let answers = saved.map(|path| json(path.to_str().unwrap())[1]["content"].as_str().unwrap().to_owned());
    assert_ne!(answers[0], answers[1], "the same question twice, drawn with other numbers");
}

#[test]
fn a_long_conversation_forgets_its_beginning() {
    let user = User::new();
    let line = "What is the city but the people? ".repeat(6);
    let done =
        user.pipe(&["chat", "--greedy", "-n", "20", "--context", "256"], &format!("{line}\n").repeat(5));
    done.ok();
    assert!(done.stderr.contains("oldest turns are forgotten"), "{}", done.stderr);
    let long = user.pipe(
        &["chat", "--context", "32"],
        &format!("{line}\n/system Be brief.\n/system\n/nonsense\n/save\n"),
    );
    assert_eq!(long.code, 1, "lines of a script were refused: {}", long.stderr);
    for part in ["error: the prompt has", "Be brief.", "no command /nonsense", "/save needs a file name"] {
        assert!(long.stderr.contains(part), "{part} in {}", long.stderr);
    }
}

/// A copy of a model with one more tensor.
fn with_tensor(user: &User, model: &str, tensor: &str) -> String {
    use bitnet_format::{Checkpoint, SafetensorsWriter, TensorSpec, TensorType};
    let path = user.path(tensor);
    fs::create_dir_all(&path).unwrap();
    let from = oracle(model);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(format!("{from}/{file}"), path.join(file)).unwrap();
    }
    let checkpoint = Checkpoint::open(&from, &Default::default()).unwrap();
    let mut specs: Vec<TensorSpec> =
        checkpoint.tensors().map(|t| TensorSpec::new(t.name(), t.ty(), t.shape())).collect();
    specs.push(TensorSpec::new(tensor, TensorType::F32, [2]));
    let file = path.join("model.safetensors");
    let mut writer = SafetensorsWriter::create(&file, &Default::default(), &specs).unwrap();
    for info in checkpoint.tensors() {
        writer.write(info.name(), checkpoint.view(info).unwrap().bytes()).unwrap();
    }
    writer.write(tensor, &[0; 8]).unwrap();
    writer.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn tensors_that_nobody_reads_are_told_once_listed_or_refused() {
    let user = User::new();
    let seeing = with_tensor(&user, "llama-b-bitlinear-packed", "vision_tower.patch.weight");
    let ids = user.file("ids.json", "[1, 2, 3]");
    let out = user.path("out.npy").to_str().unwrap().to_owned();
    for args in [
        &["run", &seeing, "--ids-file", &ids, "-n", "2", "--print", "ids"][..],
        &["logits", &seeing, "--ids-file", &ids, "--out", &out],
        &["perplexity", &seeing, "--file", &format!("{ORACLE_MADE}/tinyshakespeare-6000.txt")],
    ] {
        let done = user.run(args);
        done.ok();
        assert_eq!(done.stderr.matches("vision_tower.patch.weight").count(), 1, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains("warning"), "{}", done.stderr);
    }
    let listed = user.run(&["inspect", &seeing]);
    assert!(
        listed.ok().contains("1 tensor is no part of the model: 'vision_tower.patch.weight'"),
        "{}",
        listed.out()
    );
    let lora =
        with_tensor(&user, "llama-b-bitlinear-packed", "model.layers.0.self_attn.q_proj.lora_A.weight");
    user.run(&["run", &lora, "--ids-file", &ids, "-n", "2"]).fails(1, &["lora_A", "not merged", "--adapter"]);
    let listed = user.run(&["inspect", &lora]);
    assert!(listed.ok().contains("it will not run") && listed.out().contains("lora_A"), "{}", listed.out());
}
