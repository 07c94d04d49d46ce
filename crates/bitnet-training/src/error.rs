//! What can go wrong before, in and after a step.

use std::path::PathBuf;

use thiserror::Error;

/// A failure of training. Each names the thing and what was expected of it.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A configuration that cannot be trained.
    #[error("{what} is {got}, and training needs {expected}")]
    Unsupported {
        /// The value.
        what: &'static str,
        /// What would do.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A parameter has not the size that the configuration gives it.
    #[error("'{name}' has {got} values, and the configuration gives it {expected}")]
    Size {
        /// The parameter.
        name: String,
        /// Values that the configuration asks for.
        expected: usize,
        /// Values that are there.
        got: usize,
    },
    /// A parameter is NaN or infinite.
    #[error("'{name}' has a value that is not finite")]
    NotFinite {
        /// The parameter.
        name: String,
    },
    /// The configuration itself is impossible.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is not text.
    #[error("{} is not UTF-8: byte {byte} begins no character", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong.
        byte: usize,
    },
    /// A text is empty.
    #[error("{} holds no text", path.display())]
    EmptyText {
        /// The file.
        path: PathBuf,
    },
    /// A text has no line that is the separator.
    #[error(
        "no line of {} is data.separator, {separator:?}: it is a line of its own between documents; leave it empty where a file is one document",
        path.display()
    )]
    NoSeparator {
        /// The file.
        path: PathBuf,
        /// The line.
        separator: String,
    },
    /// A line is too long to be text.
    #[error(
        "line {line} of {} has {bytes} bytes; a line of text has at most {}: put line breaks where paragraphs end",
        path.display(),
        crate::corpus::MAX_LINE
    )]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Its length.
        bytes: usize,
    },
    /// A line is no example.
    #[error("line {line} of {}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// An example does not fit.
    #[error(
        "line {line} of {}: prompt and answer have {tokens} tokens, and training.positions is {positions}: raise it, or leave the \
         line out",
        path.display()
    )]
    LongExample {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Tokens that are read.
        tokens: usize,
        /// Tokens of a row.
        positions: usize,
    },
    /// Nothing is left to learn from.
    #[error("{} has {examples} examples, of which {kept} are kept for validation: nothing is left to learn", path.display())]
    FewExamples {
        /// The file.
        path: PathBuf,
        /// Examples there are.
        examples: usize,
        /// Those kept.
        kept: usize,
    },
    /// A teacher cannot teach this model.
    #[error("the teacher {what}")]
    Teacher {
        /// Why.
        what: String,
    },
    /// A job says one thing, and the model that it begins with another.
    #[error("{key} is {job}, and {} has {model}: {cure}", path.display())]
    Contradiction {
        /// The job's key.
        key: String,
        /// Its value.
        job: String,
        /// The model.
        path: PathBuf,
        /// The model's value.
        model: String,
        /// What to do.
        cure: &'static str,
    },
    /// A model that cannot be the beginning of training.
    #[error("{}: {what}", path.display())]
    Start {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There are fewer tokens than one window.
    #[error(
        "the {part} part of the text has {tokens} tokens, and one window takes {need}: give more text or shorter windows"
    )]
    ShortText {
        /// Training or validation.
        part: &'static str,
        /// Tokens there are.
        tokens: usize,
        /// Tokens of a window.
        need: usize,
    },
    /// A tokenizer that the texts' ids come from is not the model's.
    #[error("the tokenizer has {tokenizer} entries and the model {model}: they do not belong together")]
    Vocabulary {
        /// Entries of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// The library that trains tokenizers failed.
    #[error("the tokenizer cannot be trained: {0}")]
    Tokenizer(String),
    /// A tokenizer cannot be read, or cannot read a text.
    #[error(transparent)]
    Text(#[from] bitnet_text::TextError),
    /// The system refuses threads.
    #[error("threads cannot be started: {0}")]
    Threads(String),
    /// A job that cannot be.
    #[error("{0}")]
    Job(String),
    /// A model cannot be written in another form.
    #[error(transparent)]
    Convert(#[from] bitnet_convert::ConvertError),
    /// The engine does not run what was written.
    #[error(transparent)]
    Engine(#[from] bitnet_inference::EngineError),
    /// What was written does not compute what was trained.
    #[error("{}: the engine's logits differ from training's by {rms:.2e} (root mean square), with a deviation of {deviation:.2}", path.display())]
    Disagreement {
        /// What was written.
        path: PathBuf,
        /// The difference.
        rms: f64,
        /// The logits' own spread.
        deviation: f64,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// A checkpoint is damaged.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A checkpoint is of another run.
    #[error("the run in {} was begun with {key} = {saved}, now it is {now}; use another directory for another run", path.display())]
    OtherRun {
        /// The run's directory.
        path: PathBuf,
        /// What differs.
        key: String,
        /// What it was.
        saved: String,
        /// What it is.
        now: String,
    },
    /// The loss or its gradient is no number any more.
    #[error("step {step}: the loss is {loss} and the length of the gradients {length}; training stopped")]
    NotANumber {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
        /// The length of the gradients.
        length: f64,
    },
    /// The loss rises and rises.
    #[error("step {step}: the loss has risen to {loss:.3} from {lowest:.3} and training stopped")]
    Diverged {
        /// The step.
        step: u64,
        /// The mean loss of the last steps.
        loss: f64,
        /// The lowest that it was.
        lowest: f64,
    },
    /// A run cannot go on.
    #[error("{error}; {}", last_good(checkpoint.as_deref()))]
    Halted {
        /// Why.
        error: Box<TrainError>,
        /// The last checkpoint.
        checkpoint: Option<PathBuf>,
    },
}

fn last_good(checkpoint: Option<&std::path::Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last checkpoint, {}, is good", path.display()),
        None => "there was no checkpoint yet".into(),
    }
}

impl TrainError {
    pub(crate) fn tokenizer(error: impl std::fmt::Display) -> Self {
        Self::Tokenizer(error.to_string())
    }
}

impl From<tokenizers::Error> for TrainError {
    fn from(error: tokenizers::Error) -> Self {
        Self::tokenizer(error)
    }
}

/// The error for a job that cannot be run.
pub(crate) fn wrong<T>(what: impl Into<String>) -> Result<T, TrainError> {
    Err(TrainError::Job(what.into()))
}
