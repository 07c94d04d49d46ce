//! `bitnet pull OWNER/REPO`.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Serialize;

use crate::{
    args::PullArgs,
    failure::{Failure, Result},
    hub::{self, Cache, Found, Hub, Listing, RemoteFile, RepoName},
    human,
    progress::{Progress, Unit},
    terminal,
};

/// The list of a sharded model's files.
const INDEX: &str = "model.safetensors.index.json";
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
    let repo = RepoName::require(&args.repo)?;
    let pull = Pull { hub: Hub::from_env()?, cache: Cache::from_env()?, repo };
    let listing = pull.hub.list(&pull.repo, &args.revision)?;
    let names = pull.choose(&listing, &args.file)?;
    let files = pull.fetch(&listing.commit, &names)?;
    // Written for a commit too: it says that everything of it is here.
    pull.cache.set_ref(&pull.repo, &args.revision, &listing.commit)?;
    let path = pull.place(&listing.commit, &args.file);
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
        return terminal::print_json(&Report {
            repo,
            revision: &args.revision,
            commit: &listing.commit,
            path,
            files,
        });
    }
    terminal::print_line(format_args!("{path}"))
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
            return Ok(asked.to_vec());
        }
        let has = |name: &str| listing.files.iter().any(|f| f == name);
        let beside = ["config.json"]
            .iter()
            .chain(&bitnet_format::TEXT_FILES)
            .filter(|name| has(name))
            .map(|&name| name.to_owned());
        if has(INDEX) {
            self.fetch(&listing.commit, &[INDEX.to_owned()])?;
            let shards = shards(&self.cache.snapshot(&self.repo, &listing.commit).join(INDEX))?;
            return Ok(beside.chain([INDEX.to_owned()]).chain(shards).collect());
        }
        if has("model.safetensors") {
            return Ok(beside.chain(["model.safetensors".to_owned()]).collect());
        }
        let single = weights(listing, |name| !name.contains('/'));
        match single.as_slice() {
            [one] if one.ends_with(".safetensors") => Ok(beside.chain([one.clone()]).collect()),
            [one] => Ok(vec![one.clone()]),
            [] => Err(Failure::new(format_args!("{} holds neither safetensors nor GGUF files", self.repo))
                .cure("a model in another form must be converted by its owner first")),
            several => Err(Failure::new(format_args!("{} holds several models", self.repo)).cure(
                format_args!("bitnet pull {} --file NAME, with one of {}", self.repo, summary(several)),
            )),
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
        let total = missing.iter().map(|file| file.size).sum();
        let progress = Progress::new(&self.repo.to_string(), total, Unit::Bytes);
        let mut before = 0;
        for file in missing {
            let tell = |bytes| progress.set(before + bytes, total);
            if !hub::download(&self.hub, &self.cache, &self.repo, &file, &tell)? {
                terminal::warning(format_args!(
                    "the hub gave no checksum for '{}'; only its size was checked",
                    file.name
                ));
            }
            self.cache.link(&self.repo, commit, &file.name, &file.etag)?;
            before += file.size;
            done.push(FileReport { name: file.name, bytes: file.size, fetched: true });
        }
        Ok(done)
    }

    /// What to give to other programs: the file asked for, else what `bitnet run OWNER/REPO` opens.
    fn place(&self, commit: &str, asked: &[String]) -> std::path::PathBuf {
        let snapshot = self.cache.snapshot(&self.repo, commit);
        match (asked, self.cache.find(&self.repo, None)) {
            ([one], _) => snapshot.join(one),
            (_, Found::Model(path)) if path.starts_with(&snapshot) => path,
            _ => snapshot,
        }
    }
}

/// Files of weights, sorted.
fn weights(listing: &Listing, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let is_weights = |name: &str| name.ends_with(".safetensors") || name.ends_with(".gguf");
    let names: BTreeSet<_> = listing.files.iter().filter(|n| is_weights(n) && keep(n)).cloned().collect();
    names.into_iter().collect()
}

/// Some names, for a sentence.
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

/// The files that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let wrong = |what: &str| Failure::new(format_args!("{INDEX} of this model {what}"));
    let text = fs::read(index).map_err(|e| Failure::io("read", index, &e))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let names: BTreeSet<_> = index.weight_map.into_values().collect();
    match names.iter().find(|name| !hub::safe_path(name)) {
        Some(name) => Err(wrong(&format!("names a file outside of it: {name:?}"))),
        None => Ok(names),
    }
}
