//! What was measured once: small JSON files in the cache folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    boxed,
    failure::{Failure, Result, sentence},
    files::{self, Draft},
};

/// The most bytes of a file of measurements, far more than any has.
const MOST: u64 = 1 << 16;

/// The folder of the measurements of one kind, in the user's cache.
pub fn folder(kind: &str) -> Option<PathBuf> {
    Some(boxed::cache_folder()?.join("bitnet-rust").join(kind))
}

/// Writes `value` to `path`, whole or not at all.
pub fn keep(value: &impl Serialize, path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Failure::io("create", path, &e);
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(sentence(&e)))?;
    let mut draft = Draft::new(path)?;
    draft.write(text.as_bytes())?;
    draft.publish()
}

/// What `path` holds, unless the file is missing or damaged. Whether its values make sense is the caller's to check.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::cached(path, MOST).ok()??).ok()
}
