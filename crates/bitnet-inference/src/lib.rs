//! The engine: load a ternary model, open sessions, generate text as an iterator.
//!
//! - [`InferenceEngine`] holds a model, its tokenizer and chat template; cloning shares it.
//! - [`Session`] is one sequence; [`Session::generate`] gives a [`Generation`], an iterator of pieces of text: a loop over one
//!   [`Turn`], which holds all that a generation needs but its sequence.
//! - [`Runs`] is the model on its device, for those who make steps of several sequences themselves.
//! - [`Sampler`] chooses tokens; it knows no model.
//!
//! # Invariants
//! - The same model, tokens, options and seed give the same tokens: for any number of threads, any cut of the prompt, any
//!   kernel and machine.
//! - A generated token allocates nothing on the heap. Keys and values take a page of 256 positions when a sequence enters it.
//!
//! Not here: files' layouts (`bitnet-format`), what a model computes (`bitnet-decoder`), what a model is worth (`bitnet-evaluation`),
//! printing.

#![forbid(unsafe_code)]

mod cache;
mod engine;
mod error;
mod gates;
mod generation;
mod prompt;
mod runs;
mod sampler;
mod session;
mod stop;
mod tuner;
mod tuning;
mod turn;
pub mod vocabulary;

pub use bitnet_cpu::{HeadChoice, KvType};
pub use bitnet_device::ScreenCounts;
pub use bitnet_model::{ActivationChoice, Layout, Sparsity, WORTH_SKIPPING};
pub use cache::{ModelCache, ModelCacheUse};
pub use engine::{DEFAULT_CONTEXT, EngineInfo, InferenceEngine, LoadOptions, LoadProgress, OnProgress};
pub use error::EngineError;
pub use generation::{Generation, Piece};
pub use prompt::{PREFILL, cut, kept};
pub use runs::Runs;
pub use sampler::{
    LARGEST_SHIFT, Sampler, SamplingDefaults, SamplingMemory, SamplingOptions, TokenLogprobs, argmax,
};
pub use session::Session;
pub use tuner::{Trial, TuneOptions, Tuned, tune};
pub use tuning::Tuning;
pub use turn::{Choices, FinishReason, GenerateOptions, GenerationStats, Step, Turn};
