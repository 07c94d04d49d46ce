//! The engine: load a ternary model, open sessions, generate text as an iterator.
//!
//! - [`InferenceEngine`] holds a model, its tokenizer and chat template; cloning shares it.
//! - [`Session`] is one sequence with its cache; [`Session::generate`] gives a [`Generation`], an iterator of pieces of text.
//! - [`Sampler`] chooses tokens; it knows no model. [`perplexity()`] judges a model on a text, [`compare()`] beside another,
//!   [`multiple_choice()`] by its answers; [`inspect()`] tells what a file holds.
//!
//! # Invariants
//! - The same model, tokens, options and seed give the same tokens: for any number of threads, any cut of the prompt, any
//!   kernel and machine.
//! - All memory is taken when a session is opened; a generated token allocates nothing on the heap.
//!
//! Not here: files' layouts (`bitnet-format`), what a model computes (`bitnet-model`), printing.

#![forbid(unsafe_code)]

mod cache;
mod engine;
mod error;
mod evaluation;
mod gates;
mod generation;
mod inspect;
mod perplexity;
mod quality;
mod sampler;
mod session;
mod stop;
mod tuner;
pub mod vocabulary;

pub use bitnet_model::{
    ActivationChoice, HeadChoice, KvType, Layout, ScreenCounts, Sparsity, WORTH_SKIPPING,
};
pub use cache::{ModelCache, ModelCacheUse};
pub use engine::{DEFAULT_CONTEXT, EngineInfo, InferenceEngine, LoadOptions, LoadProgress, OnProgress};
pub use error::EngineError;
pub use evaluation::{
    Answer, Comparison, Distance, MismatchError, Question, Share, TaskError, TaskErrorKind, TaskResult,
    compare, multiple_choice, read_questions, same_vocabulary,
};
pub use generation::{FinishReason, GenerateOptions, Generation, GenerationStats, Piece, Step};
pub use inspect::{Inspection, MatrixReport, TritReport, inspect};
pub use perplexity::{Perplexity, PerplexityOptions, perplexity};
pub use quality::{
    ActivationQuality, Change, Channel, Fit, Input, MatrixQuality, OUTLIER, judge_activations, judge_matrices,
};
pub use sampler::{LARGEST_SHIFT, Sampler, SamplingOptions, TokenLogprobs, argmax};
pub use session::{PREFILL, Session};
pub use tuner::{Trial, TuneOptions, Tuned, Tuning, tune};
