//! Runs of `bitnet train` that are killed, find no room or damaged files: nothing is lost but the steps since the last
//! checkpoint.
//!
//! `a_full_file_system` mounts a small one where nobody else sees it, which Linux allows to root, and to others where user
//! namespaces are on. Elsewhere it fails and says so; `-- --skip a_full_file_system` leaves it out.
#![cfg(all(feature = "training", unix))]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Done, User};
use serde_json::Value;

/// What a run leaves that nobody's clock is in: checkpoints and models, by their names.
type Left = BTreeMap<String, Vec<u8>>;

/// A small job with so many steps.
fn args(steps: u32) -> Vec<String> {
    let settings = [
        "data.files=[\"text.txt\"]",
        "data.vocabulary=300",
        "model.hidden=64",
        "model.ffn=64",
        "model.layers=1",
        "training.batch=2",
        "training.positions=16",
        "optimizer.warmup=1",
        "run.save_every=2",
        "run.evaluate_every=6",
        "run.threads=1",
        "export.formats=[\"bitnet\"]",
        &format!("training.steps={steps}"),
    ];
    let settings = settings.iter().map(|s| format!("--set={s}"));
    ["train", "job.toml"].into_iter().map(str::to_owned).chain(settings).collect()
}

fn user() -> User {
    let user = User::new();
    let text: String = (0..300).map(|i| format!("line {i} of a text, with {} words\n", i * i % 17)).collect();
    user.file("text.txt", text);
    user.run(&["train", "--init", "job.toml"]).ok();
    user
}

fn files(directory: &Path, left: &mut Left) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        left.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), bytes);
    }
}

fn left(user: &User) -> Left {
    let mut left = Left::new();
    files(&user.path("run/checkpoints"), &mut left);
    files(&user.path("run/master"), &mut left);
    left.insert("model.bitnet".into(), fs::read(user.path("run/model.bitnet")).unwrap());
    left
}

