//! The front itself: help, completions, manual pages, colours, pipes, signals, the machine's report.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{User, bitnet};

const COMMANDS: [&str; 19] = [
    "run",
    "chat",
    "inspect",
    "doctor",
    "bench",
    "convert",
    "quantize",
    "train",
    "finetune",
    "twins",
    "tokenize",
    "logits",
    "perplexity",
    "evaluate",
    "pull",
    "list",
    "remove",
    "completions",
    "man",
];

#[test]
fn help_and_version_are_results() {
    let help = bitnet(&["--help"]);
    for command in COMMANDS {
        assert!(help.ok().contains(&format!("  {command} ")), "{command}");
        let own = bitnet(&[command, "--help"]);
        assert!(own.ok().contains(&format!("Usage: bitnet {command}")), "{}", own.out());
    }
    assert!(help.ok().contains("130 interrupted"));
    assert!(bitnet(&["--version"]).ok().starts_with(concat!("bitnet ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn verbs_of_other_programs_are_understood() {
    for (theirs, ours) in [
        ("generate", "run"),
        ("info", "inspect"),
        ("download", "pull"),
        ("ls", "list"),
        ("models", "list"),
        ("rm", "remove"),
    ] {
        assert_eq!(bitnet(&[theirs, "--help"]).ok(), bitnet(&[ours, "--help"]).ok(), "{theirs}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = bitnet(&["completions", shell]);
        for word in ["perplexity", "max-new-tokens"] {
            assert!(script.ok().contains(word), "{word} for {shell}");
        }
    }
    bitnet(&["completions", "tcsh"]).fails(2, &["tcsh", "bash"]);
}

#[test]
fn the_bash_completions_are_a_script() {
    let user = User::new();
    let path = user.file("bitnet.bash", bitnet(&["completions", "bash"]).ok());
    let ask = format!(
        ". {path}; COMP_WORDS=(bitnet perp); COMP_CWORD=1; _bitnet bitnet perp bitnet; echo \"${{COMPREPLY[@]}}\""
    );
    let answer = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8(answer.stdout).unwrap().trim(), "perplexity");
}

#[test]
fn a_manual_page_for_every_command() {
    let user = User::new();
    let folder = user.path("man/man1");
    let listed = user.run(&["man", folder.to_str().unwrap()]);
    assert_eq!(listed.ok().lines().count(), COMMANDS.len() + 1);
    for command in COMMANDS {
        let page = fs::read_to_string(folder.join(format!("bitnet-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{command}");
    }
    assert!(fs::read_to_string(folder.join("bitnet.1")).unwrap().contains("bitnet"));
    let file = user.file("file", "");
    user.run(&["man", &file]).fails(1, &["cannot create"]);
}

#[test]
fn doctor_reports_the_machine() {
    let told = bitnet(&["doctor", "--json"]).json();
    let kernels = told["kernels"].as_array().unwrap();
    assert!(kernels.iter().any(|k| k["name"] == "generic-t2-i8-scalar" && k["self_test"] == true));
    assert!(kernels.iter().any(|k| k["name"] == told["chosen"]));
    for measured in told["bandwidth"].as_array().unwrap() {
        let (best, median) = (measured["best"].as_f64().unwrap(), measured["median"].as_f64().unwrap());
        // Slower than a disk or faster than any memory is a broken measurement.
        assert!(best >= median && median > 1e8 && best < 5e12, "{best} {median}");
    }
    assert!(told["findings"].is_array() && told["memory"]["total"].is_u64());
    let words = bitnet(&["doctor", "--threads", "1", "--kernel", "scalar"]);
    for part in ["Processor", "Kernels", "huge pages", "GB/s", "What looks wrong"] {
        assert!(words.ok().contains(part), "{part}");
    }
    assert!(
        words.ok().lines().any(|l| l.starts_with("generic-t2-i8-scalar") && l.ends_with("chosen")),
        "{}",
        words.ok()
    );
    let forced = User::new().with("BITNET_KERNEL", "scalar").run(&["doctor", "--threads", "1"]);
    assert!(forced.ok().contains("BITNET_KERNEL forces the kernel scalar"));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_insist() {
    let escape = "\x1b[";
    let wrong = ["run", "missing.gguf"];
    assert!(!bitnet(&wrong).stderr.contains(escape));
    assert!(bitnet(&[&wrong[..], &["--color", "always"]].concat()).stderr.contains(escape));
    assert!(!bitnet(&[&wrong[..], &["--color=never"]].concat()).stderr.contains(escape));
    assert!(!bitnet(&["inspect", "box"]).ok().contains(escape));
    assert!(bitnet(&["inspect", "box", "--color", "always"]).ok().contains(escape));
    // clap's own messages follow too.
    assert!(bitnet(&["run", "--nonsense", "--color", "always"]).stderr.contains(escape));
    assert!(!bitnet(&["run", "--nonsense"]).stderr.contains(escape));
    // What a program reads never has any.
    assert!(!bitnet(&["inspect", "box", "--json", "--color", "always"]).ok().contains(escape));
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let user = User::new();
    let run = |variable: &str| {
        let line = format!("{variable} {} run missing.gguf", env!("CARGO_BIN_EXE_bitnet"));
        let seen =
            Command::new("script").args(["-qec", &line, "/dev/null"]).env("HOME", user.home.path()).output();
        String::from_utf8(seen.unwrap().stdout).unwrap()
    };
    assert!(run("TERM=xterm").contains("\x1b[1;31merror:"));
    assert!(!run("TERM=xterm NO_COLOR=1").contains("\x1b[1;31m"));
    assert!(!run("TERM=dumb").contains("\x1b[1;31m"));
}

#[test]
fn quiet_and_verbose_talk_on_standard_error() {
    let args = ["run", "box", "x", "--greedy", "-n", "2"];
    let plain = bitnet(&args);
    assert_eq!(plain.stderr, "ended after 2 new tokens; -n sets how many\n");
    let verbose = bitnet(&[&["-v"], &args[..]].concat());
    assert!(verbose.stderr.contains("kernel="), "{}", verbose.stderr);
    let more = bitnet(&[&["-vv"], &args[..]].concat());
    for part in ["kernel=", "opened path=", "family=", "finish=length"] {
        assert!(more.stderr.contains(part), "{part} in {}", more.stderr);
    }
    assert!(!verbose.stderr.contains("opened"), "{}", verbose.stderr);
    assert_eq!(verbose.ok(), plain.ok());
    assert_eq!(bitnet(&["run", "--quiet", "-n", "2"]).stderr, "");
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let user = User::new();
    let args = ["run", "box", "x", "--ignore-eos", "-n", "400", "--quiet"];
    let mut child = user.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(done.stderr).unwrap(), "");
    assert_eq!(done.status.code(), Some(0));
}

/// Sends a signal as a terminal does.
#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_generation_with_what_was_printed() {
    let user = User::new();
    // Enough tokens to be in the middle when the signal comes, slowed down by the kernel.
    let args =
        ["run", "box", "x", "--ignore-eos", "-n", "100000", "--context", "100000", "--kernel", "scalar"];
    let mut child = user.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = Vec::new();
    out.read_until(b'\n', &mut text).unwrap();
    let start = Instant::now();
    interrupt(&child);
    out.read_to_end(&mut text).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(text.ends_with(b"\n"), "the last line is ended");
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.starts_with("warning: --context 100000") && told.lines().count() == 1, "{told}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_no_half_written_logits() {
    let user = User::new();
    let ids = user.file("ids.json", serde_json::json!(vec![1; 20_000]).to_string());
    let out = user.path("out.npy");
    let args = ["logits", "box", "--ids-file", &ids, "--out", out.to_str().unwrap(), "--kernel", "scalar"];
    let mut child = user.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let drafts = || {
        fs::read_dir(user.home.path())
            .unwrap()
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|e| e == "partial"))
            .count()
    };
    while drafts() == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
            "no draft was seen"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!out.exists());
    assert_eq!(drafts(), 0);
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_anything_is_measured_leaves_no_picture() {
    let user = User::new();
    user.run(&["inspect", "box"]).ok();
    let picture = user.path("picture.svg");
    let plot = picture.to_str().unwrap();
    let args = ["bench", "box", "--kernel", "scalar", "--prompt", "400", "--plot", plot];
    let mut child = user.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line.starts_with("[1/")));
    interrupt(&child);
    let rows = told.filter(|line| line.starts_with("  ")).count();
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), rows), (Some(130), 0));
    assert!(done.stdout.is_empty() && !picture.exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_a_conversation_stops_the_answer_only() {
    use std::io::Write;
    let user = User::new();
    let args =
        ["chat", "-n", "100000", "--context", "100000", "--kernel", "scalar", "--logit-bias", "1=-1000"];
    let mut child = user
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Speak.\n").unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 20]).unwrap();
    interrupt(&child);
    let saved = user.path("chat.json");
    input.write_all(format!("/save {}\n/quit\n", saved.display()).as_bytes()).unwrap();
    drop(input);
    out.read_to_end(&mut Vec::new()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8(done.stderr).unwrap().contains("stopped"));
    let messages: serde_json::Value = serde_json::from_slice(&fs::read(saved).unwrap()).unwrap();
    assert_eq!(messages.as_array().unwrap().len(), 2, "what was said until then is kept");
}

#[test]
fn the_model_in_the_box_is_unpacked_once_and_repaired() {
    let user = User::new();
    user.run(&["inspect", "box"]).ok();
    let folder = fs::read_dir(user.path(".cache/bitnet-rust")).unwrap().flatten().next().unwrap().path();
    let weights = folder.join("model.safetensors");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/box/model.safetensors");
    assert!(fs::read(&weights).unwrap() == fs::read(ours).unwrap());
    fs::write(&weights, "damaged").unwrap();
    user.run(&["inspect", "box"]).ok();
    assert!(fs::read(&weights).unwrap() == fs::read(ours).unwrap());
    // Where nothing can be kept, the system's folder for temporary files will do.
    let nowhere = User::new().with("XDG_CACHE_HOME", "/proc/nowhere");
    nowhere.run(&["inspect", "box"]).ok();
}
