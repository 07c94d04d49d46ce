//! Runs the built command as a user would, with a home of its own.
#![allow(dead_code)] // each test file uses a part

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub mod hub;

/// The expected values made by others.
pub const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle");
pub const ORACLE_MADE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made");

/// A model of the oracle.
pub fn oracle(name: &str) -> String {
    format!("{ORACLE}/{name}")
}

/// What a run left.
pub struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Standard output of a run that must have worked.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.out()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap()
    }

    /// A run that must have failed with `code`, a sentence with `parts` on standard error, and nothing on standard
    /// output.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.out(), "", "a failed command has no result");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {:?}", self.stderr);
        }
        assert!(self.stderr.starts_with("error: "), "{:?}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr }
    }
}

/// A user: an empty home, and an environment without anything of ours.
pub struct User {
    pub home: TempDir,
    variables: Vec<(String, String)>,
}

impl User {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.variables.push((name.into(), value.as_ref().to_str().unwrap().into()));
        self
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A file in the home.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command<A: AsRef<str>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
        command.args(args.iter().map(AsRef::as_ref)).stdin(Stdio::null());
        let kept = ["PATH", "HF_", "HUGGINGFACE_", "BITNET_", "XDG_", "NO_COLOR", "NO_PROXY"];
        for (name, _) in std::env::vars() {
            if kept[1..].iter().any(|k| name.starts_with(k)) || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        // Not this package's folder, where `box` is a directory.
        command
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .envs(self.variables.iter().cloned());
        command
    }

    pub fn run<A: AsRef<str>>(&self, args: &[A]) -> Done {
        self.command(args).output().unwrap().into()
    }

    /// A run with `input` on standard input.
    pub fn pipe<A: AsRef<str>>(&self, args: &[A], input: &str) -> Done {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that fails early closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap().into()
    }
}

/// A run by a user of its own.
pub fn bitnet<A: AsRef<str>>(args: &[A]) -> Done {
    User::new().run(args)
}
