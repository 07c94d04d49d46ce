//! Sizes in the keys of a GGUF file.

use crate::error::SourceError;

/// `value`, which stands under `key`, as a size.
pub(super) fn to_size(key: &str, value: u64) -> Result<usize, SourceError> {
    usize::try_from(value).map_err(|_| SourceError::config(key, "a size that fits in memory", value))
}
