//! Models of several GGUF files, as `llama-gguf-split` cuts them: `NAME-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

use bitnet_core::SharedBytes;

use crate::{FormatErrorKind as Kind, OpenOptions, shard::file_name};

use super::{
    header::{self, Gguf, MAGIC},
    metadata::GgufMetadata,
};

const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// What the file name of one part of a split model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitName<'a> {
    /// What the names of all parts begin with.
    pub stem: &'a str,
    /// The number of this part, from 1.
    pub number: u32,
    /// The number of parts that the model has.
    pub count: u32,
}

impl<'a> SplitName<'a> {
    /// Reads `NAME-00002-of-00003.gguf`; `None` for names of any other form, and for numbers that cannot be.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let plain = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten()
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (1..=count).contains(&number).then_some(Self { stem, number, count })
    }

    /// The name of part `number`, from 1, of the same model.
    pub fn part(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.count)
    }
}

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

/// The paths of all parts, in order, of the split model that the file at `path` is any part of; none when it is whole.
pub(crate) fn parts(path: &Path, metadata: &GgufMetadata) -> Result<Vec<PathBuf>, Kind> {
    let count = value(metadata, COUNT);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let number = value(metadata, NUMBER);
    if number >= count {
        return Err(split(format!("this says it is part {} of {count}", number.saturating_add(1))));
    }
    let file_name = file_name(path);
    let name = SplitName::parse(&file_name)
        .filter(|name| (u64::from(name.number), u64::from(name.count)) == (number + 1, count));
    let Some(name) = name else {
        let which = format!("this is part {} of {count}", number + 1);
        let ending = format!("-{:05}-of-{count:05}.gguf", number + 1);
        return Err(split(format!("{which}, so its name should end in {ending}")));
    };
    // The list is made as the parts are found, so that it is no longer than they are many.
    let mut parts = Vec::new();
    for number in 1..=name.count {
        let path = path.with_file_name(name.part(number));
        if !path.exists() {
            return Err(Kind::ShardMissing { shard: name.part(number) });
        }
        parts.push(path);
    }
    Ok(parts)
}

/// Reads part number `shard` (from 0) of a model of `count` parts.
pub(crate) fn parse_part(
    bytes: &SharedBytes,
    options: &OpenOptions,
    shard: usize,
    count: usize,
) -> Result<Gguf, Kind> {
    if !bytes.starts_with(MAGIC) {
        return Err(Kind::Unrecognized { what: "it should be a part of a split GGUF file".into() });
    }
    let file = header::parse(bytes, options, shard)?;
    let said = (value(&file.metadata, NUMBER), value(&file.metadata, COUNT));
    if said != (shard as u64, count as u64) {
        let what = format!(
            "part {} of {count} says it is part {} of {}",
            shard + 1,
            said.0.saturating_add(1),
            said.1
        );
        return Err(split(what));
    }
    Ok(file)
}

/// Whether all parts together have as many tensors as the first announces.
pub(crate) fn check_total(first: &GgufMetadata, tensors: usize) -> Result<(), Kind> {
    let expected = value(first, TENSORS);
    if value(first, COUNT) > 1 && expected != 0 && expected != tensors as u64 {
        return Err(split(format!("{expected} tensors are announced, {tensors} are there")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::SplitName;

    #[test]
    fn only_names_of_the_splitters_form_are_parts() {
        let name = SplitName::parse("a-00002-of-00007-00002-of-00010.gguf").unwrap();
        assert_eq!(name, SplitName { stem: "a-00002-of-00007", number: 2, count: 10 });
        assert_eq!(name.part(10), "a-00002-of-00007-00010-of-00010.gguf");
        for other in [
            "a.gguf",
            "a-2-of-3.gguf",
            "a-00004-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-0000é-of-00003.gguf",
            "a-+0001-of-00003.gguf",
            "a-00001-of-00003.GGUF",
            "00001-of-00003.gguf",
        ] {
            assert_eq!(SplitName::parse(other), None, "{other}");
        }
    }
}
