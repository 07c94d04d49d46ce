//! Quantization-aware training (QAT) of ternary language models, with one quantizer from the first step to the last token.
//!
//! - [`ops`]: the operations that a step spends its time in, each with its own backward: quantized projections, norms,
//!   gates, attention, embedding, loss.
//! - [`Transformer`]: the decoder of `bitnet-decoder`, trainable.
//! - [`AdamW`] and [`Schedule`]: every constant is said.
//! - [`Corpus`], [`Trainer`], [`run()`] and [`checkpoint`]: text, steps, and a run that can be killed at any instant.
//! - [`twins`]: what rounding costs, seed by seed.
//! - [`TrainingJob`] and [`start()`]: all of it from one TOML file. [`export`]: masters become files that are served, with proof.
//!
//! # What is trained
//! W1.58A8 as the models of the field are (BitNet b1.58, arXiv:2402.17764): weights are f32 masters; a forward pass rounds them
//! to trits and activations to int8 with the definitions of `bitnet-quant`; the backward pass takes the rounding for the identity
//! (straight-through), with no gradient through scales, means and maxima. So in a projection `dx = g Wq` and `dW = g^T xq`, with
//! the rounded weights and activations.
//!
//! # Invariants
//! - The rounding and the norms are those of the engine, to the bit. Products of integers are exact in f32 (below
//!   2^24), so a projection's forward has the bits of the engine's, too.
//! - A sum is cut at places that depend on sizes only. One seed gives one result for a number of threads.
//! - No `unsafe`, nothing is printed.

#![forbid(unsafe_code)]

mod adapter;
pub mod checkpoint;
pub mod corpus;
mod distill;
mod error;
pub mod examples;
pub mod export;
mod found;
pub mod job;
mod lessons;
mod memory;
mod metrics;
mod model;
pub mod ops;
mod optimizer;
mod options;
mod parameters;
mod random;
mod run;
mod schedule;
mod start;
mod tensorboard;
mod tokenizer;
mod trainer;
pub mod twins;
mod windows;

pub use adapter::{Fold, finish};
pub use corpus::{Corpus, Split};
pub use distill::Teacher;
pub use error::TrainError;
pub use examples::Examples;
pub use found::Found;
pub use job::{FINETUNE_TEMPLATE, TEMPLATE, TrainingJob};
pub use lessons::Lessons;
pub use memory::TrainingMemory;
pub use metrics::{History, Trits};
pub use model::{Minibatch, Transformer};
pub use ops::FakeQuantization;
pub use optimizer::{AdamW, AdamWOptions};
pub use options::{DistillOptions, RelationOptions};
pub use parameters::{Kind, Parameter, Parameters, SidePathOptions};
pub use run::{Ending, Event, RunOptions, run};
pub use schedule::{Rates, Schedule, Stages};
pub use start::{on_threads, start};
pub use tokenizer::{MIN_VOCAB, train_tokenizer};
pub use trainer::{StepReport, Trainer, TrainerOptions};
pub use windows::Position;
