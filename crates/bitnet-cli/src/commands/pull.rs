//! `bitnet pull OWNER/REPO`.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Serialize;

use crate::{
    args::PullArgs,
    failure::{Failure, Result},
    files,
    hub::{self, Cache, CachedModel, Hub, Listing, RemoteFile, RepoName},
    human,
    progress::{ProgressMeter, Unit},
    terminal,
};

/// The list of a sharded model's files.
const INDEX: &str = "model.safetensors.index.json";
/// A line for each tensor, of which there are some thousands.
const MOST_INDEX: u64 = 64 << 20;
/// What `--revision` is when nobody says.
const DEFAULT_REVISION: &str = "main";

#[derive(Serialize)]
struct Report<'a> {
    repo: String,
    revision: &'a str,
    commit: &'a str,
    path: String,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    name: String,
    bytes: u64,
    fetched: bool,
}

pub fn run(args: &PullArgs) -> Result<()> {
    let Asked { repo, revision, file } = Asked::of(&args.repo)?;
    let revision = match &revision {
        Some(named) if args.revision != DEFAULT_REVISION && *named != args.revision => {
            return Err(Failure::usage(format_args!(
                "the address names the revision '{}', and --revision '{}'",
                named, args.revision
            )));
        }
        Some(named) => named,
        None => &args.revision,
    };
    let asked: Vec<String> = args.file.iter().cloned().chain(file).collect();
    let pull = Pull { hub: Hub::from_env()?, cache: Cache::from_env()?, repo };
    let listing = pull.hub.list(&pull.repo, revision)?;
    let names = pull.choose(&listing, &asked)?;
    let files = pull.fetch(&listing.commit, &names)?;
    // Written for a commit too: it says that everything of it is here.
    pull.cache.set_ref(&pull.repo, revision, &listing.commit)?;
    let path = pull.place(&listing.commit, &asked);
    let fetched: u64 = files.iter().filter(|f| f.fetched).map(|f| f.bytes).sum();
    terminal::note(format_args!(
        "{} of {} from {}: {} fetched",
        human::bytes(files.iter().map(|f| f.bytes).sum()),
        pull.repo,
        pull.hub.endpoint(),
        human::bytes(fetched),
    ));
    let path = path.display().to_string();
    if args.json {
        let repo = pull.repo.to_string();
        return terminal::print_json(&Report { repo, revision, commit: &listing.commit, path, files });
    }
    terminal::print_line(format_args!("{path}"))
}

/// What the first argument names: OWNER/REPO, OWNER/REPO:FILE, or the address of a page of the hub.
#[derive(Debug, PartialEq)]
struct Asked {
    repo: RepoName,
    revision: Option<String>,
    file: Option<String>,
}

impl Asked {
    fn of(text: &str) -> Result<Self> {
        let Some(path) = page(text) else {
            let (name, file) = match text.split_once(':') {
                Some((name, file)) if RepoName::parse(name).is_some() => (name, Some(file.to_owned())),
                _ => (text, None),
            };
            return Ok(Self { repo: RepoName::require(name)?, revision: None, file });
        };
        // OWNER/REPO, then /tree/REVISION, or /blob/REVISION/FILE and the like.
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let mut parts = path.splitn(5, '/');
        let mut part = || parts.next().map(str::to_owned);
        let (owner, name, kind, revision, file) = (part(), part(), part(), part(), part());
        let repo = RepoName::require(&format!("{}/{}", owner.unwrap_or_default(), name.unwrap_or_default()))?;
        match (kind.as_deref(), revision, file) {
            (None, ..) => Ok(Self { repo, revision: None, file: None }),
            (Some("tree"), Some(revision), None) => Ok(Self { repo, revision: Some(revision), file: None }),
            (Some("blob" | "resolve" | "raw"), Some(revision), Some(file)) => {
                Ok(Self { repo, revision: Some(revision), file: Some(file) })
            }
            _ => Err(Failure::usage(format_args!("'{text}' is not the page of a model or of a file of one"))
                .cure(format_args!("bitnet pull {repo}"))),
        }
    }
}

/// The path of an address on the hub.
fn page(text: &str) -> Option<&str> {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let (host, path) = text.split_once('/')?;
    ["huggingface.co", "www.huggingface.co", "hf.co"].contains(&host).then_some(path)
}

struct Pull {
    hub: Hub,
    cache: Cache,
    repo: RepoName,
}

impl Pull {
    /// The files to fetch: those asked for, or those that running the model takes.
    fn choose(&self, listing: &Listing, asked: &[String]) -> Result<Vec<String>> {
        if let Some(missing) = asked.iter().find(|name| !listing.files.contains(name)) {
            return Err(Failure::new(format_args!("{} has no file '{missing}'", self.repo))
                .cure(format_args!("it has {}", summary(&weights(listing, |_| true)))));
        }
        if !asked.is_empty() {
            let mut names = Vec::new();
            for name in asked {
                names.extend(self.whole(listing, name)?);
            }
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            return Ok(names);
        }
        let has = |name: &str| listing.files.iter().any(|f| f == name);
        let needed = |name: &str| has(name) && !(name == "tokenizer.model" && has("tokenizer.json"));
        let beside = ["config.json"]
            .iter()
            .chain(&bitnet_format::TEXT_FILES)
            .filter(|name| needed(name))
            .map(|&name| name.to_owned());
        if has(INDEX) {
            self.fetch(&listing.commit, &[INDEX.to_owned()])?;
            let shards = shards(&self.cache.snapshot(&self.repo, &listing.commit).join(INDEX))?;
            return Ok(beside.chain([INDEX.to_owned()]).chain(shards).collect());
        }
        if has("model.safetensors") {
            return Ok(beside.chain(["model.safetensors".to_owned()]).collect());
        }
        let single = hub::parts::models(&weights(listing, |name| !name.contains('/')));
        match single.as_slice() {
            [one] if one.ends_with(".safetensors") => Ok(beside.chain([one.clone()]).collect()),
            [one] => self.whole(listing, one),
            [] => Err(Failure::new(format_args!("{} holds neither safetensors nor GGUF files", self.repo))
                .cure("a model in another form must be converted by its owner first")),
            several => Err(Failure::new(format_args!("{} holds several models", self.repo)).cure(
                format_args!("bitnet pull {} --file NAME, with one of {}", self.repo, summary(several)),
            )),
        }
    }

