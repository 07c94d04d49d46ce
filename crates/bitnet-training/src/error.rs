//! What can go wrong before, in and after a step.

use std::path::PathBuf;

use thiserror::Error;

/// A failure of training. Each names the thing and what was expected of it.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A configuration that cannot be trained.
    #[error("{what} is {got}, and training needs {expected}")]
    Unsupported {
        /// The value, by its name.
        what: &'static str,
        /// Values that would be right, in words.
        expected: &'static str,
        /// The value as it is.
        got: String,
    },
    /// A parameter has not the size that the configuration gives it.
    #[error("'{name}' has {got} values, and the configuration gives it {expected}")]
    Size {
        /// The name of the parameter.
        name: String,
        /// Values that the configuration asks for.
        expected: usize,
        /// The number of values that are there.
        got: usize,
    },
    /// A parameter is NaN or infinite.
    #[error("'{name}' has a value that is not finite")]
    NotFinite {
        /// The name of the parameter.
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
        /// The path of the file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A file's bytes are not UTF-8.
    #[error("{} is not UTF-8: byte {byte} begins no character", path.display())]
    NotUtf8 {
        /// The path of the file.
        path: PathBuf,
        /// The place of the first byte that is wrong.
        byte: usize,
    },
    /// A text file has nothing in it.
    #[error("{} holds no text", path.display())]
    EmptyText {
        /// The path of the file.
        path: PathBuf,
    },
    /// A text has no line that is the separator.
    #[error(
        "no line of {} is data.separator, {separator:?}: it is a line of its own between documents; leave it empty where a file is one document",
        path.display()
    )]
    NoSeparator {
        /// The path of the file.
        path: PathBuf,
        /// The line that should part documents.
        separator: String,
    },
    /// A line is far too long to be written by people.
    #[error(
        "line {line} of {} has {bytes} bytes; a line of text has at most {}: put line breaks where paragraphs end",
        path.display(),
        crate::corpus::MAX_LINE
    )]
    LongLine {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The length of the line in bytes.
        bytes: usize,
    },
    /// A line of a file of examples is none.
    #[error("line {line} of {}: {what}", path.display())]
    Line {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        what: String,
    },
    /// An example is longer than a row of a batch.
    #[error(
        "line {line} of {}: prompt and answer have {tokens} tokens, and training.positions is {positions}: raise it, or leave the \
         line out",
        path.display()
    )]
    LongExample {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// Tokens of the example that would be read.
        tokens: usize,
        /// Tokens that a row has room for.
        positions: usize,
    },
    /// None of the examples of a file is left to learn from.
    #[error("{} has {examples} examples, of which {kept} are kept for validation: nothing is left to learn", path.display())]
    FewExamples {
        /// The path of the file.
        path: PathBuf,
        /// How many examples the file has.
        examples: usize,
        /// How many of them are kept for validation.
        kept: usize,
    },
    /// A teacher cannot teach this model.
    #[error("the teacher {what}")]
    Teacher {
        /// Why it cannot, in words that follow "the teacher".
        what: String,
    },
    /// A job says one thing, and the model that it begins with another.
    #[error("{key} is {job}, and {} has {model}: {cure}", path.display())]
    Contradiction {
        /// The key of the job that contradicts the model.
        key: String,
        /// The value in the job.
        job: String,
        /// The path of the model.
        path: PathBuf,
        /// The value that the model has.
        model: String,
        /// What to change in the job.
        cure: &'static str,
    },
    /// A model that cannot be the beginning of training.
    #[error("{}: {what}", path.display())]
    Start {
        /// The path of the model.
        path: PathBuf,
        /// Why the model cannot be trained.
        what: String,
    },
    /// There are fewer tokens than one window.
    #[error(
        "the {part} part of the text has {tokens} tokens, and one window takes {need}: give more text or shorter windows"
    )]
    ShortText {
        /// `training` or `validation`, the part that is too short.
        part: &'static str,
        /// Tokens that the part has.
        tokens: usize,
        /// Tokens that a single window takes.
        need: usize,
    },
    /// A tokenizer that the texts' ids come from is not the model's.
    #[error("the tokenizer has {tokenizer} entries and the model {model}: they do not belong together")]
    Vocabulary {
        /// Entries of the tokenizer's vocabulary.
        tokenizer: usize,
        /// Rows of the model's embedding.
        model: usize,
    },
    /// The library that trains tokenizers failed.
    #[error("the tokenizer cannot be trained: {0}")]
    Tokenizer(String),
    /// A tokenizer cannot be read, or cannot read a text.
    #[error(transparent)]
    Text(#[from] bitnet_text::TextError),
    /// The system would not start the threads.
    #[error("threads cannot be started: {0}")]
    Threads(String),
    /// A job with a value that cannot be, or values that contradict each other.
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
        /// The path of what was written.
        path: PathBuf,
        /// The root mean square of the difference of logits.
        rms: f64,
        /// The standard deviation of the logits themselves.
        deviation: f64,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// A checkpoint cannot be read, or its checksum differs.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The path of the checkpoint.
        path: PathBuf,
        /// What is wrong with the checkpoint.
        what: String,
    },
    /// A checkpoint is of another run.
    #[error("the run in {} was begun with {key} = {saved}, now it is {now}; use another directory for another run", path.display())]
    OtherRun {
        /// The directory of the run.
        path: PathBuf,
        /// The key of the job that differs.
        key: String,
        /// The value when the run began.
        saved: String,
        /// The value that the job has now.
        now: String,
    },
    /// The loss or its gradient is no number any more.
    #[error("step {step}: the loss is {loss} and the length of the gradients {length}; training stopped")]
    NotANumber {
        /// The step at which it happened.
        step: u64,
        /// The loss of that step, in nats.
        loss: f64,
        /// The length of the gradients of that step.
        length: f64,
    },
    /// The mean loss has risen too far above its lowest.
    #[error("step {step}: the loss has risen to {loss:.3} from {lowest:.3} and training stopped")]
    Diverged {
        /// The step at which the run was stopped.
        step: u64,
        /// The mean loss of the last steps.
        loss: f64,
        /// The lowest loss that the run had.
        lowest: f64,
    },
    /// A run stopped before its end.
    #[error("{error}; {}", last_good(checkpoint.as_deref()))]
    Halted {
        /// What stopped the run.
        error: Box<TrainError>,
        /// The last good checkpoint, if there is one.
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
