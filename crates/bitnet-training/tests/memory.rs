//! The memory that a run says its steps take, beside what the allocator was asked for.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bitnet_model::Config;
use bitnet_training::{
    AdamWOptions, Corpus, FakeQuantization, Parameters, Schedule, Stages, Trainer, TrainerOptions,
    Transformer, on_threads,
};
use burn_tensor::Device;
use common::{kernel, small};

/// Bytes that are held, and the most that were since the last look.
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system allocator, which keeps the contract; counting touches no memory that it
// hands out. What has no method here goes through these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above with the same layout, so from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HIDDEN: usize = 128;
const FFN: usize = 384;
const LAYERS: usize = 4;
const VOCAB: usize = 600;

fn config(sub_norms: bool) -> Config {
    Config {
        hidden: HIDDEN,
        ffn: FFN,
        layers: LAYERS,
        head_dim: 32,
        vocab: VOCAB,
        context: 128,
        sub_norms,
        ..small()
    }
}

fn options(batch: usize, accumulate: usize) -> TrainerOptions {
    let stages = Stages::Constant;
    TrainerOptions {
        schedule: Schedule { steps: 100, warmup: 10, peak: 1e-3, weight_decay: 0.1, stages },
        optimizer: AdamWOptions::default(),
        batch,
        accumulate,
        positions: 128,
        seed: 1,
        lambda_steps: 0,
        divergence: 0.0,
        sum: false,
    }
}

/// What a run with these options says, and the most that is held while it is made and goes three steps, without its text.
fn said_and_held(model: &Transformer, options: TrainerOptions) -> (usize, usize) {
    let ids = |count: u32| (0..count).map(|i| i.wrapping_mul(2_654_435_761) % VOCAB as u32).collect();
    let corpus = Arc::new(Corpus { train: ids(20_000), validation: ids(1000) });
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let parameters = Parameters::random(model.config(), 1, 0.02, &Device::flex());
    let mut trainer = Trainer::new(model.clone(), parameters, corpus, options, Vec::new()).unwrap();
    for _ in 0..3 {
        trainer.step().unwrap();
    }
    (trainer.memory().total(), MOST.load(Relaxed) - before)
}

/// One test, since everything that the process holds is counted.
#[test]
fn a_run_says_what_it_takes() {
    // Embedding, norms of the blocks and of the end, projections.
    let block = 2 * HIDDEN + HIDDEN + FFN + HIDDEN * (128 + 64 + 64 + 128) + 3 * HIDDEN * FFN;
    let masters = 4 * (VOCAB * HIDDEN + LAYERS * block + HIDDEN);
    let corpus = Arc::new(Corpus { train: vec![1; 1000], validation: vec![1; 1000] });
    for (accumulate, gradients) in [(1, masters), (2, 2 * masters), (5, 2 * masters)] {
        let model = Transformer::new(config(true), FakeQuantization::W158A8, kernel()).unwrap();
        let parameters = Parameters::random(model.config(), 1, 0.02, &Device::flex());
        let trainer =
            Trainer::new(model, parameters, corpus.clone(), options(4, accumulate), Vec::new()).unwrap();
        let memory = trainer.memory();
        assert_eq!((memory.masters, memory.gradients, memory.optimizer), (masters, gradients, 2 * masters));
        let activations = memory.activations;
        assert_eq!(memory.total(), masters + gradients + 2 * masters + activations);
    }
    let work = || {
        for (sub_norms, batch, accumulate, recomputes) in
            [(true, 4, 1, false), (true, 16, 1, false), (false, 8, 2, false), (true, 16, 1, true)]
        {
            let model = Transformer::new(config(sub_norms), FakeQuantization::W158A8, kernel()).unwrap();
            let (said, held) = said_and_held(&model.recomputing(recomputes), options(batch, accumulate));
            let ratio = held as f64 / said as f64;
            eprintln!("batch {batch}, recomputed {recomputes}: {held} bytes held, {said} said, {ratio:.3}");
            assert!((0.85..=1.15).contains(&ratio), "{ratio}");
        }
    };
    on_threads(1, work).unwrap();
}
