//! From what the user calls a model to a path.

use std::path::PathBuf;

use crate::{
    args::ModelName,
    boxed,
    failure::{Failure, Result},
    hub::{Cache, CachedModel, RepoName},
};

/// The path of the model that `name` means: a file or directory, the model in the box, or one fetched before.
pub fn model(name: &ModelName) -> Result<PathBuf> {
    if name.path().exists() {
        return Ok(name.path().to_owned());
    }
    if name.text() == Some(boxed::NAME) {
        return boxed::directory();
    }
    let Some((repo, file)) = name.text().and_then(hub_name) else { return Err(unknown(name)) };
    match Cache::from_env()?.find(&repo, file) {
        CachedModel::Model(path) => Ok(path),
        CachedModel::Several(names) => {
            Err(Failure::new(format_args!("{repo} has several models here: {}", names.join(", ")))
                .cure(format_args!("name one: {repo}:{}", names[0])))
        }
        CachedModel::Nothing => Err(unknown(name).cure(match file {
            Some(file) => format!("bitnet pull {repo} --file {file}"),
            None => format!("bitnet pull {repo}"),
        })),
    }
}

/// Whether `name` means something that can be opened.
pub fn is_model(name: &ModelName) -> bool {
    let known = |text: &str| text == boxed::NAME || hub_name(text).is_some_and(|_| model(name).is_ok());
    name.path().exists() || name.text().is_some_and(known)
}

/// `OWNER/REPO` or `OWNER/REPO:FILE`.
fn hub_name(name: &str) -> Option<(RepoName, Option<&str>)> {
    match name.split_once(':') {
        Some((repo, file)) => Some((RepoName::parse(repo)?, Some(file))),
        None => Some((RepoName::parse(name)?, None)),
    }
}

fn unknown(name: &ModelName) -> Failure {
    let name = name.to_string();
    let shown: String = name.chars().take(80).collect();
    let dots = if shown.len() < name.len() { "..." } else { "" };
    Failure::new(format_args!(
        "there is no model '{shown}{dots}': no such file or directory, and none of that name was fetched"
    ))
    .cure("give the path of a model, or OWNER/REPO after `bitnet pull OWNER/REPO`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub() {
        let (repo, file) = hub_name("a/b:c.gguf").unwrap();
        assert_eq!((repo.to_string().as_str(), file), ("a/b", Some("c.gguf")));
        assert!(hub_name("a/b").is_some_and(|(_, file)| file.is_none()));
        assert!(hub_name("Once upon a time").is_none() && hub_name("a/b/c").is_none());
    }
}
