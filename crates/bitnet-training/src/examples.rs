//! Chats and completions from JSONL files, of which the answers are learned and nothing else.
//!
//! An example is a row of its own, and rows of a batch are filled up behind their ends: causal attention never looks there, so
//! an example sees itself and nothing else, and no loss counts there. What a row begins with is exactly what the engine
//! is given when it is asked: the ids of the prompt as `bitnet chat` and `bitnet run` make them.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bitnet_text::{ChatTemplate, EncodeOptions, Message, Tokenizer, encode_dialogue};
use serde::Deserialize;

use crate::{
    Minibatch, TrainError,
    corpus::{MAX_LINE, MOST_TEXT, read_within},
};

/// One row: a prompt and its answer, or a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// All tokens: the prompt, then the answer.
    pub ids: Vec<u32>,
    /// The tokens that are learned, the one that ends an answer included.
    pub answers: Vec<Range<usize>>,
    /// The line of the file that the example was read from.
    pub line: Line,
}

/// A place in a file, for messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The path of the file.
    pub path: Arc<Path>,
    /// The number of the line, from 1.
    pub number: usize,
}

impl Example {
    /// Tokens of the answers, which are learned; prompts are only read.
    pub fn learned(&self) -> usize {
        self.answers.iter().map(|r| r.len()).sum()
    }
}

/// Examples to learn from and examples to be judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// The examples that steps learn from.
    pub train: Vec<Example>,
    /// For validation, never trained on.
    pub validation: Vec<Example>,
}

/// A line as it is written: one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    messages: Option<Vec<Turn>>,
    prompt: Option<String>,
    completion: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: String,
    content: String,
}

/// How the lines of a file become ids.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The tokenizer of the model that is trained.
    pub tokenizer: &'a Tokenizer,
    /// The model's chat template, if it has one.
    pub template: Option<&'a ChatTemplate>,
    /// What ends an answer to a plain prompt.
    pub eos: Option<u32>,
}

impl Reader<'_> {
    /// Reads JSONL files: `{"messages": [{"role": .., "content": ..}, ..]}` or `{"prompt": .., "completion": ..}` on every line
    /// that is not blank. The last `validation_share` of the examples of every file, at least one, is kept for validation.
    ///
    /// # Errors
    /// [`TrainError::Io`], [`TrainError::NotUtf8`], [`TrainError::EmptyText`], [`TrainError::Line`] with file and line for what is
    /// no example, [`TrainError::FewExamples`] where nothing is left to learn from.
    pub fn read(self, files: &[PathBuf], validation_share: f64) -> Result<Examples, TrainError> {
        let mut all = Examples { train: Vec::new(), validation: Vec::new() };
        for path in files {
            let mut examples = self.file(path)?;
            let kept = ((examples.len() as f64 * validation_share).ceil() as usize).max(1);
            if kept >= examples.len() {
                return Err(TrainError::FewExamples { path: path.clone(), examples: examples.len(), kept });
            }
            all.validation.extend(examples.split_off(examples.len() - kept));
            all.train.extend(examples);
        }
        Ok(all)
    }

    fn file(self, path: &Path) -> Result<Vec<Example>, TrainError> {
        let bytes = read_within(path, MOST_TEXT)?;
        let shared: Arc<Path> = path.into();
        let mut examples = Vec::new();
        for (at, line) in bytes.split(|&b| b == b'\n').enumerate() {
            let line_of = Line { path: shared.clone(), number: at + 1 };
            if line.len() > MAX_LINE {
                return Err(line_of
                    .wrong(format!("it has {} bytes, and an example has at most {MAX_LINE}", line.len())));
            }
            let text = std::str::from_utf8(line).map_err(|e| {
                line_of.wrong(format!("it is not UTF-8: byte {} begins no character", e.valid_up_to()))
            })?;
            // A mark that some editors put in front of a text.
            let text = if at == 0 { text.trim_start_matches('\u{feff}') } else { text };
            if !text.trim().is_empty() {
                examples.extend(self.line(text, &line_of)?);
            }
        }
        match examples.is_empty() {
            true => Err(TrainError::EmptyText { path: path.into() }),
            false => Ok(examples),
        }
    }

    fn line(self, text: &str, line: &Line) -> Result<Vec<Example>, TrainError> {
        // The parser's own words name a line of its own, which is always the first.
        let what = |e: serde_json::Error| e.to_string().replace("at line 1 column", "at column");
        let written: Written = serde_json::from_str(text).map_err(|e| line.wrong(what(e)))?;
        let found = match written {
            Written { messages: Some(turns), prompt: None, completion: None } => self.chat(turns, line)?,
            Written { messages: None, prompt: Some(p), completion: Some(c) } => {
                vec![self.completion(&p, &c, line)?]
            }
            _ => {
                return Err(line.wrong("it has neither \"messages\" alone nor \"prompt\" and \"completion\""));
            }
        };
        let example = |(ids, answers)| Example { ids, answers, line: line.clone() };
        Ok(found.into_iter().map(example).collect())
    }

    fn chat(self, turns: Vec<Turn>, line: &Line) -> Result<Vec<Row>, TrainError> {
        let Some(template) = self.template else {
            return Err(
                line.wrong("it is a chat, and the model has no chat template: give prompts and completions")
            );
        };
        let messages: Vec<Message> = turns.into_iter().map(|t| Message::new(t.role, t.content)).collect();
        let answer = |m: &Message| m.role == "assistant";
        if !messages.iter().any(answer) {
            return Err(line.wrong("none of its messages is the assistant's, so there is nothing to learn"));
        }
        if messages.iter().any(|m| answer(m) && m.content.trim().is_empty()) {
            return Err(line.wrong("an answer of the assistant is empty"));
        }
        let rows =
            encode_dialogue(self.tokenizer, template, &messages).map_err(|e| line.wrong(e.to_string()))?;
        Ok(rows.into_iter().map(|row| (row.ids, row.answers)).collect())
    }

    fn completion(self, prompt: &str, completion: &str, line: &Line) -> Result<Row, TrainError> {
        if completion.trim().is_empty() {
            return Err(line.wrong("its completion is empty"));
        }
        let encode = |text: &str, add_special| {
            let options = EncodeOptions { add_special, parse_special: false };
            self.tokenizer.encode(text, options).map_err(|e| line.wrong(e.to_string()))
        };
        let mut ids = encode(prompt, true)?;
        let first = ids.len();
        let whole = encode(&format!("{prompt}{completion}"), true)?;
        // Where reading both at once cuts the prompt in the same tokens, the answer is what is left; else the answer is read
        // alone: the engine is given the prompt's own tokens.
        match whole.strip_prefix(&ids[..]) {
            Some(answer) if !answer.is_empty() => ids.extend(answer),
            _ => ids.extend(encode(completion, false)?),
        }
        ids.extend(self.eos);
        if first == 0 {
            return Err(line.wrong("its prompt is empty, and the tokenizer has no token that begins a text"));
        }
        let end = ids.len();
        Ok((ids, std::iter::once(first..end).collect()))
    }
}

