//! Mapping a file: the one place of this crate with `unsafe`.

use std::{fs::File, path::Path, sync::Arc};

use bitnet_core::SharedBytes;
use memmap2::Mmap;

use crate::{FormatError, FormatErrorKind as Kind};

/// All bytes of the file at `path`, mapped read-only; an empty file gives no bytes.
pub(crate) fn map(path: &Path) -> Result<SharedBytes, FormatError> {
    let io = |error: std::io::Error| FormatError::from(Kind::Io(error)).at(path);
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !path.metadata().map_err(io)?.is_file() {
        return Err(FormatError::from(Kind::NotAFile).at(path));
    }
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Ok(Vec::new().into());
    }
    let map = map_file(&file).map_err(io)?;
    // Only advice, and only for what is not in the page cache yet: file systems with large folios (ext4, XFS, btrfs) then
    // read it into huge pages, from which weights stream faster.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(SharedBytes::new(Arc::new(map)))
}

// A map is a promise that nobody shortens or rewrites the file while it is open, which no program can check.
// Every reader of large models takes this promise; what is read through it is checked all the same.
#[allow(unsafe_code)]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private and read-only, and every value read from it is plain bytes, valid whatever
    // they are. Another process that shortens the file can end this one (SIGBUS); it cannot make it misread memory.
    unsafe { Mmap::map(file) }
}
