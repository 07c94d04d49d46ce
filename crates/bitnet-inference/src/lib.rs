//! The engine: load a ternary model, open sessions, generate text as an iterator.
//!
//! - [`InferenceEngine`] holds a model, its tokenizer and chat template; cloning shares it.
//! - [`Session`] is one sequence with its cache; [`Session::generate`] gives a [`Generation`], an iterator of pieces of text.
//! - [`Sampler`] chooses tokens; it knows no model.
//!
//! # Invariants
//! - The same model, tokens, options and seed give the same tokens: for any number of threads, any cut of the prompt, any
//!   kernel and machine.
//! - All memory is taken when a session is opened; a generated token allocates nothing on the heap.
//!
//! Not here: files' layouts (`bitnet-format`), what a model computes (`bitnet-model`), what a model is worth (`bitnet-evaluation`),
//! printing.

#![forbid(unsafe_code)]

mod cache;
mod engine;
mod error;
mod gates;
mod generation;
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
pub use generation::{FinishReason, GenerateOptions, Generation, GenerationStats, Piece, Step};
pub use sampler::{LARGEST_SHIFT, Sampler, SamplingOptions, TokenLogprobs, argmax};
pub use session::{PREFILL, Session};
pub use tuner::{Trial, TuneOptions, Tuned, Tuning, tune};
