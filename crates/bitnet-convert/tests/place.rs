//! Where output goes: whole under its name or not at all, and never over what is read.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use bitnet_convert::{ConvertError, ConvertOptions, Target, convert};
use common::{oracle, to};

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn forced(input: &Path, output: &Path, target: Target) -> Result<(), ConvertError> {
    convert(input, output, target, &ConvertOptions { force: true, ..ConvertOptions::default() }).map(drop)
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let directory = tempfile::tempdir().unwrap();
    let input = oracle("gguf/bitnet-a-TQ1_0.gguf");
    for (name, target) in [("out.bitnet", Target::Bitnet), ("out", Target::HfPacked)] {
        let output = directory.path().join(name);
        to(&input, &output, target).unwrap();
        assert!(matches!(to(&input, &output, target), Err(ConvertError::Exists { .. })));
        forced(&input, &output, target).unwrap();
    }
    assert_eq!(entries(directory.path()), ["out", "out.bitnet"]);
    let hf = entries(&directory.path().join("out"));
    let want = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    assert!(want.iter().all(|w| hf.iter().any(|h| h == w)), "{hf:?}");
}

#[test]
fn what_appears_during_a_conversion_is_not_replaced_either() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.bitnet");
    let made = output.clone();
    let appears = move |_| fs::write(&made, "another's").unwrap();
    let options = ConvertOptions { progress: Some(Arc::new(appears)), ..ConvertOptions::default() };
    let done = convert(&oracle("gguf/bitnet-a-TQ1_0.gguf"), &output, Target::Bitnet, &options);
    assert!(matches!(done, Err(ConvertError::Exists { .. })), "{done:?}");
    assert_eq!(fs::read_to_string(&output).unwrap(), "another's");
    assert_eq!(entries(directory.path()), ["out.bitnet"]);
}

#[test]
fn a_directory_that_is_no_model_is_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let input = oracle("gguf/bitnet-a-TQ1_0.gguf");
    let home = directory.path().join("home");
    fs::create_dir_all(home.join("photos")).unwrap();
    fs::write(home.join("config.json"), "{}").unwrap();
    let text = forced(&input, &home, Target::HfPacked).unwrap_err().to_string();
    assert!(text.contains("is not replaced"), "{text}");
    let text = forced(&input, &home, Target::Bitnet).unwrap_err().to_string();
    assert!(text.contains("it is a directory"), "{text}");
    assert!(home.join("photos").is_dir());
    fs::write(directory.path().join("file"), "x").unwrap();
    let text = forced(&input, &directory.path().join("file"), Target::HfPacked).unwrap_err().to_string();
    assert!(text.contains("no directory"), "{text}");
    assert_eq!(entries(directory.path()), ["file", "home"]);
}

#[test]
fn what_is_read_is_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(oracle("bitnet-a-offline-packed").join(file), model.join(file)).unwrap();
    }
    let weights = model.join("model.safetensors");
    let before = fs::read(&weights).unwrap();
    let same = |input: &Path, output: &Path, target| {
        let error = forced(input, output, target).unwrap_err();
        assert!(matches!(error, ConvertError::SamePath { .. }), "{error}");
    };
    same(&model, &model, Target::HfMaster);
    same(&weights, &model, Target::HfMaster);
    same(&model, &weights, Target::Bitnet);
    same(&model, &model.join("../model/model.safetensors"), Target::Bitnet);
    same(&model, directory.path(), Target::HfPacked);
    assert_eq!(fs::read(&weights).unwrap(), before);
    assert_eq!(entries(&model), ["config.json", "model.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_link_stays_one_and_a_pipe_a_pipe() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = oracle("gguf/bitnet-a-TQ1_0.gguf");
    fs::create_dir(at("elsewhere")).unwrap();
    for name in ["elsewhere/there.bitnet", "elsewhere/not-yet.bitnet"] {
        let link = at("link");
        let _ = fs::remove_file(&link);
        if name.contains("there") {
            fs::write(at(name), "old").unwrap();
        }
        symlink(at(name), &link).unwrap();
        forced(&input, &link, Target::Bitnet).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::metadata(at(name)).unwrap().len() > 1000, "{name}");
    }
    assert_eq!(entries(directory.path()), ["elsewhere", "link"]);
    assert_eq!(entries(&at("elsewhere")), ["not-yet.bitnet", "there.bitnet"]);
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    for target in [Target::Bitnet, Target::HfPacked] {
        let text = forced(&input, &at("pipe"), target).unwrap_err().to_string();
        assert!(text.contains("device, a pipe or a socket"), "{text}");
    }
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn what_a_killed_conversion_left_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let input = oracle("gguf/bitnet-a-TQ1_0.gguf");
    let left = |name: &str, number: usize, ending: &str| {
        directory.path().join(format!(".{name}.{}-{number}.{ending}", std::process::id()))
    };
    for number in 0..40 {
        fs::write(left("out.bitnet", number, "converting"), "half").unwrap();
        fs::write(left("out.bitnet", number, "partial"), "half").unwrap();
        fs::create_dir(left("out", number, "converting")).unwrap();
    }
    to(&input, &directory.path().join("out.bitnet"), Target::Bitnet).unwrap();
    to(&input, &directory.path().join("out"), Target::HfPacked).unwrap();
    assert_eq!(entries(directory.path()).len(), 3 * 40 + 2);
}

#[test]
fn a_failure_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("nowhere/out.gguf");
    let input = oracle("bitnet-a-offline-packed");
    let text = to(&input, &output, Target::GgufI2S).unwrap_err().to_string();
    assert!(text.contains("out.gguf"), "{text}");
    let text = to(&input, &directory.path().join("nowhere/out"), Target::HfPacked).unwrap_err().to_string();
    assert!(text.contains("there is no directory") && text.contains("nowhere"), "{text}");
    assert!(!text.contains("converting") && !text.contains("os error"), "{text}");
    // Refused after the survey, before anything is written.
    to(&oracle("qwen3-a-ternary-g64"), &directory.path().join("x"), Target::HfPacked).unwrap_err();
    assert!(entries(directory.path()).is_empty());
}

#[test]
fn progress_ends_at_its_total() {
    let directory = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let options = ConvertOptions {
        progress: Some(Arc::new(move |p| listener.lock().unwrap().push(p))),
        ..ConvertOptions::default()
    };
    let output = directory.path().join("out.gguf");
    convert(&oracle("bitnet-a-offline-packed"), &output, Target::GgufTq2_0, &options).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 50 && seen.is_sorted_by_key(|p| p.done), "{}", seen.len());
    // The embedding is copied without being read as a matrix.
    let last = seen.last().unwrap();
    assert_eq!(last.done, last.total);
}

#[test]
fn targets_have_their_names() {
    for target in Target::ALL {
        assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
    }
    let text = "gguf".parse::<Target>().unwrap_err().to_string();
    assert!(text.contains("gguf-tq1_0") && text.contains("hf-master"), "{text}");
}
