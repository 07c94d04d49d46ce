//! Models of several GGUF files, as `llama-gguf-split` cuts them: `NAME-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

use bitnet_core::SharedBytes;

use crate::{FormatErrorKind as Kind, OpenOptions, TensorInfo};

use super::GgufMetadata;

const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// The key's value in the file's metadata; 0 when it is absent or no integer.
fn value(metadata: &GgufMetadata, key: &str) -> u64 {
    metadata.get(key).and_then(|v| v.as_u64()).unwrap_or(0)
}

fn split(what: impl Into<String>) -> Kind {
    Kind::Split { what: what.into() }
}

/// Refuses a part of a split file where its siblings cannot be found.
pub(crate) fn refuse_part(metadata: &GgufMetadata) -> Result<(), Kind> {
    match value(metadata, COUNT) {
        0 | 1 => Ok(()),
        count => Err(split(format!("this is one of {count}, and the others are not at hand"))),
    }
}

/// The paths of the other parts of the split file whose first part is at `path`; none when it is whole.
pub(crate) fn other_parts(path: &Path, metadata: &GgufMetadata) -> Result<Vec<PathBuf>, Kind> {
    let count = value(metadata, COUNT);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let number = value(metadata, NUMBER);
    if number != 0 {
        return Err(split(format!("this is part {} of {count}; open the first", number.saturating_add(1))));
    }
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    // Five digits hold all counts that the splitter writes, and keep a hostile count from becoming a long list.
    let stem = name.strip_suffix(&format!("-00001-of-{count:05}.gguf")).filter(|_| count <= 99_999);
    let Some(stem) = stem else {
        let ending = format!("-00001-of-{:05}.gguf", count.min(99_999));
        return Err(split(format!("this is the first of {count}, so its name should end in {ending}")));
    };
    // The list is made as the parts are found, so that it is no longer than they are many.
    let part = |i: u64| path.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf"));
    let mut parts = Vec::new();
    for i in 2..=count {
        let path = part(i);
        if !path.exists() {
            return Err(Kind::ShardMissing { shard: crate::checkpoint::file_name(&path) });
        }
        parts.push(path);
    }
    Ok(parts)
}

/// Reads part number `shard` (from 0) of the file whose first part has `first` as metadata.
pub(crate) fn parse_part(
    bytes: &SharedBytes,
    options: &OpenOptions,
    shard: usize,
    first: &GgufMetadata,
) -> Result<Vec<TensorInfo>, Kind> {
    if !bytes.starts_with(super::MAGIC) {
        return Err(Kind::Unrecognized { what: "it should be a part of a split GGUF file".into() });
    }
    let file = super::parse(bytes, options, shard)?;
    let (number, count) = (value(&file.metadata, NUMBER), value(&file.metadata, COUNT));
    let expected = value(first, COUNT);
    if number != shard as u64 || count != expected {
        let what = format!(
            "part {} of {expected} says it is part {} of {count}",
            shard + 1,
            number.saturating_add(1)
        );
        return Err(split(what));
    }
    Ok(file.tensors)
}

/// Whether all parts together have as many tensors as the first announces.
pub(crate) fn check_total(first: &GgufMetadata, tensors: usize) -> Result<(), Kind> {
    let expected = value(first, TENSORS);
    if value(first, COUNT) > 1 && expected != 0 && expected != tensors as u64 {
        return Err(split(format!("{expected} tensors are announced, {tensors} are there")));
    }
    Ok(())
}
