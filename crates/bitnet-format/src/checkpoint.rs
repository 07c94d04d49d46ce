//! Opening a model, whatever form it lies on disk in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bitnet_core::SharedBytes;

use crate::{
    FormatError, FormatErrorKind as Kind, GgufMetadata, HfMetadata, OpenOptions, TensorInfo, TensorView,
    bitnet_keys, digest, gguf, huggingface, map, safetensors,
    shard::{Shard, file_name},
    weights::{self, Opened, Weights},
};

/// What a model says of itself besides its tensors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Metadata {
    /// `config.json` and its companions.
    HuggingFace(HfMetadata),
    /// The metadata keys of a GGUF file (of the first, where there are several).
    Gguf(GgufMetadata),
    /// A `.bitnet` file: the same as Hugging Face, embedded, and the file's own keys.
    Bitnet(BitnetMetadata),
}

/// The metadata of a `.bitnet` file.
#[derive(Clone, Debug)]
pub struct BitnetMetadata {
    /// Config, tokenizer and templates, embedded.
    pub hf: HfMetadata,
    /// All of `__metadata__`, the embedded texts included; see [`bitnet_keys`].
    pub entries: BTreeMap<String, String>,
}

/// A model on disk: its metadata, and its tensors as views of mapped files.
pub struct Checkpoint {
    path: PathBuf,
    metadata: Metadata,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
    /// Indices of `tensors`, sorted by name.
    by_name: Vec<usize>,
    /// Tensors that an index puts in files that are not there, and the files' names.
    absent: BTreeMap<String, String>,
    /// Where the digests of a `.bitnet` file are, when it has them.
    digests: Option<TensorInfo>,
}

