//! From text files to ids: reading, a tokenizer, and the split between training and validation.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bitnet_text::{EncodeOptions, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// The token before every text, in tokenizers trained here.
pub const BOS: &str = "<|begin_of_text|>";
/// The token behind every text, in tokenizers trained here.
pub const EOS: &str = "<|end_of_text|>";

/// The most bytes of a line. Longer ones are data, not text, and splitting them into words would take forever.
pub const MAX_LINE: usize = 1 << 20;

/// The most bytes of a file of texts or examples: more than a processor learns from in a month, and an end to what has none.
pub(crate) const MOST_TEXT: u64 = 8 << 30;

/// The bytes of a file that has at most `most`.
pub(crate) fn read_within(path: &Path, most: u64) -> Result<Vec<u8>, TrainError> {
    let mut bytes = Vec::new();
    let taken = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    let fits = taken.and_then(|taken| match taken as u64 <= most {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {most} bytes, the most that is read here"),
        )),
    });
    fits.map(|()| bytes).map_err(|error| TrainError::Io { path: path.into(), error })
}

/// Reads a text and refuses what is none.
///
/// # Errors
/// [`TrainError::Io`], [`TrainError::NotUtf8`], [`TrainError::EmptyText`], [`TrainError::LongLine`], each naming the file.
pub fn read_text(path: &Path) -> Result<String, TrainError> {
    let bytes = read_within(path, MOST_TEXT)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| TrainError::NotUtf8 { path: path.into(), byte: error.utf8_error().valid_up_to() })?;
    if text.trim().is_empty() {
        return Err(TrainError::EmptyText { path: path.into() });
    }
    if let Some((line, long)) = text.lines().enumerate().find(|(_, line)| line.len() > MAX_LINE) {
        return Err(TrainError::LongLine { path: path.into(), line: line + 1, bytes: long.len() });
    }
    Ok(text)
}

/// Which part of a text is kept for validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The end of each file is kept for validation.
    #[default]
    End,
    /// Pieces evenly over it, so that both parts are of one kind.
    Spread,
}

impl Split {
    /// Whether it is the one that jobs have that do not say.
    pub(crate) fn is_end(&self) -> bool {
        *self == Self::End
    }
}

/// The most bytes of a piece of [`Split::Spread`], but for the rest of its last line; short texts have shorter pieces.
const PIECE: f64 = 4096.0;

/// A text in pieces of whole lines, `share` of which go to the second part, evenly.
pub(crate) fn spread(text: &str, share: f64) -> [String; 2] {
    let piece = (text.len() as f64 * share / 4.0).clamp(64.0, PIECE) as usize;
    let (mut parts, mut rest, mut number) = ([String::new(), String::new()], text, 0);
    while !rest.is_empty() {
        let least = rest.ceil_char_boundary(piece.min(rest.len()));
        let end = rest[least..].find('\n').map_or(rest.len(), |at| least + at + 1);
        parts[usize::from(falls(number, share))].push_str(&rest[..end]);
        (rest, number) = (&rest[end..], number + 1);
    }
    parts
}

/// How a job's files are divided: into documents, and these into what is learned and what is kept for validation.
#[derive(Clone, Copy, Debug)]
pub struct Division<'a> {
    /// The line that stands between documents; empty where a file is one.
    pub separator: &'a str,
    /// How the part for validation is chosen.
    pub split: Split,
    /// The share that is kept for validation, from 0 to 1.
    pub validation: f64,
}

