//! `bitnet quantize`, as a person calls it.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{User, oracle};
use serde_json::Value;

const TWIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/float-twin");

#[test]
fn a_float_model_becomes_ternary_and_says_how_much_it_lost() {
    let user = User::new();
    let (output, text) = (user.path("out.bitnet"), format!("{TWIN}/held-out.txt"));
    let out = output.to_str().unwrap();
    user.run(&["quantize", TWIN, "-o", out, "--method", "gptq"])
        .fails(1, &["calibration text", "--calibration"]);
    let call = ["quantize", TWIN, "-o", out, "--calibration", &text, "--window", "64"];
    let told =
        user.run(&[&call[..], &["--method", "two-planes-gptq", "--sensitivity", "--json"]].concat()).json();
    let (before, after) = (told["loss_before"].as_f64().unwrap(), told["loss_after"].as_f64().unwrap());
    assert!((after - before).abs() < 0.05 && before < 2.5, "{before} {after}");
    assert_eq!(told["matrices"].as_array().unwrap().len(), 14);
    assert_eq!(told["sensitivities"].as_array().unwrap().len(), 14);
    assert!(told["matrices"][0]["relative_error"].as_f64().unwrap() < 0.5);
    let inspected = user.run(&["inspect", out]).ok().to_owned();
    assert!(inspected.contains("two planes"), "{inspected}");
    let dense = user.run(&["inspect", TWIN]).ok().to_owned();
    assert!(dense.contains("a float model, not a ternary one"), "{dense}");
    user.run(&call).fails(1, &["exists already"]);
    let told = [&call[..], &["--bits-per-weight", "3.5", "--force"]].concat();
    let words = user.run(&told).ok().to_owned();
    assert!(words.contains("expected to add") && words.contains("Loss with that matrix alone"), "{words}");
    user.run(&[&call[..], &["--budget", "1KB", "--force"]].concat()).fails(1, &["too small", "--budget"]);
}

#[test]
fn what_convert_recommends_for_a_float_model_works() {
    let user = User::new();
    let (small, file) = (user.path("small.bitnet"), user.path("small.gguf"));
    let (small, file) = (small.to_str().unwrap(), file.to_str().unwrap());
    let flags = ["--method", "least-squares", "--group", "tensor"];
    let recommended = format!("`bitnet quantize {}`", flags.join(" "));
    user.run(&["convert", TWIN, file, "--to", "gguf-q2_0"]).fails(1, &["not ternary", &recommended]);
    user.run(&[&["quantize", TWIN, "-o", small][..], &flags].concat()).ok();
    user.run(&["convert", small, file, "--to", "gguf-q2_0"]).ok();
    user.run(&["run", file, "First", "-n", "2"]).ok();
}

#[test]
fn what_nobody_chooses_loses_little() {
    let user = User::new();
    let (output, text) = (user.path("out.bitnet"), format!("{TWIN}/held-out.txt"));
    let out = output.to_str().unwrap();
    let told = |more: &[&str]| {
        user.run(&[&["quantize", TWIN, "-o", out, "--window", "64", "--force", "--json"], more].concat())
            .json()
    };
    let without = told(&["--held-out", &text]);
    assert_eq!((&without["matrices"][0]["form"], &without["feedback"]), (&"int8".into(), &false.into()));
    let lost = |told: &Value| told["loss_after"].as_f64().unwrap() - told["loss_before"].as_f64().unwrap();
    assert!(lost(&without).abs() < 0.002, "{}", lost(&without));
    let with = told(&["--calibration", &text]);
    assert_eq!((&with["matrices"][0]["form"], &with["feedback"]), (&"int4".into(), &true.into()));
    assert!(lost(&with).abs() < 0.03, "{}", lost(&with));
    // Rows that are no whole blocks have no integers; what the message says to do instead is done.
    let narrow = format!("{}/dense-llama-f16", common::ORACLE_MADE);
    let call = ["quantize", &narrow, "-o", out, "--force"];
    user.run(&call).fails(1, &["rows of 48", "--method two-planes"]);
    user.run(&[&call[..], &["--method", "two-planes"]].concat()).ok();
}

/// No method of as few bits is nearer to the float model than what is taken when nobody chooses.
#[test]
fn what_nobody_chooses_is_on_the_curve() {
    let user = User::new();
    let calibration = format!("{TWIN}/../text/tinyshakespeare-6000.txt");
    let held_out = user.file("held-out.txt", &fs::read(format!("{TWIN}/held-out.txt")).unwrap()[..6000]);
    let out = user.path("out.bitnet");
    let out = out.to_str().unwrap();
    let point = |method: &[&str]| {
        let call = ["quantize", TWIN, "-o", out, "--window", "64", "--force", "--json"];
        let bits =
            user.run(&[&call[..], method].concat()).json()["bits_per_projection_weight"].as_f64().unwrap();
        let judge = ["evaluate", out, "--against", TWIN, "--text", &held_out, "--window", "64", "--json"];
        let kl = user.run(&judge).json()["text"]["against"]["kl"]["mean"].as_f64().unwrap();
        (bits, kl)
    };
    let text = ["--calibration", &calibration];
    let (with, without) = (point(&text), point(&[]));
    assert!(without.1 < 0.1 * with.1, "{without:?} costs twice the bits of {with:?}");
    for method in ["gptq", "two-planes-gptq", "int4"] {
        let (bits, kl) = point(&[&text[..], &["--method", method]].concat());
        assert!(bits <= with.0 && kl > 1.2 * with.1, "{method}: {bits} bits, {kl}; int4-gptq {with:?}");
    }
}