impl Checkpoint {
    /// Opens a Hugging Face directory, a `.gguf` file (or any part of a split one), a `.safetensors` file with
    /// `config.json` beside it, or a `.bitnet` file. Files are recognized by what they hold, not by their names.
    ///
    /// # Errors
    /// Each mistake of a file by its own [`FormatErrorKind`](crate::FormatErrorKind), with the file's path.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, FormatError> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::open_directory(path, options);
        }
        let bytes = map::map(path)?;
        if bytes.starts_with(gguf::MAGIC) {
            return Self::open_gguf(path, bytes, options);
        }
        recognize(&bytes).map_err(|e| e.at(path))?;
        let file = safetensors::parse(&bytes, 0).map_err(|e| FormatError::from(e).at(path))?;
        let shards = vec![Shard { path: path.into(), bytes }];
        match bitnet_metadata(&file.metadata).map_err(|e| e.at(path))? {
            Some(metadata) => Self::assemble_bitnet(path, metadata, shards, file.tensors),
            None => {
                let metadata = Metadata::HuggingFace(huggingface::beside(path)?);
                Self::assemble(path, metadata, shards, visible(file.tensors))
            }
        }
    }

    /// Opens a GGUF or `.bitnet` file that is in memory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; a Hugging Face file is refused, since its config is another file.
    pub fn from_bytes(bytes: SharedBytes, options: &OpenOptions) -> Result<Self, FormatError> {
        let shard = |bytes| vec![Shard { path: PathBuf::new(), bytes }];
        if bytes.starts_with(gguf::MAGIC) {
            let file = gguf::parse(&bytes, options, 0)?;
            gguf::refuse_part(&file.metadata)?;
            return Self::assemble(Path::new(""), Metadata::Gguf(file.metadata), shard(bytes), file.tensors);
        }
        recognize(&bytes)?;
        let file = safetensors::parse(&bytes, 0)?;
        let Some(metadata) = bitnet_metadata(&file.metadata)? else { return Err(Kind::NoConfig.into()) };
        Self::assemble_bitnet(Path::new(""), metadata, shard(bytes), file.tensors)
    }

    /// Opens the weights of a Hugging Face model, one or several safetensors files, that are in memory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_safetensors(files: Vec<SharedBytes>, metadata: HfMetadata) -> Result<Self, FormatError> {
        let (mut shards, mut tensors) = (Vec::new(), Vec::new());
        for bytes in files {
            recognize(&bytes)?;
            tensors.extend(safetensors::parse(&bytes, shards.len())?.tensors);
            shards.push(Shard { path: PathBuf::new(), bytes });
        }
        Self::assemble(Path::new(""), Metadata::HuggingFace(metadata), shards, tensors)
    }

    /// Opens an adapter: a directory with `adapter_config.json`, which becomes the metadata's config, and
    /// `adapter_model.safetensors`, as PEFT writes them.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_adapter(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        let metadata = Metadata::HuggingFace(huggingface::adapter(path)?);
        let file = path.join(huggingface::ADAPTER);
        let bytes = map::map(&file)?;
        recognize(&bytes).map_err(|e| e.at(&file))?;
        let tensors = safetensors::parse(&bytes, 0).map_err(|e| FormatError::from(e).at(&file))?.tensors;
        Self::assemble(path, metadata, vec![Shard { path: file, bytes }], tensors)
    }

    fn open_directory(path: &Path, options: &OpenOptions) -> Result<Self, FormatError> {
        match weights::find(path)? {
            Weights::Other(file) => Self::open(file, options),
            Weights::Safetensors(files) => {
                let metadata = Metadata::HuggingFace(HfMetadata::read(path)?);
                let Opened { shards, tensors, absent } = files.open(path)?;
                let checkpoint = Self::assemble(path, metadata, shards, tensors)?;
                // What another file holds all the same is there.
                let absent = absent.into_iter().filter(|(tensor, _)| !checkpoint.contains(tensor)).collect();
                Ok(Self { absent, ..checkpoint })
            }
        }
    }

    fn open_gguf(path: &Path, bytes: SharedBytes, options: &OpenOptions) -> Result<Self, FormatError> {
        let at = |path: &Path, e: Kind| FormatError::from(e).at(path);
        let file = gguf::parse(&bytes, options, 0).map_err(|e| at(path, e))?;
        let parts = gguf::parts(path, &file.metadata).map_err(|e| at(path, e))?;
        if parts.is_empty() {
            let shard = Shard { path: path.into(), bytes };
            return Self::assemble(path, Metadata::Gguf(file.metadata), vec![shard], file.tensors);
        }
        let (mut shards, mut tensors, mut metadata) = (Vec::new(), Vec::new(), None);
        for part in &parts {
            let bytes = map::map(part)?;
            let file =
                gguf::parse_part(&bytes, options, shards.len(), parts.len()).map_err(|e| at(part, e))?;
            tensors.extend(file.tensors);
            // The keys that describe the model are the first part's.
            metadata.get_or_insert(file.metadata);
            shards.push(Shard { path: part.clone(), bytes });
        }
        let metadata = metadata.unwrap_or(file.metadata);
        gguf::check_total(&metadata, tensors.len()).map_err(|e| at(path, e))?;
        Self::assemble(path, Metadata::Gguf(metadata), shards, tensors)
    }

    fn assemble_bitnet(
        path: &Path,
        metadata: BitnetMetadata,
        shards: Vec<Shard>,
        tensors: Vec<TensorInfo>,
    ) -> Result<Self, FormatError> {
        let at = |e: Kind| {
            let error = FormatError::from(e);
            if path.as_os_str().is_empty() { error } else { error.at(path) }
        };
        let digests = match shards.first() {
            Some(shard) => digest::find(&shard.bytes, &tensors).map_err(at)?,
            None => None,
        };
        let checkpoint = Self::assemble(path, Metadata::Bitnet(metadata), shards, visible(tensors))?;
        Ok(Self { digests, ..checkpoint })
    }

    fn assemble(
        path: &Path,
        metadata: Metadata,
        shards: Vec<Shard>,
        tensors: Vec<TensorInfo>,
    ) -> Result<Self, FormatError> {
        let mut by_name: Vec<usize> = (0..tensors.len()).collect();
        by_name.sort_unstable_by(|&a, &b| tensors[a].name().cmp(tensors[b].name()));
        let twice = by_name.windows(2).find(|w| tensors[w[0]].name() == tensors[w[1]].name());
        if let Some(&[a, b]) = twice {
            // Within one file the reader has refused it already.
            let file = |i: usize| file_name(&shards[tensors[i].shard()].path);
            let (tensor, first, second) = (tensors[a].name().to_owned(), file(a.min(b)), file(a.max(b)));
            return Err(FormatError::from(Kind::TwoShards { tensor, first, second }).at(path));
        }
        Ok(Self {
            path: path.into(),
            metadata,
            shards,
            tensors,
            by_name,
            absent: BTreeMap::new(),
            digests: None,
        })
    }

    /// The path that was opened: a file or a directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the model says of itself besides its tensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, file by file, in the order of their bytes.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor `name`, if there is one.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.binary_search_by(|&i| self.tensors[i].name().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at]])
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// Names of the tensors that the index puts in files that are not there, in order. Whoever needs one of them is told which
    /// file it lies in ([`Checkpoint::absent_error`]); a model that reads none of them is whole.
    pub fn absent(&self) -> impl ExactSizeIterator<Item = &str> {
        self.absent.keys().map(String::as_str)
    }

    /// The error for a tensor whose file is not there; `None` for any other name.
    pub fn absent_error(&self, name: &str) -> Option<FormatError> {
        let shard = self.absent.get(name)?.clone();
        Some(FormatError::from(Kind::TensorAbsent { tensor: name.into(), shard }).at(&self.path))
    }

    /// The tensor `name` and its bytes.
    ///
    /// # Errors
    /// [`FormatErrorKind::NoTensor`](crate::FormatErrorKind::NoTensor), and
    /// [`FormatErrorKind::TensorAbsent`](crate::FormatErrorKind::TensorAbsent) where an index says which file would have it.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, FormatError> {
        let missing = || {
            let unknown = || FormatError::from(Kind::NoTensor { tensor: name.into() }).at(&self.path);
            self.absent_error(name).unwrap_or_else(unknown)
        };
        self.view(self.info(name).ok_or_else(missing)?)
    }

    /// The bytes of a tensor of this checkpoint.
    ///
    /// # Errors
    /// When `info` is from another checkpoint and lies outside this one's files.
    pub fn view<'a>(&'a self, info: &'a TensorInfo) -> Result<TensorView<'a>, FormatError> {
        let missing = || FormatError::from(Kind::NoTensor { tensor: info.name().into() }).at(&self.path);
        let shard = self.shards.get(info.shard()).ok_or_else(missing)?;
        TensorView::new(info, &shard.bytes, &shard.path).map_err(|e| e.at(&shard.path))
    }

    /// The names of the tensors whose bytes are not those that were written, by the digests that `.bitnet` files carry; reads
    /// the whole file. `None` when the file carries none: files of other kinds, and those of the first writers of `.bitnet`.
    /// The digest of the header is checked when a file is opened.
    pub fn damaged(&self) -> Option<Vec<&str>> {
        let digests = self.digests.as_ref()?;
        let file = &self.shards.first()?.bytes;
        let damaged = self.by_name.iter().enumerate().filter(|&(row, &i)| {
            let found = file.get(self.tensors[i].range()).map(digest::of);
            found.as_ref().map(|d| &d[..]) != digest::row(file, digests, row + 1)
        });
        Some(damaged.map(|(_, &i)| self.tensors[i].name()).collect())
    }

    /// The files, in the order of [`TensorInfo::shard`].
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(|s| s.path.as_path())
    }

    /// Bytes of all files together, headers and padding included.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.bytes.len() as u64).sum()
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Checkpoint({}, {} tensors in {} files)",
            self.path.display(),
            self.tensors.len(),
            self.shards.len()
        )
    }
}

