//! Where an output may go, for everything that writes one: never over a device, never in place of a link, and under a
//! name of its own until it is whole.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{FormatError, FormatErrorKind as Kind};

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
/// Temporary names that are tried: killed processes with this one's number may have left as many.
const MOST_NAMES: usize = 1000;
/// Characters of the output's name that its temporary name repeats; file systems allow 255 bytes in all.
const KEPT_CHARS: usize = 40;

/// The path that a file written to `path` is to have: `path` itself, or what a link there leads to, so that a link stays
/// one and its target is replaced. The target may not exist yet.
///
/// # Errors
/// [`FormatErrorKind::NoOutput`](crate::FormatErrorKind::NoOutput) when a directory, device, pipe or socket is there, or
/// `path` names no file; [`FormatErrorKind::NoDirectory`](crate::FormatErrorKind::NoDirectory) when there is no directory
/// for it.
pub fn target(path: &Path) -> Result<PathBuf, FormatError> {
    let refuse = |reason| FormatError::from(Kind::NoOutput { reason }).at(path);
    let there = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(refuse("it is a directory; name a file in it")),
        Ok(metadata) if metadata.is_file() => true,
        Ok(_) => return Err(refuse("it is a device, a pipe or a socket, and only a file can be replaced")),
        Err(_) => false,
    };
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let to = fs::read_link(&target).map_err(|e| FormatError::from(Kind::Io(e)).at(path))?;
                target = directory(&target).join(to);
            }
            Ok(_) => return Ok(target),
            // A link of /proc to a file that has lost its name.
            Err(_) if there => return Err(refuse("it leads to a file that has been removed")),
            Err(_) => {
                let ends_in_name = target.file_name().is_some();
                check_directory(&target).map_err(|e| e.at(path))?;
                return if ends_in_name { Ok(target) } else { Err(refuse("it names no file")) };
            }
        }
    }
    Err(refuse("it is a link that leads to itself"))
}

/// Makes something under a hidden name beside `path`, which ends in `ending`; returns the name and what `make` made.
/// Names that exist, which a killed process may have left, are passed over. `make` must fail with
/// [`io::ErrorKind::AlreadyExists`] for them, as [`fs::File::create_new`] and [`fs::create_dir`] do.
///
/// # Errors
/// What `make` returns, said of `path`; [`FormatErrorKind::NoDirectory`](crate::FormatErrorKind::NoDirectory) when
/// there is no directory for it.
pub fn beside<T>(
    path: &Path,
    ending: &str,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T), FormatError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(FormatError::from(Kind::NoOutput { reason: "it names no file" }).at(path));
    };
    let name: String = name.to_string_lossy().chars().take(KEPT_CHARS).collect();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..MOST_NAMES {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let hidden = OsString::from(format!(".{name}.{}-{number}.{ending}", std::process::id()));
        let temporary = path.with_file_name(hidden);
        match make(&temporary) {
            Ok(made) => return Ok((temporary, made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => {
                check_directory(path).map_err(|e| e.at(path))?;
                return Err(FormatError::from(Kind::Io(error)).at(path));
            }
        }
    }
    Err(FormatError::from(Kind::Io(last)).at(path))
}

/// Brings the name at `path` to the disk, which must survive a power cut as the bytes do.
///
/// # Errors
/// What the system says of `path`'s directory.
pub fn sync_name(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(directory(path))?.sync_all()?;
    // Other systems open no directories.
    let _ = path;
    Ok(())
}

/// The directory that `path` is in; `.` for a lone name.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."))
}

fn check_directory(path: &Path) -> Result<(), FormatError> {
    let directory = directory(path);
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Kind::NoDirectory { directory: directory.into(), there: true }.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Kind::NoDirectory { directory: directory.into(), there: false }.into())
        }
        Err(error) => Err(Kind::Io(error).into()),
    }
}
