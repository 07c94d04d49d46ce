//! Mapping a file, and what happens when it is cut short: the one place of this crate with `unsafe`.

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

/// From here on a mapped file that is cut short, or whose disk fails, ends the process with a sentence on standard error and
/// exit status 1, where the system would end it without a word (SIGBUS). For programs that own their process; on Linux only:
/// elsewhere the signal has other meanings, too.
///
/// # Errors
/// What the system says when it takes no handler.
pub fn explain_lost_pages() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    lost::install()?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod lost {
    use std::{io, mem, ptr};

    const SENTENCE: &[u8] =
        b"error: a model file was cut short while it was in use, or its disk could not be read; fetch or \
        convert it anew, and put a new file in the place of an old one by renaming it\n";

    pub(super) fn install() -> io::Result<()> {
        // SAFETY: all zeros are a valid `sigaction`: no flags and an empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // The stack that the standard library gives each thread for its own handlers.
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: `action` is initialized and outlives the call; the handler does only what a signal handler may.
        match unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    extern "C" fn end(_: libc::c_int) {
        // SAFETY: `write` may be called in a signal handler, and the bytes are there for ever.
        let _ = unsafe { libc::write(libc::STDERR_FILENO, SENTENCE.as_ptr().cast(), SENTENCE.len()) };
        // SAFETY: `_exit` may be called in a signal handler; it runs no other code of this process.
        unsafe { libc::_exit(1) }
    }
}

// A map is a promise that nobody shortens or rewrites the file while it is open, which no program can check.
// Every reader of large models takes this promise; what is read through it is checked all the same.
#[allow(unsafe_code)]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private and read-only, and every value read from it is plain bytes, valid whatever
    // they are. Another process that shortens the file can end this one (SIGBUS); it cannot make it misread memory.
    // Text is copied before it is checked to be UTF-8, since another process may rewrite it in between.
    unsafe { Mmap::map(file) }
}
