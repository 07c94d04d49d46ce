//! The files of a model.

use std::path::{Path, PathBuf};

use bitnet_core::SharedBytes;

/// One file of a model, mapped.
pub(crate) struct Shard {
    pub(crate) path: PathBuf,
    pub(crate) bytes: SharedBytes,
}

/// The last component of a path, for messages.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
