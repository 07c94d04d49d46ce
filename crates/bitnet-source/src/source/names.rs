//! Names as files have them: those of `transformers`, with what wrappers have put before them.

use bitnet_format::Checkpoint;
use bitnet_model::Part;

use crate::{error::SourceError, family::huggingface};

/// What every decoder's file has.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// What stands before the names of the decoder: nothing in most files, `_orig_mod.` in those of compiled models, `module.` in
/// those of wrapped ones, `language_model.` in those of models that see.
///
/// # Errors
/// When the file holds two decoders, and neither by the plain names.
pub(super) fn prefix(checkpoint: &Checkpoint) -> Result<String, SourceError> {
    // Those in files that are not there count, too: which part they are is told by name.
    let names = || checkpoint.tensors().map(|t| t.name()).chain(checkpoint.absent());
    if names().any(|name| name == EMBEDDING) {
        return Ok(String::new());
    }
    let mut found = names().filter_map(|name| name.strip_suffix(EMBEDDING));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        (Some(one), Some(other)) => Err(SourceError::config(
            "names of tensors",
            "one decoder",
            format!("'{one}{EMBEDDING}' and '{other}{EMBEDDING}'"),
        )),
        (None, _) => Ok(String::new()),
    }
}

/// The names that `part` may have in a file with `prefix`, most usual first.
pub(super) fn with(prefix: &str, part: Part) -> Vec<String> {
    let plain = huggingface::names(part);
    if prefix.is_empty() {
        return plain;
    }
    let mut names: Vec<String> = plain.iter().map(|name| format!("{prefix}{name}")).collect();
    if part == Part::Head {
        // Wrappers of the decoder alone leave the head outside: `model.language_model.layers...` beside `lm_head`.
        names.extend(plain);
    }
    names
}
