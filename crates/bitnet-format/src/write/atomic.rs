//! A file that appears under its name whole, or not at all.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{FormatError, FormatErrorKind as Kind, checkpoint::file_name};

/// A file under a temporary name beside its final one; dropped unfinished, it is removed.
pub(super) struct AtomicFile {
    /// Taken when the file is closed.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
    at: u64,
}

impl AtomicFile {
    pub(super) fn create(path: &Path) -> Result<Self, FormatError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{}.{}-{number}.partial", file_name(path), std::process::id());
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary);
        let file = file.map_err(|e| FormatError::from(Kind::Io(e)).at(path))?;
        // Large enough that a stream of rows costs few calls.
        let file = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { file, temporary, path: path.into(), at: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> Result<T, FormatError> {
        let closed = || io::Error::other("the file is closed");
        let result = self.file.as_mut().ok_or_else(closed).and_then(act);
        result.map_err(|e| FormatError::from(Kind::Io(e)).at(&self.path))
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), FormatError> {
        if offset != self.at {
            self.with(|f| f.seek(SeekFrom::Start(offset)))?;
        }
        self.with(|f| f.write_all(bytes))?;
        self.at = offset + bytes.len() as u64;
        Ok(())
    }

    /// Makes the file `len` bytes long, brings it to the disk, and gives it its name.
    pub(super) fn finish(mut self, len: u64) -> Result<(), FormatError> {
        self.with(|f| {
            f.flush()?;
            f.get_ref().set_len(len)?;
            f.get_ref().sync_all()
        })?;
        // Windows renames no open file.
        self.file = None;
        let io = |e| FormatError::from(Kind::Io(e)).at(&self.path);
        std::fs::rename(&self.temporary, &self.path).map_err(io)?;
        sync_directory(&self.path).map_err(io)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        self.file = None;
        // After a rename there is nothing under this name. Otherwise an error was reported already, and a file that
        // cannot be removed is recognizable by its ending.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// The new name itself must survive a power cut, too.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
