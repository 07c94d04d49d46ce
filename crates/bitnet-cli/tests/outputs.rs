//! Outputs are written whole or not at all, over nothing that somebody wants to keep, and in place of no device; caches and names
//! from files cannot hurt.
#![allow(clippy::unwrap_used)] // a test fails by panicking
#![cfg(unix)]

mod common;

use std::{
    fs,
    io::Read,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, symlink},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{ORACLE, ORACLE_MADE, User, bitnet};

/// Every verb that writes a file which a user names, without the name.
const WRITERS: [&[&str]; 4] = [
    &["logits", "box", "--ids-file", "ids.json", "--out"],
    &["inspect", "box", "--quality", "--html"],
    &["convert", "box", "--to", "bitnet"],
    &["bench", "--synthetic", "tiny", "--write"],
];

fn user() -> User {
    let user = User::new();
    user.file("ids.json", "[1, 2, 3]");
    user
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn pipe(user: &User, name: &str) {
    assert!(Command::new("mkfifo").arg(user.path(name)).status().unwrap().success());
}

#[test]
fn one_rule_for_what_may_be_replaced() {
    let user = user();
    for writer in WRITERS {
        let out = user.file("precious", "precious");
        let line = [writer, &[out.as_str()]].concat();
        user.run(&line).fails(1, &["precious exists already", "--force"]);
        assert_eq!(fs::read(&out).unwrap(), b"precious", "{line:?}");
        user.run(&[&line[..], &["--force"]].concat()).ok();
        assert!(fs::metadata(&out).unwrap().len() > 100, "{line:?}");
        // A link stays one, and what it leads to is replaced.
        let target = user.file("target", "precious");
        let _ = fs::remove_file(user.path("link"));
        symlink(&target, user.path("link")).unwrap();
        user.run(&[writer, &["link"]].concat()).fails(1, &["--force"]);
        user.run(&[writer, &["link", "--force"]].concat()).ok();
        assert!(fs::symlink_metadata(user.path("link")).unwrap().is_symlink(), "{line:?}");
        assert!(fs::metadata(&target).unwrap().len() > 100, "{line:?}");
        // A directory is none of it, and a missing one has words.
        user.run(&[writer, &[".cache"]].concat()).fails(1, &[".cache"]);
        let missing = user.run(&[writer, &["nowhere/out"]].concat());
        missing.fails(1, &["there is no directory nowhere"]);
        assert!(
            !missing.stderr.contains("os error") && !missing.stderr.contains(".part"),
            "{}",
            missing.stderr
        );
    }
    let folder = user.path("man");
    user.run(&["man", folder.to_str().unwrap()]).ok();
    user.run(&["man", folder.to_str().unwrap()]).fails(1, &["exists already", "--force"]);
    user.run(&["man", folder.to_str().unwrap(), "--force"]).ok();
}

#[test]
fn a_saved_conversation_replaces_nothing_unasked() {
    let user = user();
    let out = user.file("chat.json", "precious");
    let told = user.pipe(&["chat", "-n", "1"], "/save chat.json\n/quit\n");
    assert!(
        told.stderr.contains("chat.json exists already") && told.stderr.contains("/save --force chat.json"),
        "{}",
        told.stderr
    );
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    user.pipe(&["chat", "-n", "1"], "/save --force chat.json\n/quit\n").ok();
    assert_eq!(fs::read_to_string(&out).unwrap().trim(), "[]");
}

#[test]
fn pipes_and_devices_are_written_to_or_refused() {
    let user = user();
    for (number, writer) in WRITERS.into_iter().enumerate() {
        let name = format!("pipe{number}");
        pipe(&user, &name);
        let mut command = user.command(&[writer, &[name.as_str(), "--force"]].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let done = if number == 0 {
            let mut bytes = Vec::new();
            fs::File::open(user.path(&name)).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes.starts_with(b"\x93NUMPY") && bytes.len() > 3 * 2048 * 4, "{}", bytes.len());
            child.wait_with_output().unwrap()
        } else {
            child.wait_with_output().unwrap()
        };
        assert_eq!(done.status.success(), number == 0, "{writer:?}");
        assert!(fs::metadata(user.path(&name)).unwrap().file_type().is_fifo(), "{writer:?}");
    }
    let logits = user.run(&["logits", "box", "--ids-file", "ids.json", "--out", "-"]);
    assert!(logits.code == 0 && logits.stdout.starts_with(b"\x93NUMPY"), "{}", logits.stderr);
    assert!(!user.path("-").exists());
    for writer in WRITERS.into_iter().skip(1) {
        user.run(&[writer, &["-"]].concat()).fails(2, &["standard output"]);
    }
    if Path::new("/dev/full").exists() {
        let line = ["logits", "box", "--ids-file", "ids.json", "--out", "/dev/full"];
        user.run(&line).fails(1, &["/dev/full", "no space left"]);
        assert!(!fs::metadata("/dev/full").unwrap().is_file());
    }
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else { return };
    for line in ["--help", "--version", "run --help", "help pull"] {
        let line: Vec<&str> = line.split(' ').collect();
        let done =
            user().command(&line).stdout(full.try_clone().unwrap()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{line:?}");
        let told = String::from_utf8(done.stderr).unwrap();
        assert!(told.contains("cannot write to standard output: no space left"), "{told}");
    }
}

#[test]
fn every_signal_that_ends_takes_what_is_half_written_away() {
    // Whoever runs the tests may have it ignored, as `nohup` does, and the command obeys.
    let told = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let heard = told
        .lines()
        .any(|line| line.starts_with("SigIgn:") && line.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']));
    for (signal, number) in
        [("TERM", 15), ("HUP", 1), ("INT", 2)].into_iter().filter(|s| heard || s.0 != "HUP")
    {
        let user = User::new();
        let ids = user.file("ids.json", serde_json::json!(vec![1; 20_000]).to_string());
        let line = ["logits", "box", "--ids-file", &ids, "--out", "out.npy", "--kernel", "scalar"];
        let mut child = user.command(&line).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while !names(user.home.path()).iter().any(|name| name.starts_with(".out.npy")) {
            assert!(start.elapsed() < Duration::from_secs(60), "no draft was seen");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(
            Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(128 + number), "{signal}");
        assert_eq!(names(user.home.path()), [".cache", "ids.json"], "{signal}");
    }
}

#[test]
fn whoever_ignores_hanging_up_goes_on() {
    let user = User::new();
    let line = format!(
        "trap '' HUP; {} run box x --greedy --ignore-eos --kernel scalar -n 800 --context 1000 & child=$!; sleep 0.2; kill -HUP $child; wait $child",
        env!("CARGO_BIN_EXE_bitnet")
    );
    let mut command = Command::new("bash");
    let done =
        command.args(["-c", &line]).current_dir(user.home.path()).env("HOME", user.home.path()).output();
    assert_eq!(done.unwrap().status.code(), Some(0));
}

#[test]
fn a_file_that_may_not_grow_is_a_sentence() {
    let user = user();
    user.run(&["inspect", "box"]).ok();
    for writer in &WRITERS[..3] {
        let words: Vec<&str> = [*writer, &["out"]].concat();
        // In blocks of 1024 bytes, as bash counts.
        let line = format!("ulimit -f 8; {} {}", env!("CARGO_BIN_EXE_bitnet"), words.join(" "));
        let mut command = Command::new("bash");
        let done = command
            .args(["-c", &line])
            .current_dir(user.home.path())
            .env("HOME", user.home.path())
            .output()
            .unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{line}: {told}");
        assert!(told.contains("out: ") && told.contains("may not grow"), "{line}: {told}");
        assert_eq!(names(user.home.path()), [".cache", "ids.json"], "{line}");
    }
}

#[test]
fn what_a_killed_process_left_does_not_block() {
    let user = user();
    // The number of a process is known to the shell before it becomes the command.
    let line = format!(
        "for n in $(seq 0 30); do echo half > .out.npy.$$-$n.partial; echo half > .out.npy.$$-$n.part; done; \
         exec {} logits box --ids-file ids.json --out out.npy",
        env!("CARGO_BIN_EXE_bitnet")
    );
    let mut command = Command::new("bash");
    let done = command
        .args(["-c", &line])
        .current_dir(user.home.path())
        .env("HOME", user.home.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(user.path("out.npy").is_file());
}

#[test]
fn caches_hold_regular_files_of_bounded_size() {
    let user = user();
    let cache = user.path(".cache/bitnet-rust");
    for kind in ["tuning", "gates"] {
        fs::create_dir_all(cache.join(kind)).unwrap();
        pipe(&user, &format!(".cache/bitnet-rust/{kind}/a.json"));
        symlink("/dev/zero", cache.join(kind).join("b.json")).unwrap();
    }
    user.run(&["inspect", "box"]).ok();
    let unpacked =
        fs::read_dir(&cache).unwrap().flatten().find(|e| e.file_name().as_bytes().starts_with(b"box"));
    let config = unpacked.unwrap().path().join("config.json");
    fs::remove_file(&config).unwrap();
    symlink("/dev/zero", &config).unwrap();
    let refs = user.path(".cache/huggingface/hub/models--a--b/refs");
    fs::create_dir_all(&refs).unwrap();
    pipe(&user, ".cache/huggingface/hub/models--a--b/refs/main");
    pipe(&user, "history");
    for (line, code) in [
        (&["doctor", "--threads", "1"][..], 0),
        (&["inspect", "a/b"], 1),
        (&["list"], 0),
        (&["chat", "-n", "1", "--history", "history"], 0),
    ] {
        let mut child = user.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("{line:?} waits for a pipe");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(code), "{line:?}");
    }
}

#[test]
fn arguments_need_not_be_utf8() {
    for line in [&["inspect"][..], &["run"], &["logits", "box", "--ids-file"], &["pull"], &[]] {
        let user = User::new();
        let mut command = user.command(line);
        let done = command.arg(std::ffi::OsStr::from_bytes(b"\xff.gguf")).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(matches!(done.status.code(), Some(1 | 2)), "{line:?}: {told}");
        assert!(!told.contains("panicked") && told.contains("error:"), "{told}");
    }
    // A file of such a name is opened where a path is asked for.
    let user = user();
    let name = std::ffi::OsStr::from_bytes(b"\xff.json");
    fs::write(user.home.path().join(name), "[1]").unwrap();
    let done = user.command(&["logits", "box", "--out", "-", "--ids-file"]).arg(name).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // So is a model, wherever one is named, and its name is shown as well as it goes.
    let name = std::ffi::OsStr::from_bytes(b"m\xff.gguf");
    fs::copy(format!("{ORACLE}/gguf/bitnet-a-I2_S.gguf"), user.home.path().join(name)).unwrap();
    let text = user.file("text.txt", "First Citizen: we are accounted poor citizens, the patricians good.");
    let ids = user.file("ids.json", "[300, 301]");
    let lines: [&[&str]; 14] = [
        &["inspect", "{}"],
        &["run", "{}", "First", "-n", "2"],
        &["run", "-m", "{}", "First", "-n", "2"],
        &["run", "{}", "--prompt", "First", "-n", "2"],
        &["chat", "{}"],
        &["tokenize", "{}", "First"],
        &["tokenize", "-m", "{}", "First"],
        &["logits", "{}", "--ids-file", &ids, "--out", "-"],
        &["perplexity", "{}", "--file", &text],
        &["evaluate", "{}", "--file", &text, "--against", "{}"],
        &["inspect", "{}", "--quality", "--against", "{}"],
        &["convert", "{}", "out.bitnet", "--to", "bitnet"],
        &["convert", "-m", "{}", "again.bitnet", "--to", "bitnet"],
        &["bench", "{}", "--threads", "1", "--prompt", "0", "--generate", "2", "--no-breakdown"],
    ];
    for line in lines {
        let mut command = user.command::<&str>(&[]);
        let words = line.iter().map(|&word| if word == "{}" { name } else { word.as_ref() });
        let done = command.args(words).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{line:?}: {told}");
    }
    let missing = std::ffi::OsStr::from_bytes(b"gone\xff.gguf");
    let done = user.command(&["inspect"]).arg(missing).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("there is no model 'gone\u{fffd}.gguf'"));
}

#[test]
fn nothing_in_a_file_moves_a_cursor() {
    let user = user();
    let evil = "\u{1b}[2J\u{1b}]0;pwned\u{7}\r\u{9b}1m\u{202e}\u{200b}\u{e0041}";
    let folder = user.path("model");
    fs::create_dir(&folder).unwrap();
    let long = format!("{evil}{}", "A".repeat(1 << 20));
    for (key, value) in [
        ("architectures", serde_json::json!([evil])),
        ("architectures", serde_json::json!([long])),
        ("model_type", evil.into()),
        ("hidden_act", evil.into()),
    ] {
        let original = fs::read(format!("{ORACLE_MADE}/trilm-a-2shards-f16/config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&original).unwrap();
        config[key] = value;
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        for line in [&["inspect", "model"][..], &["inspect", "model", "--json"], &["run", "model", "x"]] {
            let done = user.run(line);
            let seen = format!("{}{}", done.out(), done.stderr);
            let bad = seen
                .chars()
                .find(|&c| c != '\n' && (c.is_control() || "\u{202e}\u{200b}\u{e0041}".contains(c)));
            assert_eq!(bad, None, "{line:?}");
            assert!(seen.len() < 8000, "{line:?}: {}", seen.len());
        }
    }
    let name = format!("{evil}.gguf").replace('/', "");
    for line in [&["inspect"][..], &["tokenize"]] {
        let done = bitnet(&[line, &[name.as_str()]].concat());
        assert!(!done.stderr.contains('\u{1b}') && !done.stderr.contains('\u{9b}'), "{}", done.stderr);
    }
}

#[test]
fn sampling_numbers_at_the_edge_of_floats() {
    let model = format!("{ORACLE_MADE}/trilm-a-2shards-f16");
    let run = |more: &[&str]| bitnet(&[&["run", &model, "ab", "-n", "5", "--print", "ids"], more].concat());
    let greedy = run(&["--greedy"]);
    for temperature in ["1e-45", "1e-40", "1e-30", "1e-20"] {
        assert_eq!(run(&["--temperature", temperature, "--seed", "1"]).ok(), greedy.ok(), "{temperature}");
    }
    let biased = run(&["--logit-bias", "1=1000000"]);
    assert_eq!(biased.ok().trim(), "[1,1,1,1,1]");
    for wrong in [
        &["--logit-bias", "1=3.4e38"][..],
        &["--logit-bias", "1=nan"],
        &["--frequency-penalty=-3e38"],
        &["--presence-penalty", "3e38"],
        &["--repetition-penalty", "1e-45"],
        &["--temperature", "nan"],
    ] {
        run(wrong).fails(
            2,
            &["1000000"].into_iter().filter(|_| !wrong.join(" ").contains("nan")).collect::<Vec<_>>(),
        );
    }
    for id in ["320", "4294967295"] {
        run(&["--logit-bias", &format!("{id}=1")]).fails(2, &[id, "outside the vocabulary of 320"]);
    }
}
