//! Where the output goes: under a temporary name beside its own until it is whole and proved.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bitnet_format::output;

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
    let refuse = |reason| Err(ConvertError::NotReplaced { path: output.into(), reason });
    let Ok(there) = fs::metadata(output) else {
        // A link that leads nowhere yet is written through where a file is made, and in the way of a directory.
        return match (output.file_name(), target.is_directory() && output.is_symlink()) {
            (None, _) => refuse("it names no file"),
            (_, true) => refuse("it is a link that leads nowhere"),
            _ => Ok(()),
        };
    };
    let real = fs::canonicalize(output).map_err(ConvertError::io(output))?;
    for path in files.iter().map(PathBuf::as_path).chain([input]) {
        let read = fs::canonicalize(path).map_err(ConvertError::io(path))?;
        if read.starts_with(&real) {
            return Err(same(path));
        }
    }
    if !there.is_dir() && !there.is_file() {
        return refuse("it is a device, a pipe or a socket, and only a file can be replaced");
    }
    // Nobody misses what is empty.
    let empty = there.is_file() && there.len() == 0;
    if !force && !empty {
        return Err(ConvertError::Exists { path: output.into() });
    }
    match (target.is_directory(), there.is_dir()) {
        (true, false) => refuse("it is no directory, and the target is one"),
        (false, true) => refuse("it is a directory, and the target is a file"),
        (true, true) if output.is_symlink() => refuse("it is a link to a directory"),
        (true, true) if !replaceable(&real).map_err(ConvertError::io(output))? => refuse(
            "only an empty directory or one that holds nothing but a model is replaced; remove it yourself",
        ),
        _ => Ok(()),
    }
}

/// Whether a directory is empty or a model without anything below it.
fn replaceable(directory: &Path) -> io::Result<bool> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut plain = true;
    for entry in &entries {
        plain &= entry.file_type()?.is_file();
    }
    Ok(entries.is_empty() || plain && directory.join("config.json").is_file())
}

impl Staging {
    /// Takes a temporary name: makes an empty file or directory beside the output, or beside what a link there leads to.
    pub(crate) fn new(output: &Path, target: Target) -> Result<Self, ConvertError> {
        let directory = target.is_directory();
        let output = if directory { output.to_owned() } else { output::target(output)? };
        let (temporary, ()) = output::beside(&output, "converting", |name| match directory {
            true => fs::create_dir(name),
            false => fs::File::create_new(name).map(drop),
        })?;
        Ok(Self { temporary, output, directory })
    }

    /// The temporary path that is written before it gets the output's name.
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
            io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        };
        write().map_err(ConvertError::io(&self.output.join(name)))?;
        Ok(bytes.len() as u64)
    }

    /// Gives the output its name. Of a directory that is replaced, the old or the new one stands there at every instant where the
    /// system can exchange names; elsewhere a kill between two steps leaves the old one beside it, under a name that ends in
    /// `.replaced`.
    pub(crate) fn publish(self) -> Result<(), ConvertError> {
        let Self { temporary, output, directory } = &self;
        let io = |e| ConvertError::io(output)(e);
        if *directory {
            sync(temporary).map_err(io)?;
        }
        let replaces = *directory && output.exists();
        let exchanged = replaces && exchange(temporary, output).map_err(io)?;
        if replaces && !exchanged {
            replace(temporary, output)?;
        } else if !replaces {
            fs::rename(temporary, output).map_err(io)?;
        }
        output::sync_name(output).map_err(io)?;
        if exchanged {
            // The new one is safe; what has its temporary name now is the old one.
            fs::remove_dir_all(temporary).map_err(io)?;
        }
        Ok(())
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

/// Exchanges the names of two directories in one step; says `false` where the system or the file system cannot.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(a: &Path, b: &Path) -> io::Result<bool> {
    use nix::{
        errno::Errno,
        fcntl::{AT_FDCWD, RenameFlags, renameat2},
    };
    match renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(true),
        // EINVAL is what a file system says that does not know the flag, ENOSYS an old kernel.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP | Errno::EPERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Puts `new` in the place of the directory `output` in two steps.
fn replace(new: &Path, output: &Path) -> Result<(), ConvertError> {
    let io = |e| ConvertError::io(output)(e);
    let (old, ()) = output::beside(output, "replaced", |name| match name.symlink_metadata() {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(output, name),
    })?;
    if let Err(error) = fs::rename(new, output) {
        fs::rename(&old, output).map_err(io)?;
        return Err(io(error));
    }
    fs::remove_dir_all(&old).map_err(io)
}

#[cfg(unix)]
fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two directories with a file each: `new`, and `out`.
    fn two() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (new, out) = (folder.path().join("new"), folder.path().join("out"));
        for (directory, text) in [(&new, "new"), (&out, "old")] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("config.json"), text).unwrap();
        }
        (folder, new, out)
    }

    #[test]
    fn a_directory_is_replaced_where_names_cannot_be_exchanged() {
        let (folder, new, out) = two();
        replace(&new, &out).unwrap();
        assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn the_name_of_a_directory_that_is_replaced_is_never_empty() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (_folder, new, out) = two();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) {
                    assert!(out.is_dir(), "neither the old nor the new directory is there");
                    looks += 1;
                }
                looks
            });
            for _ in 0..2000 {
                assert!(exchange(&new, &out).unwrap(), "this file system cannot exchange names");
            }
            done.store(true, Ordering::Relaxed);
            assert!(watcher.join().unwrap() > 0);
        });
        assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "old");
    }
}