/// The lines of the metrics without what a clock said, and without the flips, which are counted from where a run was taken up.
fn metrics(user: &User) -> Vec<Value> {
    let text = fs::read_to_string(user.path("run/metrics.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let object = value.as_object_mut().unwrap();
        ["seconds", "time", "flips"].iter().for_each(|key| drop(object.remove(*key)));
        value
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn same(user: &User, straight: &Left, lines: &[Value]) {
    let now = left(user);
    assert_eq!(now.keys().collect::<Vec<_>>(), straight.keys().collect::<Vec<_>>());
    for (name, bytes) in &now {
        assert!(straight[name] == *bytes, "{name} differs");
    }
    assert_eq!(metrics(user), lines);
}

/// A run that is killed after `delay`, unless it has ended before.
fn killed(user: &User, args: &[String], delay: Duration) -> bool {
    let mut child = user.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(delay);
    // SIGKILL: the process is not asked.
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn twenty_kills_cost_nothing_but_time() {
    let args = args(24);
    let user = user();
    let begin = Instant::now();
    user.run(&args).ok();
    let whole = begin.elapsed();
    let (straight, lines) = (left(&user), metrics(&user));
    assert_eq!(lines.len(), 24 + 4);
    fs::remove_dir_all(user.path("run")).unwrap();
    let (mut kills, mut state) = (0, 0x9e37_79b9u64);
    while kills < 20 {
        // Knuth's MMIX generator; a run takes about as long as the longest delay, and one that is taken up again less.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 40) as f64 / (1u64 << 24) as f64;
        if killed(&user, &args, whole.mul_f64(share)) {
            kills += 1;
        } else {
            same(&user, &straight, &lines);
            fs::remove_dir_all(user.path("run")).unwrap();
        }
    }
    user.run(&args).ok();
    same(&user, &straight, &lines);
}

/// The checkpoints of a run, the oldest first.
fn checkpoints(user: &User) -> Vec<PathBuf> {
    let entries = fs::read_dir(user.path("run/checkpoints")).unwrap();
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
    let (user, args) = (user(), args(8));
    user.run(&args).ok();
    let (straight, lines) = (left(&user), metrics(&user));
    let newest = checkpoints(&user).pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let damages: [&[u8]; 4] = [&whole[..whole.len() / 2], &whole[..20], b"", &flipped];
    for bytes in damages {
        fs::write(&newest, bytes).unwrap();
        let again = user.run(&args);
        again.ok();
        let said = "step-0000000008.safetensors is damaged";
        assert!(again.stderr.contains(said), "{}", again.stderr);
        assert!(again.stderr.contains("going on behind step 6"), "{}", again.stderr);
        same(&user, &straight, &lines);
    }
    // The last two: the third is all there is.
    let paths = checkpoints(&user);
    fs::write(&paths[2], "").unwrap();
    fs::write(&paths[1], "").unwrap();
    let again = user.run(&args);
    again.ok();
    assert!(again.stderr.contains("going on behind step 4"), "{}", again.stderr);
    same(&user, &straight, &lines);
}

/// A run that may write no file of more than so many half kilobytes, and is told when it does.
fn confined(user: &User, args: &[String], blocks: u32) -> Done {
    let inner = user.command(args);
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' XFSZ; ulimit -f \"$0\" && exec \"$@\"", &blocks.to_string()]);
    outer.arg(inner.get_program()).args(inner.get_args()).arg("--quiet").current_dir(user.home.path());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.stdin(Stdio::null()).output().unwrap().into()
}

/// The checkpoints of a run with their bytes.
fn kept(user: &User) -> Vec<(PathBuf, Vec<u8>)> {
    checkpoints(user).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn without_room_the_last_checkpoint_stays_and_a_sentence_says_what_to_do() {
    let (user, args) = (user(), args(8));
    user.run(&args).ok();
    let (straight, lines) = (left(&user), metrics(&user));
    fs::remove_file(checkpoints(&user).pop().unwrap()).unwrap();
    fs::remove_dir_all(user.path("run/master")).unwrap();
    fs::remove_file(user.path("run/model.bitnet")).unwrap();
    let before = kept(&user);
    // Room for the metrics, not for a checkpoint.
    confined(&user, &args, 100)
        .fails(1, &["step-0000000008.safetensors", "try:", "behind the last checkpoint"]);
    assert!(before == kept(&user), "a checkpoint has changed");
    // Not even for the metrics.
    confined(&user, &args, 0).fails(1, &["metrics", "try:"]);
    assert_eq!(checkpoints(&user).len(), 2);
    user.run(&args).ok();
    same(&user, &straight, &lines);
}

/// A file system of 8 MiB on a folder, and what fills it.
#[cfg(target_os = "linux")]
struct Disk(PathBuf);

#[cfg(target_os = "linux")]
impl Disk {
    fn on(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&folder);
        assert!(mount.status().unwrap().success(), "no file system can be mounted: {IMPOSSIBLE}");
        Self(folder)
    }

    /// Writes until the system says that there is no room, then gives so many bytes back.
    fn fill_but(&self, room: usize) {
        use std::io::{ErrorKind, Write};
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        let mut written = 0;
        let refused = loop {
            match file.write(&[7; 4096]) {
                Ok(bytes) => written += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        file.set_len((written - room) as u64).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        // What is mounted vanishes with the process anyway; its folder only without it.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
const IMPOSSIBLE: &str = "run this test as root or where user namespaces are allowed, or leave it out with `-- --skip a_full_file_system`";

/// Runs a test of this file again, in a process that may mount.
#[cfg(target_os = "linux")]
fn among_own_mounts(test: &str) -> Done {
    // Root needs no namespace of users, and may be where there are none.
    let ways: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];
    let run = |way: &[&str], what: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way).args(what).env(INSIDE, "yes");
        Done::from(command.output().unwrap_or_else(|error| panic!("unshare: {error}; {IMPOSSIBLE}")))
    };
    let tried = ways.map(|way| (way, run(way, &["true"])));
    let Some((way, _)) = tried.iter().find(|(_, done)| done.code == 0) else {
        panic!("{}{}no mounts of one's own: {IMPOSSIBLE}", tried[0].1.stderr, tried[1].1.stderr);
    };
    let own = std::env::current_exe().unwrap();
    run(way, &[own.to_str().unwrap(), test, "--exact", "--nocapture"])
}

#[cfg(target_os = "linux")]
const INSIDE: &str = "TEST_AMONG_OWN_MOUNTS";

#[test]
#[cfg(target_os = "linux")]
fn a_full_file_system() {
    if std::env::var_os(INSIDE).is_none() {
        let done = among_own_mounts("a_full_file_system");
        assert!(done.code == 0 && done.out().contains("1 passed"), "{}{}", done.out(), done.stderr);
        return;
    }
    let (user, args) = (user(), args(8));
    user.run(&args).ok();
    let (straight, lines) = (left(&user), metrics(&user));
    let size = kept(&user)[0].1.len();
    fs::remove_dir_all(user.path("run")).unwrap();
    let disk = Disk::on(user.path("run"));
    let quiet = [&args[..], &["--quiet".to_owned()]].concat();
    let (file, cure) = ("step-0000000006.safetensors", "make room and give the same command again");
    // Two checkpoints and a half, beside metrics and curve.
    disk.fill_but(size * 5 / 2 + (64 << 10));
    user.run(&quiet).fails(1, &[file, "No space left", "try:", cure]);
    let before = kept(&user);
    let names: Vec<_> = before.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["step-0000000002.safetensors", "step-0000000004.safetensors"]);
    assert!(before[1].1 == straight[names[1]]);
    // Again, and with no byte left, not even for a line of the metrics.
    user.run(&quiet).fails(1, &[file, "try:", cure]);
    disk.fill_but(0);
    user.run(&quiet).fails(1, &["run/", "No space left", "try:", cure]);
    assert!(before == kept(&user), "a checkpoint has changed");
    disk.empty();
    user.run(&args).ok();
    same(&user, &straight, &lines);
    // All steps are done, and the model finds no room.
    fs::remove_file(user.path("run/model.bitnet")).unwrap();
    disk.fill_but(straight["model.bitnet"].len() / 2);
    user.run(&quiet).fails(1, &["run/master/model.safetensors", "No space left", "try:", cure]);
    disk.empty();
    user.run(&args).ok();
    same(&user, &straight, &lines);
}