impl Division<'_> {
    /// The documents to learn from and those kept, or nothing where a share of the end of the text's *ids* is kept: then the text
    /// is one document, and is cut when it has been read.
    ///
    /// # Errors
    /// [`TrainError::NoSeparator`] where the text of `path` has no such line.
    pub(crate) fn documents(&self, path: &Path, text: &str) -> Result<Option<[Vec<String>; 2]>, TrainError> {
        if self.separator.is_empty() {
            let pieces = || spread(text, self.validation).map(|part| vec![part]);
            return Ok((self.split == Split::Spread).then(pieces));
        }
        let mut documents = vec![String::new()];
        let mut seen = false;
        for line in text.split_inclusive('\n') {
            if line.trim_end() == self.separator {
                seen = true;
                documents.push(String::new());
            } else if let Some(document) = documents.last_mut() {
                document.push_str(line);
            }
        }
        if !seen {
            return Err(TrainError::NoSeparator { path: path.into(), separator: self.separator.into() });
        }
        // Line ends around a separator are the separator's.
        let trimmed = documents.iter().map(|d| d.trim_end().trim_start_matches(['\r', '\n']).to_owned());
        let documents: Vec<String> = trimmed.filter(|document| !document.is_empty()).collect();
        let kept = (documents.len() as f64 * self.validation).ceil() as usize;
        let first_kept = documents.len().saturating_sub(kept);
        let mut parts = [Vec::new(), Vec::new()];
        for (number, document) in documents.into_iter().enumerate() {
            let kept = match self.split {
                Split::End => number >= first_kept,
                Split::Spread => falls(number, self.validation),
            };
            parts[usize::from(kept)].push(document);
        }
        Ok(Some(parts))
    }
}

/// Whether piece `number` is one of the `share` that are kept, evenly.
fn falls(number: usize, share: f64) -> bool {
    ((number + 1) as f64 * share).floor() > (number as f64 * share).floor()
}

/// Ids to learn from and ids to be judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// The ids that steps learn from.
    pub train: Vec<u32>,
    /// For validation, never trained on.
    pub validation: Vec<u32>,
}

impl Corpus {
    /// Reads the texts of `files` and turns each document into ids, between the tokens that begin and end a text where the
    /// tokenizer has them. What `division` keeps is for validation.
    ///
    /// # Errors
    /// Those of [`read_text`]; [`TrainError::NoSeparator`]; [`TrainError::Text`] when the tokenizer fails;
    /// [`TrainError::ShortText`] when a part is shorter than `positions + 1` tokens.
    pub fn read(
        files: &[PathBuf],
        tokenizer: &Tokenizer,
        division: Division<'_>,
        positions: usize,
    ) -> Result<Self, TrainError> {
        let mut corpus = Self { train: Vec::new(), validation: Vec::new() };
        let none = EncodeOptions { add_special: false, parse_special: false };
        for path in files {
            let text = read_text(path)?;
            let ids = |text: &str| -> Result<Vec<u32>, TrainError> {
                let ids = tokenizer.encode(text, none)?;
                Ok(tokenizer.bos().into_iter().chain(ids).chain(tokenizer.eos()).collect())
            };
            if let Some([train, validation]) = division.documents(path, &text)? {
                train.iter().try_for_each(|text| ids(text).map(|ids| corpus.train.extend(ids)))?;
                validation.iter().try_for_each(|text| ids(text).map(|ids| corpus.validation.extend(ids)))?;
                continue;
            }
            let whole = ids(&text)?;
            let kept = (whole.len() as f64 * division.validation).ceil() as usize;
            let (train, validation) = whole.split_at(whole.len().saturating_sub(kept));
            corpus.train.extend(train);
            corpus.validation.extend(validation);
        }
        for (part, ids) in [("training", &corpus.train), ("validation", &corpus.validation)] {
            if ids.len() <= positions {
                return Err(TrainError::ShortText { part, tokens: ids.len(), need: positions + 1 });
            }
        }
        Ok(corpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_ends_at_the_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "eleven more").unwrap();
        assert_eq!(read_within(file.path(), 11).unwrap(), b"eleven more");
        for endless in [file.path(), Path::new("/dev/zero")] {
            let error = read_within(endless, 10).unwrap_err().to_string();
            assert!(
                error.contains("more than 10 bytes") && error.contains(&*endless.to_string_lossy()),
                "{error}"
            );
        }
    }

