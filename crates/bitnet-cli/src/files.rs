//! Files that a user names: read whole within a bound, written whole or not at all.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use bitnet_format::{AtomicFile, FormatError, output};

use crate::{
    failure::{Failure, Result, sentence},
    interrupt::Guard,
    terminal,
};

/// More than any prompt or corpus that one command should take; a wrong path to a model is caught here.
const MOST_TEXT: u64 = 1 << 30;
/// Tens of millions of ids as a JSON array, far more than any context.
const MOST_IDS: u64 = 256 << 20;

/// The whole file as text; `-` is standard input.
pub fn read_text(path: &Path) -> Result<String> {
    read_within(path, MOST_TEXT)
}

/// The text of a file that may have at most `most` bytes.
pub fn read_within(path: &Path, most: u64) -> Result<String> {
    let bytes = read(path, most)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::new(format_args!("{} is not UTF-8 text (byte {at} is the first that is not)", shown(path)))
    })
}

/// The JSON array of token ids in the file.
pub fn read_ids(path: &Path) -> Result<Vec<u32>> {
    parse_ids(&read_within(path, MOST_IDS)?, &shown(path))
}

/// The JSON array of token ids in `text`, which came from `place`.
pub fn parse_ids(text: &str, place: &str) -> Result<Vec<u32>> {
    serde_json::from_str(text).map_err(|e| {
        Failure::new(format_args!("{place} is not a JSON array of token ids: {e}"))
            .cure("the form is [1, 2, 3]")
    })
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let failed = |e| Failure::io("read", path, &e);
    let taken = if path == Path::new("-") {
        if io::stdin().is_terminal() {
            terminal::note(format_args!(
                "reading what is typed here; Ctrl-D at the beginning of a line ends it"
            ));
        }
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(Failure::new(format_args!(
                "{} is a directory; a file is needed here",
                path.display()
            )));
        }
        file.take(most + 1).read_to_end(&mut bytes)
    };
    if taken.map_err(failed)? as u64 > most {
        return Err(Failure::new(format_args!(
            "{} is larger than {} MiB, the most that is read of such a file",
            shown(path),
            most >> 20
        )));
    }
    Ok(bytes)
}

/// The name by which messages call what is read.
pub fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// What `path` holds, if it is a regular file of at most `most` bytes; of a cache, where anything may lie. Neither a pipe nor a
/// device is waited for.
pub fn cached(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, nix::fcntl::OFlag::O_NONBLOCK.bits());
    // Opening a device may do something already; the look at what was opened is for what changes in between.
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let file = options.open(path)?;
    let there = file.metadata()?;
    if !there.is_file() || there.len() > most {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most))
}

/// Whether `path` is a regular file of at most `most` bytes.
pub fn is_small(path: &Path, most: u64) -> bool {
    fs::metadata(path).is_ok_and(|there| there.is_file() && there.len() <= most)
}

/// Refuses an output that a user named if a file of that name exists and `force` does not say that it may be replaced. Commands
/// that work for long look before they begin; [`Draft::of_output`] looks again.
pub fn check_output(path: &Path, force: bool) -> Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    match fs::metadata(path) {
        // Nobody misses what is empty, such as a name that `mktemp` has made.
        Ok(there) if there.is_file() && there.len() > 0 && !force => {
            Err(Failure::new(format_args!("{} exists already", path.display()))
                .cure("give another name, or --force to replace it"))
        }
        // Pipes and devices are written to.
        Ok(there) if !there.is_dir() && !there.is_file() => Ok(()),
        _ => check_place(path),
    }
}

fn check_place(path: &Path) -> Result<()> {
    output::target(path).map(drop).map_err(|e| not_made(path, &e))
}

fn not_made(path: &Path, error: &FormatError) -> Failure {
    Failure::new(format_args!("cannot create {}: {}", path.display(), sentence(error.kind())))
}

/// As [`check_output`], for what has to be a file with a name.
pub fn check_output_file(path: &Path, force: bool) -> Result<()> {
    if path == Path::new("-") {
        return Err(Failure::usage("this cannot be written to standard output").cure("give it a name"));
    }
    check_output(path, force)?;
    check_place(path)
}

