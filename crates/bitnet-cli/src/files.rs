//! Files that a user names: read whole within a bound, written whole or not at all.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::failure::{Failure, Result};

/// More than any prompt or corpus that one command should take; a wrong path to a model is caught here.
const MOST_TEXT: u64 = 1 << 30;

/// The whole file as text; `-` is standard input.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::new(format_args!("{} is not UTF-8 text (byte {at} is the first that is not)", shown(path)))
    })
}

/// The JSON array of token ids in the file.
pub fn read_ids(path: &Path) -> Result<Vec<u32>> {
    parse_ids(&read_text(path)?, &shown(path))
}

/// The JSON array of token ids in `text`, which came from `place`.
pub fn parse_ids(text: &str, place: &str) -> Result<Vec<u32>> {
    serde_json::from_str(text).map_err(|e| {
        Failure::new(format_args!("{place} is not a JSON array of token ids: {e}"))
            .cure("the form is [1, 2, 3]")
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let failed = |e| Failure::io("read", path, &e);
    let taken = if path == Path::new("-") {
        io::stdin().lock().take(MOST_TEXT + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(Failure::new(format_args!(
                "{} is a directory; a file is needed here",
                path.display()
            )));
        }
        file.take(MOST_TEXT + 1).read_to_end(&mut bytes)
    };
    if taken.map_err(failed)? as u64 > MOST_TEXT {
        return Err(Failure::new(format_args!(
            "{} is larger than 1 GiB; that is no text to take whole",
            shown(path)
        )));
    }
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// A file that only takes its name when it is complete. Dropped before [`Draft::publish`], it leaves nothing behind.
pub struct Draft {
    temporary: PathBuf,
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Draft {
    pub fn new(path: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some(name) = path.file_name() else {
            return Err(Failure::new(format_args!("{} is not a file name", path.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{}.part", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(hidden);
        let file = File::create_new(&temporary).map_err(|e| Failure::io("create", path, &e))?;
        Ok(Self { temporary, path: path.to_owned(), file: Some(BufWriter::new(file)) })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|e| Failure::io("write", &self.path, &e))
    }

    /// Puts the bytes on the disk, then the name on the bytes.
    pub fn publish(mut self) -> Result<()> {
        let failed = |e: io::Error| Failure::io("write", &self.path, &e);
        if let Some(file) = self.file.take() {
            let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all().map_err(failed)?;
        }
        fs::rename(&self.temporary, &self.path).map_err(failed)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.file = None;
        // After `publish` there is nothing of this name.
        let _ = fs::remove_file(&self.temporary);
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
        let folder = std::env::temp_dir().join(format!("bitnet-draft-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.txt");
        let mut draft = Draft::new(&path).unwrap();
        draft.write(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let mut draft = Draft::new(&path).unwrap();
        draft.write(b"whole").unwrap();
        draft.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