/// Ids, and those that are learned.
type Row = (Vec<u32>, Vec<Range<usize>>);

impl Line {
    fn wrong(&self, what: impl Into<String>) -> TrainError {
        TrainError::Line { path: self.path.to_path_buf(), line: self.number, what: what.into() }
    }
}

impl Examples {
    /// Refuses examples that do not fit into a row of `positions` tokens: cutting one would teach half an answer.
    pub(crate) fn check(&self, positions: usize) -> Result<(), TrainError> {
        // The last token is predicted, not read.
        let long = self.train.iter().chain(&self.validation).find(|e| e.ids.len() > positions + 1);
        match long {
            None => Ok(()),
            Some(Example { ids, line, .. }) => Err(TrainError::LongExample {
                path: line.path.to_path_buf(),
                line: line.number,
                tokens: ids.len() - 1,
                positions,
            }),
        }
    }

    /// Examples as rows of one batch, filled up behind their ends to the longest.
    pub(crate) fn batch<'a>(examples: impl Iterator<Item = &'a Example> + Clone) -> Minibatch {
        let positions = examples.clone().map(|e| e.ids.len() - 1).max().unwrap_or(0);
        let (mut ids, mut targets) = (Vec::new(), Vec::new());
        for example in examples.clone() {
            let (read, room) = (example.ids.len() - 1, ids.len() + positions);
            ids.extend_from_slice(&example.ids[..read]);
            let learned = |at: usize| example.answers.iter().any(|range| range.contains(&at));
            targets.extend((1..=read).map(|at| learned(at).then_some(example.ids[at])));
            // Any id will do.
            ids.resize(room, 0);
            targets.resize(room, None);
        }
        Minibatch { sequences: examples.count(), ids: ids.into(), targets: targets.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_learn_their_answers_and_nothing_of_what_fills_them_up() {
        let line = Line { path: Path::new("a.jsonl").into(), number: 1 };
        let example = |ids: &[u32], answers: &[Range<usize>]| Example {
            ids: ids.to_vec(),
            answers: answers.to_vec(),
            line: line.clone(),
        };
        let examples = [example(&[1, 2, 3, 4, 5, 6], &[2..3, 4..6]), example(&[7, 8, 9], &[1..2, 2..3])];
        let batch = Examples::batch(examples.iter());
        assert_eq!((batch.sequences, batch.positions(), batch.counted()), (2, 5, 5));
        assert_eq!((batch.lengths().sum::<usize>(), batch.counted_targets().len()), (7, 5));
        assert_eq!(&batch.ids[..], [1, 2, 3, 4, 5, 7, 8, 0, 0, 0]);
        let targets = [None, Some(3), None, Some(5), Some(6), Some(8), Some(9), None, None, None];
        assert_eq!(&batch.targets[..], targets);
        let all = Examples { train: examples.to_vec(), validation: Vec::new() };
        assert!(all.check(5).is_ok());
        assert!(matches!(all.check(4), Err(TrainError::LongExample { tokens: 5, positions: 4, .. })));
    }
}