/// Endings that say what a file is.
const ENDINGS: [&str; 17] = [
    "bitnet",
    "gguf",
    "safetensors",
    "npy",
    "npz",
    "svg",
    "png",
    "jpg",
    "jpeg",
    "pdf",
    "html",
    "htm",
    "json",
    "toml",
    "pt",
    "bin",
    "onnx",
];

/// Warns when the name of a file that will be written says that it is something else than `what`, whose ending is `ending`.
pub fn warn_of_ending(path: &Path, ending: &str, what: &str) {
    let found = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    if let Some(found) = found.filter(|found| found != ending && ENDINGS.contains(&found.as_str())) {
        terminal::warning(format_args!(
            "{} will be {what}, though its name ends in .{found}",
            path.display()
        ));
    }
}

/// Something to write. A file only takes its name when it is complete: dropped before [`Draft::publish`], it leaves nothing
/// behind, and while it lives, a signal waits for it. Standard output, a pipe or a device gets the bytes as they come.
pub struct Draft {
    to: To,
    guard: Guard,
}

enum To {
    File(AtomicFile),
    /// A pipe or a device: nothing to be replaced, so it is written at once.
    Through(PathBuf, BufWriter<File>),
    Output,
}

impl Draft {
    /// A file of our own, which replaces whatever file has its name.
    pub fn new(path: &Path) -> Result<Self> {
        let guard = Guard::new();
        let file = AtomicFile::create(path).map_err(|e| not_made(path, &e))?;
        Ok(Self { to: To::File(file), guard })
    }

    /// An output that a user named: `-` is standard output, pipes and devices are written to, and a file that exists is replaced
    /// only with `force`.
    pub fn of_output(path: &Path, force: bool) -> Result<Self> {
        check_output(path, force)?;
        if path == Path::new("-") {
            return Ok(Self { to: To::Output, guard: Guard::new() });
        }
        if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let file = File::options().write(true).open(path).map_err(|e| Failure::io("write", path, &e))?;
            return Ok(Self { to: To::Through(path.into(), BufWriter::new(file)), guard: Guard::new() });
        }
        Self::new(path)
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.to {
            To::File(file) => file.write(bytes).map_err(|e| Failure::new(sentence(&e))),
            To::Through(path, file) => file.write_all(bytes).map_err(|e| through(path, &e)),
            To::Output => io::stdout().lock().write_all(bytes).map_err(|e| Failure::output(&e)),
        }
    }

    /// Puts the bytes on the disk, then the name on the bytes. A signal that came meanwhile ends the command here.
    pub fn publish(self) -> Result<()> {
        match self.to {
            To::File(file) => file.finish().map_err(|e| Failure::new(sentence(&e)))?,
            To::Through(path, mut file) => file.flush().map_err(|e| through(&path, &e))?,
            To::Output => io::stdout().lock().flush().map_err(|e| Failure::output(&e))?,
        }
        if self.guard.pressed() { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

fn through(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::io("write", path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_flat_array_of_small_numbers() {
        assert_eq!(parse_ids(" [1, 2]\n", "x").unwrap(), [1, 2]);
        for wrong in ["", "[1,", "[-1]", "[1.5]", "[4294967296]", "{\"a\":1}", "[[1]]", "[1] 2"] {
            assert!(parse_ids(wrong, "x").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_draft_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let mut draft = Draft::new(&path).unwrap();
        draft.write(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut draft = Draft::new(&path).unwrap();
        draft.write(b"whole").unwrap();
        draft.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_exists_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "precious").unwrap();
        assert!(check_output(&path, false).is_err() && Draft::of_output(&path, false).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let mut draft = Draft::of_output(&path, true).unwrap();
        draft.write(b"new").unwrap();
        draft.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(check_output(folder.path(), true).is_err(), "a directory");
        assert!(check_output(&folder.path().join("nowhere/a"), true).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn what_a_cache_holds_is_a_regular_file_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1234").unwrap();
        assert_eq!(cached(&path, 4).unwrap().as_deref(), Some(&b"1234"[..]));
        assert_eq!(cached(&path, 3).unwrap(), None);
        assert_eq!(cached(folder.path(), 100).unwrap(), None);
        assert_eq!(cached(Path::new("/dev/zero"), 100).unwrap(), None);
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(cached(&pipe, 100).unwrap()));
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)), Ok(None), "a pipe is waited for");
    }
}
