//! Opening what somebody calls a model, and saying what it is when it is something else.

use std::path::Path;

use bitnet_format::{Checkpoint, OpenOptions, read_text};
use serde_json::Value;

use crate::error::SourceError;

/// The file that tells an adapter from a model.
const ADAPTER: &str = "adapter_config.json";
/// Larger than any such file.
const MOST: u64 = 1 << 20;

/// Opens the files of a model: [`Checkpoint::open`], which knows files, and a look at what they are beside.
///
/// # Errors
/// As [`Checkpoint::open`]; [`SourceError::Adapter`] for an adapter.
pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Checkpoint, SourceError> {
    let path = path.as_ref();
    match Checkpoint::open(path, options) {
        Ok(checkpoint) => Ok(checkpoint),
        Err(error) => Err(adapter(path).unwrap_or_else(|| error.into())),
    }
}

/// The error for a directory of an adapter, or a file in it; `None` for anything else.
fn adapter(path: &Path) -> Option<SourceError> {
    let directory = if path.is_dir() { path } else { path.parent()? };
    let config = directory.join(ADAPTER);
    // Whole models may keep an adapter beside them.
    if !config.is_file() || directory.join("config.json").exists() {
        return None;
    }
    let text = read_text(&config, "an adapter's config", MOST).ok();
    let json: Option<Value> = text.and_then(|text| bitnet_format::json::parse(&text).ok());
    let said = json.as_ref().and_then(|json| json.get("base_model_name_or_path")?.as_str());
    let base = said.filter(|name| !name.is_empty()).unwrap_or("its base model");
    let base: String = base.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(SourceError::Adapter { base, directory: directory.display().to_string() })
}
