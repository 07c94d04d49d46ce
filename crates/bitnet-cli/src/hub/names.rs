//! Names of repositories and of files in them, safe in paths and addresses.

use crate::failure::{Failure, Result};

/// `OWNER/REPO`, checked: both parts are safe in paths and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoName {
    owner: String,
    repo: String,
}

impl RepoName {
    /// The parts, if `text` has the form that the hub allows.
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, repo) = text.split_once('/')?;
        (safe(owner) && safe(repo)).then(|| Self { owner: owner.into(), repo: repo.into() })
    }

    /// The name of a [`RepoName::folder`].
    pub fn of_folder(folder: &str) -> Option<Self> {
        let (owner, repo) = folder.strip_prefix("models--")?.split_once("--")?;
        Self::parse(&format!("{owner}/{repo}"))
    }

    /// As [`RepoName::parse`], or a usage error.
    pub fn require(text: &str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| {
            Failure::usage(format_args!("'{text}' is not the name of a model on the hub"))
                .cure("the form is OWNER/REPO, such as microsoft/bitnet-b1.58-2B-4T")
        })
    }

    /// The name of the repository's folder in the cache.
    pub fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.repo)
    }
}

impl std::fmt::Display for RepoName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.repo)
    }
}

/// A word that is a harmless path component: no separators, not hidden, no `..`.
pub(super) fn safe(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !word.is_empty()
        && word.len() <= 255
        && !word.starts_with('.')
        && !word.contains("..")
        && word.chars().all(allowed)
}

/// A path of harmless components, as files in a repository have.
pub fn safe_path(path: &str) -> bool {
    path.len() <= 1024 && path.split('/').all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_cache() {
        assert_eq!(RepoName::parse("a/b-1.58_X").unwrap().folder(), "models--a--b-1.58_X");
        let back = RepoName::of_folder("models--a--b-1.58_X").map(|name| name.to_string());
        assert_eq!(back.as_deref(), Some("a/b-1.58_X"));
        assert!(
            RepoName::of_folder("datasets--a--b").is_none() && RepoName::of_folder("models--a--..").is_none()
        );
        for wrong in ["a", "a/", "/b", "a/b/c", "../b", "a/..", "a/.b", "a/b..c", "a b/c", "a\\b/c", "a/b\0"]
        {
            assert_eq!(RepoName::parse(wrong), None, "{wrong:?}");
        }
        assert!(safe_path("gguf/model-00001-of-00002.gguf"));
        for wrong in ["", "/x", "x/", "a//b", "../x", "a/../b", "a/./b", "c:\\x"] {
            assert!(!safe_path(wrong), "{wrong:?}");
        }
    }
}
