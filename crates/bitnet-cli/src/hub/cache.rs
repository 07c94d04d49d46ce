//! The cache folder: `models--OWNER--REPO/{blobs, refs, snapshots}`, the same for every client of the hub.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use super::{
    names::{RepoName, safe},
    parts,
};
use crate::{
    failure::{Failure, Result},
    files::{self, Draft},
};

/// The most bytes of a ref file, which holds a commit's hash.
const MOST_REF: u64 = 1 << 10;

/// The cache of downloads that all clients of the hub share.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What the cache holds of a model that a user names.
#[derive(Debug)]
pub enum CachedModel {
    /// A directory or a file that can be opened.
    Model(PathBuf),
    /// Several model files, of which one must be named.
    Several(Vec<String>),
    /// No file of it that could be run.
    Nothing,
}

impl Cache {
    /// The folder that the variables HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME say, in this order.
    pub fn from_env() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home()?.join("hub")));
        root.map(|root| Self { root }).ok_or_else(|| {
            Failure::new("there is no place for downloads: neither HF_HOME nor HOME is set")
                .cure("HF_HOME=/some/folder bitnet ...")
        })
    }

    /// The folder that holds all models.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that holds one model.
    pub fn folder(&self, repo: &RepoName) -> PathBuf {
        self.root.join(repo.folder())
    }

    /// The path of the blob that an etag names.
    pub fn blob(&self, repo: &RepoName, etag: &str) -> PathBuf {
        self.folder(repo).join("blobs").join(etag)
    }

    /// The folder of links that stands for one commit.
    pub fn snapshot(&self, repo: &RepoName, commit: &str) -> PathBuf {
        self.folder(repo).join("snapshots").join(commit)
    }

    /// Gives a blob its name in a snapshot.
    pub fn link(&self, repo: &RepoName, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(repo, commit).join(name);
        let failed = |e| Failure::io("write", &path, &e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // A dangling link from an interrupted run would be in the way.
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let mut relative = PathBuf::from("../..");
        relative.extend(name.split('/').skip(1).map(|_| ".."));
        relative.extend(["blobs", etag]);
        symlink(&relative, &self.blob(repo, etag), &path).map_err(failed)
    }

    /// Says that `revision` is `commit`, once everything of it is here.
    pub fn set_ref(&self, repo: &RepoName, revision: &str, commit: &str) -> Result<()> {
        let path = self.folder(repo).join("refs").join(revision);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.map_err(|e| Failure::io("create", &path, &e))?;
        let mut draft = Draft::new(&path)?;
        draft.write(commit.as_bytes())?;
        draft.publish()
    }

    /// What there is of `repo`, without asking the network. `file` names one file of it.
    pub fn find(&self, repo: &RepoName, file: Option<&str>) -> CachedModel {
        let Some(snapshot) = self.newest(repo) else { return CachedModel::Nothing };
        if let Some(file) = file {
            return if super::safe_path(file) && snapshot.join(file).is_file() {
                CachedModel::Model(snapshot.join(parts::first(file)))
            } else {
                CachedModel::Nothing
            };
        }
        let has = |suffix: &str| names(&snapshot).iter().any(|name| name.ends_with(suffix));
        if has(".safetensors") && snapshot.join("config.json").is_file() {
            return CachedModel::Model(snapshot);
        }
        let names = names(&snapshot);
        let models = parts::models(names.iter().filter(|n| n.ends_with(".gguf") || n.ends_with(".bitnet")));
        match models.as_slice() {
            [] => CachedModel::Nothing,
            [one] => CachedModel::Model(snapshot.join(one)),
            _ => CachedModel::Several(models),
        }
    }

    /// The snapshot of `main`, else of the one revision that was fetched. A snapshot without a ref is incomplete.
    fn newest(&self, repo: &RepoName) -> Option<PathBuf> {
        let refs = self.folder(repo).join("refs");
        let snapshot = |name: &str| {
            let commit = String::from_utf8(files::cached(&refs.join(name), MOST_REF).ok()??).ok()?;
            let path = self.snapshot(repo, Some(commit.trim()).filter(|c| safe(c))?);
            path.is_dir().then_some(path)
        };
        snapshot("main").or_else(|| match names(&refs).as_slice() {
            [one] => snapshot(one),
            _ => None,
        })
    }
}

/// HF_HOME, or where it is by default.
pub fn home() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("HF_HOME").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
        Some(cache?.join("huggingface"))
    })
}

/// Names in a folder that are not hidden, sorted; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let shown = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<_> = shown.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[cfg(unix)]
fn symlink(relative: &Path, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

/// Links need a privilege on other systems; two names of one file do not.
#[cfg(not(unix))]
fn symlink(_relative: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(|_| ()))
}
