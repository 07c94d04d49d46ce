//! What the cache holds of each model, and how it is cleared.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

use super::{Cache, RepoName};
use crate::failure::{Failure, Result};

/// Folders in folders, more than any model has.
const DEEPEST: usize = 16;

/// A model in the cache, with the disk space that it takes.
pub struct Kept {
    pub repo: RepoName,
    pub path: PathBuf,
    /// Bytes on the disk; a file that several commits share counts once.
    pub bytes: u64,
    /// Names of files in all of its commits.
    pub files: usize,
    /// Branches, tags and commits of which everything is here.
    pub revisions: Vec<String>,
}

impl Cache {
    /// Every model in the cache, by name.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        let entries = match fs::read_dir(self.root()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Failure::io("read", self.root(), &e)),
        };
        let names = entries.flatten().filter_map(|entry| RepoName::of_folder(entry.file_name().to_str()?));
        let mut kept: Vec<Kept> = names.filter_map(|repo| self.kept_of(&repo)).collect();
        kept.sort_by_key(|kept| kept.repo.to_string());
        Ok(kept)
    }

    /// What there is of `repo`; nothing when its folder is missing or leads elsewhere.
    pub fn kept_of(&self, repo: &RepoName) -> Option<Kept> {
        let path = self.folder(repo);
        if !fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            return None;
        }
        let (mut seen, mut bytes, mut files) = (BTreeSet::new(), 0, 0);
        walk(&path.join("blobs"), DEEPEST, &mut |_, there| {
            if there.is_file() && seen.insert(identity(there)) {
                bytes += there.len();
            }
        });
        walk(&path.join("snapshots"), DEEPEST, &mut |_, there| {
            files += 1;
            // Another name of a blob, or a copy where the system has neither links nor second names.
            if there.is_file() && seen.insert(identity(there)) {
                bytes += there.len();
            }
        });
        let (refs, mut revisions) = (path.join("refs"), Vec::new());
        walk(&refs, DEEPEST, &mut |file, _| {
            let name = file.strip_prefix(&refs).ok().and_then(Path::to_str);
            revisions.extend(name.filter(|name| super::safe_path(name)).map(str::to_owned));
        });
        revisions.sort();
        Some(Kept { repo: repo.clone(), path, bytes, files, revisions })
    }
}

impl Kept {
    /// Removes the model from the disk. Links are removed, never what they lead to.
    pub fn remove(&self) -> Result<()> {
        let failed = |e: io::Error| Failure::io("remove", &self.path, &e);
        let mut downloads = Vec::new();
        walk(&self.path.join("blobs"), 1, &mut |file, there| {
            if there.is_file() && file.extension().is_some_and(|e| e == "incomplete") {
                downloads.push(file.to_owned());
            }
        });
        for file in downloads {
            if File::open(&file).is_ok_and(|file| file.try_lock().is_err()) {
                return Err(Failure::new(format_args!("{} is being fetched by another process", self.repo))
                    .cure("wait until it is done"));
            }
        }
        // First what says that a commit is complete, so that a half removed model is not taken for a whole one.
        match fs::remove_dir_all(self.path.join("refs")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => fs::remove_dir_all(&self.path).map_err(failed),
        }
    }
}

/// Calls `visit` for everything below `folder` that is no folder itself. Links are not followed.
fn walk(folder: &Path, depth: usize, visit: &mut dyn FnMut(&Path, &Metadata)) {
    // A folder that is a link leads out of the cache.
    if !fs::symlink_metadata(folder).is_ok_and(|there| there.is_dir()) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() && depth > 0 => walk(&path, depth - 1, visit),
            Ok(there) if !there.is_dir() => visit(&path, &there),
            _ => {}
        }
    }
}

/// What two names of one file share.
#[cfg(unix)]
fn identity(there: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (there.dev(), there.ino())
}

/// Elsewhere the second names of blobs cannot be told; they have the same length and time.
#[cfg(not(unix))]
fn identity(there: &Metadata) -> (u64, u128) {
    let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).ok();
    (there.len(), there.modified().ok().and_then(since).map_or(0, |d| d.as_nanos()))
}