/// Every value of a job arrives: another one gives another file, or another report.
#[test]
fn every_value_of_a_job_arrives() {
    let user = User::new();
    let template = user.path("template.toml");
    user.run(&["quantize", "--init", template.to_str().unwrap()]).ok();
    let template = fs::read_to_string(template).unwrap();
    for (name, file) in
        [("text.txt", "text/tinyshakespeare-6000.txt"), ("held.txt", "float-twin/held-out.txt")]
    {
        let path = format!("{TWIN}/../{file}");
        user.file(name, &fs::read(path).unwrap()[..3000]);
    }
    let base = [
        ("model", format!("{TWIN:?}")),
        ("name", "\"gptq\"".into()),
        ("calibration", "\"text.txt\"".into()),
        ("held_out", "\"held.txt\"".into()),
        ("window", "64".into()),
        ("tokens", "600".into()),
        ("held_out_tokens", "300".into()),
    ];
    let set = |job: &str, key: &str, value: &str| {
        let mut found = 0;
        let line = |line: &str| match line.strip_prefix(key).filter(|rest| rest.starts_with(" = ")) {
            Some(_) => {
                found += 1;
                format!("{key} = {value}")
            }
            None => line.to_owned(),
        };
        let text = job.lines().map(line).collect::<Vec<_>>().join("\n");
        assert_eq!(found, 1, "{key}");
        text
    };
    let job = base.iter().fold(template, |job, (key, value)| set(&job, key, value));
    let run = |job: &str| {
        let told = user.run(&["quantize", "--job", &user.file("job.toml", job), "--force", "--json"]).json();
        let path = told["output"].as_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        (told, bytes)
    };
    let before = run(&job);
    assert!(run(&job) == before, "the same job twice");
    let changes = [
        ("output", "\"other.bitnet\""),
        ("name", "\"int4-gptq\""),
        ("group", "\"row\""),
        ("tables", "\"int8\""),
        ("damping", "0.5"),
        ("size", "\"45KB\""),
        ("bits_per_weight", "3.0"),
        ("sensitivity", "true"),
        ("calibration", "\"held.txt\""),
        ("held_out", "\"text.txt\""),
        ("window", "32"),
        ("tokens", "300"),
        ("held_out_tokens", "200"),
        ("threads", "3"),
    ];
    for (key, value) in changes {
        assert!(run(&set(&job, key, value)) != before, "{key} = {value} changes nothing");
    }
    let keys = job.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(keys, changes.len() + 1, "every value but the model's name is tried");
}

#[test]
fn a_job_says_what_flags_do_not() {
    let user = User::new();
    let job = user.path("job.toml");
    let job = job.to_str().unwrap();
    user.run(&["quantize", "--init", job]).ok();
    user.run(&["quantize", "--init", job]).fails(1, &["exists already"]);
    user.run(&["quantize", "--job", job]).fails(2, &["a model to read"]);
    let text = fs::read_to_string(job).unwrap().replace("name = \"\"", "name = \"least-squares\"");
    fs::write(job, &text).unwrap();
    let told = user.run(&["quantize", TWIN, "--job", job, "--group", "row", "--json"]).json();
    assert!(told["output"].as_str().unwrap().ends_with("model.bitnet") && user.path("model.bitnet").exists());
    assert_eq!(told["matrices"][0]["form"], "1 plane");
    // One f32 scale for each row of 64 weights, which two bits each.
    assert_eq!(told["matrices"][0]["bits_per_weight"], 2.5);
    let unknown = user.file("odd.toml", text.replace("damping", "dumping"));
    user.run(&["quantize", TWIN, "--job", &unknown]).fails(1, &["dumping"]);
    let two = text
        .replace("size = \"\"", "size = \"1MB\"")
        .replace("bits_per_weight = 0.0", "bits_per_weight = 3.0");
    let two = user.file("two.toml", &two);
    user.run(&["quantize", TWIN, "--job", &two]).fails(1, &["two budgets"]);
}

#[test]
fn what_is_ternary_already_is_refused() {
    let user = User::new();
    let output = user.path("out.bitnet");
    let out = output.to_str().unwrap();
    user.run(&["quantize", &oracle("llama-b-bitlinear-packed"), "-o", out]).fails(1, &["ternary already"]);
    user.run(&["quantize", TWIN, "-o", out, "--method", "best"]).fails(2, &["absmean, least-squares"]);
    user.run(&["quantize", TWIN, "-o", out, "--group", "3"]).fails(2, &["--group"]);
    assert!(!output.exists());
}

/// The biases of Qwen2's class and its rotary scaling are those of the float model.
#[test]
fn qwen2_keeps_its_biases_and_its_scaling() {
    let user = User::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/numpy-made/qwen2-dense-yarn");
    let output = user.path("out.bitnet");
    let out = output.to_str().unwrap();
    user.run(&["quantize", model, "-o", out, "--method", "int8"]).ok();
    let inspected = user.run(&["inspect", out, "--json"]).json();
    assert_eq!(inspected["config"]["family"], "qwen2");
    assert!(inspected["config"]["rope_scaling"].as_str().unwrap().starts_with("yarn, factor 4"));
    // int8 is close to the floats, which a model without its biases would not be.
    let ids = user.file("ids.json", fs::read_to_string(format!("{model}/expected/prompt.json")).unwrap());
    let logits = |model: &str, name: &str| {
        let path = user.path(name);
        user.run(&["logits", model, "--ids-file", &ids, "--out", path.to_str().unwrap()]).ok();
        let bytes = fs::read(path).unwrap();
        let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        bytes[end..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
    };
    let (before, after) = (logits(model, "a.npy"), logits(out, "b.npy"));
    let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let largest = before.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(worst < 0.1 * largest && worst > 0.0, "{worst} of {largest}");
}