    /// All files of the model that `name` belongs to.
    fn whole(&self, listing: &Listing, name: &str) -> Result<Vec<String>> {
        let files = hub::parts::of_model(name);
        // A hub may list very many.
        let listed: BTreeSet<&String> = listing.files.iter().collect();
        match files.iter().find(|file| !listed.contains(file)) {
            Some(missing) => Err(Failure::new(format_args!(
                "{} does not have all {} parts of '{name}': '{missing}' is missing",
                self.repo,
                files.len()
            ))),
            None => Ok(files),
        }
    }

    /// Brings files into the snapshot of `commit`. A file that is there already costs nothing.
    fn fetch(&self, commit: &str, names: &[String]) -> Result<Vec<FileReport>> {
        let snapshot = self.cache.snapshot(&self.repo, commit);
        let mut done = Vec::new();
        let mut missing: Vec<RemoteFile> = Vec::new();
        for name in names {
            match fs::metadata(snapshot.join(name)) {
                Ok(there) => done.push(FileReport { name: name.clone(), bytes: there.len(), fetched: false }),
                Err(_) => missing.push(self.hub.describe(&self.repo, commit, name)?),
            }
        }
        // What a hub says of sizes need not fit in a number.
        let total = missing.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
        let progress = ProgressMeter::new(&self.repo.to_string(), total, Unit::Bytes);
        let mut before: u64 = 0;
        for file in missing {
            let tell = |bytes| progress.set(before.saturating_add(bytes), total);
            if !hub::download(&self.hub, &self.cache, &self.repo, &file, &tell)? {
                terminal::warning(format_args!(
                    "the hub gave no checksum for '{}'; only its size was checked",
                    file.name
                ));
            }
            self.cache.link(&self.repo, commit, &file.name, &file.etag)?;
            before = before.saturating_add(file.size);
            done.push(FileReport { name: file.name, bytes: file.size, fetched: true });
        }
        Ok(done)
    }

    /// What to give to other programs: the file asked for, else what `bitnet run OWNER/REPO` opens.
    fn place(&self, commit: &str, asked: &[String]) -> std::path::PathBuf {
        let snapshot = self.cache.snapshot(&self.repo, commit);
        match (asked, self.cache.find(&self.repo, None)) {
            ([one], _) => snapshot.join(hub::parts::first(one)),
            (_, CachedModel::Model(path)) if path.starts_with(&snapshot) => path,
            _ => snapshot,
        }
    }
}

/// The files of weights among a listing, sorted by name.
fn weights(listing: &Listing, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let is_weights = |name: &str| name.ends_with(".safetensors") || name.ends_with(".gguf");
    let names: BTreeSet<_> = listing.files.iter().filter(|n| is_weights(n) && keep(n)).cloned().collect();
    names.into_iter().collect()
}

/// Some of the names, for a sentence; how many more there are.
fn summary(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none that could be run".into(),
        n if n > SHOWN => {
            text += &format!(" and {} more", n - SHOWN);
            text
        }
        _ => text,
    }
}

/// The names of the shards that an index file names.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let wrong = |what: &str| Failure::new(format_args!("{INDEX} of this model {what}"));
    let text = files::cached(index, MOST_INDEX).map_err(|e| Failure::io("read", index, &e))?;
    let text = text.ok_or_else(|| wrong("is far larger than such a list is"))?;
    let text = String::from_utf8(text).map_err(|_| wrong("is no text in UTF-8"))?;
    // As whoever opens the model will read it.
    let map = bitnet_format::shard_index(&text).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let names: BTreeSet<_> = map.into_values().collect();
    match names.iter().find(|name| !hub::safe_path(name)) {
        Some(name) => Err(wrong(&format!("names a file outside of it: {name:?}"))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_hub_name_models() {
        let asked = |text: &str| {
            let Asked { repo, revision, file } = Asked::of(text).unwrap();
            (repo.to_string(), revision.unwrap_or_default(), file.unwrap_or_default())
        };
        let whole =
            |repo: &str, revision: &str, file: &str| (repo.to_owned(), revision.to_owned(), file.to_owned());
        for text in ["a/b", "https://huggingface.co/a/b", "https://huggingface.co/a/b/", "hf.co/a/b?x=1"] {
            assert_eq!(asked(text), whole("a/b", "", ""), "{text}");
        }
        assert_eq!(asked("a/b:q/c.gguf"), whole("a/b", "", "q/c.gguf"));
        assert_eq!(asked("http://huggingface.co/a/b/tree/v1"), whole("a/b", "v1", ""));
        assert_eq!(asked("https://huggingface.co/a/b/blob/main/q/c.gguf"), whole("a/b", "main", "q/c.gguf"));
        assert_eq!(
            asked("https://hf.co/a/b/resolve/main/c.gguf?download=true"),
            whole("a/b", "main", "c.gguf")
        );
        for wrong in [
            "https://example.org/a/b",
            "https://huggingface.co/a",
            "https://huggingface.co/a/b/commits/main",
            "a",
        ] {
            assert!(Asked::of(wrong).is_err(), "{wrong}");
        }
    }
}
