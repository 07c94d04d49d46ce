//! Text becomes a tokenizer, 200 steps, files that are served, words, and a number that says how good they are: all through the
//! command.
#![cfg(feature = "training")]
#![allow(clippy::unwrap_used)]

mod common;

use common::User;

#[test]
fn text_becomes_a_model_that_knows_it() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt");
    let text = std::fs::read_to_string(text).unwrap();
    let user = User::new();
    user.file("text.txt", &text);
    user.file("seen.txt", &text[..3000]);
    user.run(&["train", "--init", "job.toml"]).ok();
    let settings = [
        "data.files=[\"text.txt\"]",
        "data.vocabulary=320",
        "model.hidden=64",
        "model.ffn=128",
        "model.layers=2",
        "model.context=64",
        "training.steps=200",
        "training.batch=8",
        "training.positions=32",
        "optimizer.learning_rate=1e-2",
        "optimizer.warmup=20",
        "run.threads=2",
        "export.formats=[\"bitnet\", \"gguf-q2_0\"]",
    ];
    let settings = settings.map(|s| format!("--set={s}"));
    let args: Vec<&str> =
        ["train", "job.toml", "--json"].into_iter().chain(settings.iter().map(String::as_str)).collect();
    let told = user.run(&args).json();
    assert_eq!(told["steps"], 200);
    assert!(told["validation"].as_f64().unwrap() < 4.6, "{told}");
    for model in ["run/model.bitnet", "run/model-q2_0.gguf", "run/master"] {
        let said =
            user.run(&["run", model, "First Citizen:", "--max-new-tokens", "12", "--temperature", "0"]);
        assert!(!said.ok().trim().is_empty(), "{model}");
        let judged = user.run(&["perplexity", model, "--file", "seen.txt", "--json"]).json();
        // A model that knows nothing has 320.
        let perplexity = judged["perplexity"].as_f64().unwrap();
        assert!(perplexity > 2.0 && perplexity < 45.0, "{model}: {perplexity}");
    }
    // What a run leaves for those who watch.
    let curve = std::fs::read_to_string(user.path("run/loss.svg")).unwrap();
    assert_eq!((curve.matches("<polyline").count(), curve.contains("nats per token")), (4, true));
    assert!(user.path("run/events.out.tfevents.0.bitnet").exists());
    assert!(user.path("run/job.toml").exists());
}
