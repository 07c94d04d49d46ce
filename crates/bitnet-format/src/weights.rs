//! Where the weights of a directory are: in one or several safetensors files, in GGUF files, or in a `.bitnet` file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    FormatError, FormatErrorKind as Kind, SplitName, TensorInfo,
    huggingface::{INDEX, MAX_JSON, read_if_there, shard_index},
    map, safetensors,
    shard::{Shard, file_name},
};

const SINGLE: &str = "model.safetensors";
/// Names of models that an error lists.
const SHOWN: usize = 8;

/// Where the weights of a directory are.
pub(crate) enum Weights {
    /// In one or several safetensors files.
    Safetensors(Files),
    /// In a single GGUF or `.bitnet` file, or the first part of a split GGUF.
    Other(PathBuf),
}

/// Safetensors files of a directory.
pub(crate) enum Files {
    Single(PathBuf),
    /// Tensor name to shard file name.
    Sharded(BTreeMap<String, String>),
}

/// Finds the weights of `directory`.
pub(crate) fn find(directory: &Path) -> Result<Weights, FormatError> {
    let single = directory.join(SINGLE);
    if single.is_file() {
        return Ok(Weights::Safetensors(Files::Single(single)));
    }
    let index = directory.join(INDEX);
    if let Some(text) = read_if_there(&index, "a shard index", MAX_JSON)? {
        let map = shard_index(&text).map_err(|e| e.at(&index))?;
        return Ok(Weights::Safetensors(Files::Sharded(map)));
    }
    let names = list(directory)?;
    let ending = |ext: &str| names.iter().filter(|n| n.ends_with(ext)).collect::<Vec<_>>();
    let ggufs = gguf_models(&ending(".gguf"));
    match (&ending(".safetensors")[..], &ggufs[..], &ending(".bitnet")[..]) {
        ([one], _, _) => Ok(Weights::Safetensors(Files::Single(directory.join(one)))),
        ([], [(_, part)], []) => Ok(Weights::Other(directory.join(part))),
        ([], [], [one]) => Ok(Weights::Other(directory.join(one))),
        (several, ggufs, bitnets) => {
            let what = if !several.is_empty() {
                format!("there are {} safetensors files but neither {SINGLE} nor {INDEX}", several.len())
            } else if ggufs.len() + bitnets.len() > 1 {
                let shown = ggufs.iter().map(|(shown, _)| shown.as_str());
                let names: Vec<&str> = shown.chain(bitnets.iter().map(|n| n.as_str())).collect();
                let more = if names.len() > SHOWN { ", ..." } else { "" };
                let names = names[..names.len().min(SHOWN)].join(", ");
                format!("there are several models: name one of them ({names}{more})")
            } else if !ending(".bin").is_empty() || !ending(".pt").is_empty() {
                "the weights are PyTorch pickles, which can run code when they are read; convert the model to safetensors"
                    .to_owned()
            } else {
                format!("there is no {SINGLE}, {INDEX}, GGUF or .bitnet file")
            };
            Err(FormatError::from(Kind::NoWeights { what }).at(directory))
        }
    }
}

/// How the models among these sorted names of GGUF files are shown, and the file that stands for each: the parts of a
/// split one are one, and its first part that is there leads to the others.
fn gguf_models(names: &[&String]) -> Vec<(String, String)> {
    let mut models = Vec::new();
    let mut last = None;
    for name in names {
        let split = SplitName::parse(name).map(|split| (split.stem, split.count));
        if split.is_none() || split != last {
            let parts = split.map_or(String::new(), |(_, count)| format!(" and its {count} parts"));
            models.push((format!("{name}{parts}"), name.to_string()));
        }
        last = split;
    }
    models
}

/// Names of the files of a directory, sorted.
fn list(directory: &Path) -> Result<Vec<String>, FormatError> {
    let io = |e: std::io::Error| FormatError::from(Kind::Io(e)).at(directory);
    let entries = fs::read_dir(directory).map_err(io)?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        // A directory may be named like a model, too.
        if path.is_file() {
            names.push(file_name(&path));
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl Files {
    /// Maps and checks all files; `directory` holds the index.
    pub(crate) fn open(self, directory: &Path) -> Result<Opened, FormatError> {
        let mut map = match self {
            Self::Single(path) => {
                let (shard, tensors) = open_one(path, 0)?;
                return Ok(Opened { shards: vec![shard], tensors, absent: BTreeMap::new() });
            }
            Self::Sharded(map) => map,
        };
        let index = directory.join(INDEX);
        let at = |kind: Kind| FormatError::from(kind).at(&index);
        let names: BTreeSet<String> = map.values().cloned().collect();
        // Names are checked before any file is touched.
        if let Some(outside) = names.iter().find(|n| !is_plain(n)) {
            return Err(at(Kind::ShardOutside { shard: outside.chars().take(200).collect() }));
        }
        let (there, missing): (Vec<&String>, Vec<&String>) =
            names.iter().partition(|name| directory.join(name).exists());
        if let ([], [first, ..]) = (&there[..], &missing[..]) {
            return Err(at(Kind::ShardMissing { shard: (*first).clone() }));
        }
        let (mut shards, mut tensors) = (Vec::new(), Vec::new());
        for name in &there {
            let (shard, more) = open_one(directory.join(name), shards.len())?;
            shards.push(shard);
            tensors.extend(more);
        }
        let mut absent = BTreeMap::new();
        map.retain(|tensor, shard| {
            let kept = !missing.contains(&&*shard);
            if !kept {
                absent.insert(tensor.clone(), shard.clone());
            }
            kept
        });
        check_index(&map, &there, &tensors).map_err(at)?;
        Ok(Opened { shards, tensors, absent })
    }
}

/// The files of a directory that are there.
pub(crate) struct Opened {
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: Vec<TensorInfo>,
    /// Tensors of the index whose files are not there, and the files' names.
    pub(crate) absent: BTreeMap<String, String>,
}

/// Every tensor of the index is in the shard that the index says.
fn check_index(
    map: &BTreeMap<String, String>,
    shards: &[&String],
    tensors: &[TensorInfo],
) -> Result<(), Kind> {
    let mut there: Vec<(&str, &str)> =
        tensors.iter().map(|t| (t.name(), shards[t.shard()].as_str())).collect();
    there.sort_unstable();
    if let Some(pair) = there.windows(2).find(|w| w[0].0 == w[1].0) {
        let (tensor, first, second) = (pair[0].0.to_owned(), pair[0].1.to_owned(), pair[1].1.to_owned());
        return Err(Kind::TwoShards { tensor, first, second });
    }
    let absent = |(tensor, shard): &(&String, &String)| {
        there.binary_search(&(tensor.as_str(), shard.as_str())).is_err()
    };
    match map.iter().find(absent) {
        Some((tensor, shard)) => Err(Kind::NotInShard { tensor: tensor.clone(), shard: shard.clone() }),
        None => Ok(()),
    }
}

fn open_one(path: PathBuf, number: usize) -> Result<(Shard, Vec<TensorInfo>), FormatError> {
    let bytes = map::map(&path)?;
    let file = safetensors::parse(&bytes, number).map_err(|e| FormatError::from(e).at(&path))?;
    Ok((Shard { path, bytes }, file.tensors))
}

/// A file name and nothing else: no separator of any system, no drive, not the directory or its parent.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