/// Refuses, by name, what is not safetensors either.
fn recognize(bytes: &[u8]) -> Result<(), FormatError> {
    let what = match bytes {
        [] => "it is empty",
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => {
            "it is a PyTorch pickle, which can run code when it is read; convert the model to safetensors"
        }
        [b'l', b'm', b'g', b'g', ..] | [b't', b'j', b'g', b'g', ..] | [b'f', b'm', b'g', b'g', ..] => {
            "it is a ggml file from before GGUF; convert the original model anew"
        }
        b if b.starts_with(b"version https://git-lfs") => {
            "it is a git-lfs pointer, not the file itself; run `git lfs pull` where it came from"
        }
        b if safetensors::looks_like(b) || b.len() <= 8 => return Ok(()),
        _ => "it is neither GGUF nor safetensors",
    };
    Err(Kind::Unrecognized { what: what.into() }.into())
}

/// The metadata of a `.bitnet` file, or `None` when `entries` are another safetensors file's.
fn bitnet_metadata(entries: &BTreeMap<String, String>) -> Result<Option<BitnetMetadata>, FormatError> {
    let Some(version) = entries.get(bitnet_keys::FORMAT) else { return Ok(None) };
    if version != bitnet_keys::VERSION {
        return Err(Kind::BitnetVersion { version: version.chars().take(40).collect() }.into());
    }
    let hf = HfMetadata::embedded(entries)?;
    Ok(Some(BitnetMetadata { hf, entries: entries.clone() }))
}

/// Without the filler that our writer puts between tensors.
fn visible(mut tensors: Vec<TensorInfo>) -> Vec<TensorInfo> {
    tensors.retain(|t| !t.name().starts_with(bitnet_keys::FILLER));
    tensors
}