    #[test]
    fn pieces_of_a_text_are_its_lines_shared_out_evenly() {
        let text: String = (0..4000).map(|i| format!("line {i} of many, d\u{e9}j\u{e0} vu\n")).collect();
        let [train, validation] = spread(&text, 0.1);
        assert_eq!(train.len() + validation.len(), text.len());
        let share = validation.len() as f64 / text.len() as f64;
        assert!((0.07..0.13).contains(&share), "{share}");
        let mut lines: Vec<&str> = train.lines().chain(validation.lines()).collect();
        lines.sort_unstable();
        let mut all: Vec<&str> = text.lines().collect();
        all.sort_unstable();
        assert_eq!(lines, all);
        assert_eq!(spread("one line", 0.5), ["one line", ""].map(str::to_owned));
    }

    #[test]
    fn documents_stand_between_separators_and_are_kept_whole() {
        let division = |split| Division { separator: "<|endoftext|>", split, validation: 0.25 };
        let path = Path::new("stories.txt");
        let text = "one\n\nof two paragraphs\n<|endoftext|>\n\n two\n<|endoftext|>  \r\n\n<|endoftext|>\nthree\n\n<|endoftext|>\nfour";
        let end = division(Split::End).documents(path, text).unwrap().unwrap();
        assert_eq!(end, [vec!["one\n\nof two paragraphs", " two", "three"], vec!["four"]].map(owned));
        let many: String = (0..8).map(|n| format!("{n}\n<|endoftext|>\n")).collect();
        let [train, validation] = division(Split::Spread).documents(path, &many).unwrap().unwrap();
        assert_eq!((train, validation), (owned(vec!["0", "1", "2", "4", "5", "6"]), owned(vec!["3", "7"])));
        // A separator that is no line of the text is a mistake, not one long document.
        let error = division(Split::End).documents(path, "one <|endoftext|> two").unwrap_err().to_string();
        assert!(error.contains("stories.txt") && error.contains("<|endoftext|>"), "{error}");
        let none = Division { separator: "", ..division(Split::End) };
        assert_eq!(none.documents(path, text).unwrap(), None);
    }

    #[test]
    fn each_document_has_its_beginning_and_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stories.txt");
        std::fs::write(&path, "the cat sat.\n---\nthe dog sat.\n---\nthe cow sat.\n").unwrap();
        let json = crate::train_tokenizer(&["the cat sat.".to_owned()], crate::MIN_VOCAB).unwrap();
        let tokenizer = Tokenizer::from_json(&json).unwrap().with_bos_eos(Some(BOS), Some(EOS)).unwrap();
        let division = Division { separator: "---", split: Split::End, validation: 0.3 };
        let corpus = Corpus::read(&[path], &tokenizer, division, 4).unwrap();
        let text = |ids: &[u32]| tokenizer.decode(ids, false);
        assert_eq!(text(&corpus.train), format!("{BOS}the cat sat.{EOS}{BOS}the dog sat.{EOS}"));
        assert_eq!(text(&corpus.validation), format!("{BOS}the cow sat.{EOS}"));
    }

    fn owned(texts: Vec<&str>) -> Vec<String> {
        texts.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_own_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            read_text(&path)
        };
        assert!(matches!(file("empty", b" \n"), Err(TrainError::EmptyText { .. })));
        assert!(matches!(file("latin", b"caf\xe9"), Err(TrainError::NotUtf8 { byte: 3, .. })));
        let long = [b"a\n".as_slice(), &vec![b'x'; MAX_LINE + 1]].concat();
        assert!(matches!(file("long", &long), Err(TrainError::LongLine { line: 2, .. })));
        assert_eq!(file("good", b"to be").unwrap(), "to be");
        assert!(matches!(read_text(Path::new("nowhere")), Err(TrainError::Io { .. })));
    }
}
