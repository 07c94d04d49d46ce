//! Where the output goes: under a temporary name beside its own until it is whole and proved.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{ConvertError, Target};

/// A file or directory under a temporary name; dropped before [`Staging::publish`], it is removed.
pub(crate) struct Staging {
    temporary: PathBuf,
    output: PathBuf,
    directory: bool,
}

/// Refuses to write where that would destroy something.
pub(crate) fn check(
    files: &[PathBuf],
    input: &Path,
    output: &Path,
    target: Target,
    force: bool,
) -> Result<(), ConvertError> {
    let same = |input: &Path| ConvertError::SamePath { input: input.into(), output: output.into() };
    let Ok(there) = output.symlink_metadata() else {
        return match output.file_name() {
            Some(_) => Ok(()),
            None => Err(ConvertError::NotReplaced { path: output.into(), reason: "it names no file" }),
        };
    };
    let real = fs::canonicalize(output).map_err(ConvertError::io(output))?;
    for path in files.iter().map(PathBuf::as_path).chain([input]) {
        let read = fs::canonicalize(path).map_err(ConvertError::io(path))?;
        if read.starts_with(&real) {
            return Err(same(path));
        }
    }
    if !force {
        return Err(ConvertError::Exists { path: output.into() });
    }
    let refuse = |reason| Err(ConvertError::NotReplaced { path: output.into(), reason });
    match (target.is_directory(), real.is_dir()) {
        (true, false) => refuse("it is no directory, and the target is one"),
        (false, true) => refuse("it is a directory, and the target is a file"),
        (true, true) if there.is_symlink() => refuse("it is a link to a directory"),
        (true, true) if !replaceable(&real).map_err(ConvertError::io(output))? => refuse(
            "only an empty directory or one that holds nothing but a model is replaced; remove it yourself",
        ),
        _ => Ok(()),
    }
}

/// Whether a directory is empty or a model without anything below it.
fn replaceable(directory: &Path) -> std::io::Result<bool> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut plain = true;
    for entry in &entries {
        plain &= entry.file_type()?.is_file();
    }
    Ok(entries.is_empty() || plain && directory.join("config.json").is_file())
}

/// A name beside `path` that nobody else uses.
fn beside(path: &Path, ending: &str) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.{ending}", std::process::id()))
}

impl Staging {
    /// Takes a temporary name, and for a directory makes it.
    pub(crate) fn new(output: &Path, target: Target) -> Result<Self, ConvertError> {
        let staging = Self {
            temporary: beside(output, "converting"),
            output: output.into(),
            directory: target.is_directory(),
        };
        if staging.directory {
            fs::create_dir(&staging.temporary).map_err(ConvertError::io(output))?;
        }
        Ok(staging)
    }

    /// The temporary name.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// The file that holds the tensors.
    pub(crate) fn tensors(&self) -> PathBuf {
        if self.directory { self.temporary.join("model.safetensors") } else { self.temporary.clone() }
    }

    /// Writes a file of the directory and brings it to the disk.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<u64, ConvertError> {
        let write = || {
            let mut file = fs::File::create_new(self.temporary.join(name))?;
            std::io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        };
        write().map_err(ConvertError::io(&self.output.join(name)))?;
        Ok(bytes.len() as u64)
    }

    /// Gives the output its name.
    pub(crate) fn publish(self) -> Result<(), ConvertError> {
        let io = |e| ConvertError::io(&self.output)(e);
        if self.directory {
            sync(&self.temporary).map_err(io)?;
            if self.output.exists() {
                // A directory is not replaced in one step; the old one is kept until the new one stands.
                let old = beside(&self.output, "replaced");
                fs::rename(&self.output, &old).map_err(io)?;
                if let Err(error) = fs::rename(&self.temporary, &self.output) {
                    fs::rename(&old, &self.output).map_err(io)?;
                    return Err(io(error));
                }
                fs::remove_dir_all(&old).map_err(io)?;
                return sync(parent(&self.output)).map_err(io);
            }
        }
        fs::rename(&self.temporary, &self.output).map_err(io)?;
        sync(parent(&self.output)).map_err(io)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After publishing there is nothing under this name; what cannot be removed is recognizable by its ending.
        let _ = if self.directory {
            fs::remove_dir_all(&self.temporary)
        } else {
            fs::remove_file(&self.temporary)
        };
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn sync(directory: &Path) -> std::io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_: &Path) -> std::io::Result<()> {
    Ok(())
}
