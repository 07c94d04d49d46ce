//! A file that appears under its name whole, or not at all.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{FormatError, FormatErrorKind as Kind, output};

/// A file under a temporary name beside its final one, which it takes when it is finished; dropped unfinished, it is
/// removed. What may be written over is what [`output::target`] says.
pub struct AtomicFile {
    /// The open temporary file; taken when it is closed.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    /// The file that links at `path` lead to.
    target: PathBuf,
    /// As the caller names it, for errors.
    path: PathBuf,
    at: u64,
}

impl AtomicFile {
    /// Begins a file that will be at `path`, or where a link at `path` leads, when it is finished.
    ///
    /// # Errors
    /// As [`output::target`] and [`output::beside`]; they name `path`.
    pub fn create(path: &Path) -> Result<Self, FormatError> {
        let target = output::target(path)?;
        let made = output::beside(&target, "partial", |name| File::create_new(name));
        let (temporary, file) = made.map_err(|e| e.of(path))?;
        keep_private(&target, &file);
        // Large enough that a stream of rows costs few calls.
        let file = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { file, temporary, target, path: path.into(), at: 0 })
    }

    /// The path of the output as the caller named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> Result<T, FormatError> {
        let closed = || io::Error::other("the file is closed");
        let result = self.file.as_mut().ok_or_else(closed).and_then(act);
        result.map_err(|e| FormatError::from(Kind::Io(e)).at(&self.path))
    }

    /// Appends `bytes` to what was written last.
    ///
    /// # Errors
    /// What the system says, with the output's name.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.write_at(self.at, bytes)
    }

    /// Writes `bytes` at the byte `offset`, in any order of offsets.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), FormatError> {
        if offset != self.at {
            self.with(|f| f.seek(SeekFrom::Start(offset)))?;
        }
        self.with(|f| f.write_all(bytes))?;
        self.at = offset + bytes.len() as u64;
        Ok(())
    }

    /// Brings the file to the disk and gives it its name. It ends where the last write did.
    ///
    /// # Errors
    /// What the system says; then nothing has appeared.
    pub fn finish(self) -> Result<(), FormatError> {
        let end = self.at;
        self.finish_at(end)
    }

    /// Makes the file `len` bytes long, brings it to the disk, and gives it its name.
    pub(super) fn finish_at(mut self, len: u64) -> Result<(), FormatError> {
        self.with(|f| {
            f.flush()?;
            f.get_ref().set_len(len)?;
            f.get_ref().sync_all()
        })?;
        // Windows renames no open file.
        self.file = None;
        let io = |e| FormatError::from(Kind::Io(e)).at(&self.path);
        fs::rename(&self.temporary, &self.target).map_err(io)?;
        output::sync_name(&self.target).map_err(io)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        self.file = None;
        // After a rename there is nothing under this name. Otherwise an error was reported already, and a file that
        // cannot be removed is recognizable by its ending.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Who may not read the file that is replaced shall not read the new one.
#[cfg(unix)]
fn keep_private(target: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(there) = fs::metadata(target) {
        let mode = there.permissions().mode() & 0o777;
        // Where a file system has no permissions there is nothing to keep.
        let _ = file.set_permissions(fs::Permissions::from_mode(mode));
    }
}

#[cfg(not(unix))]
fn keep_private(_: &Path, _: &File) {}
