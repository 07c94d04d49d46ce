//! A generated token allocates nothing on the heap, on any thread.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use bitnet_inference::{ActivationChoice, GenerateOptions, InferenceEngine, LoadOptions, SamplingOptions};

use bitnet_device::{Output, Span};

mod support;
use support::oracle;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Tokens of a generation that allocated, the first excepted.
fn allocating_tokens(model: &str, activations: ActivationChoice, sampling: SamplingOptions) -> usize {
    let load = LoadOptions { threads: Some(2), activations, context: Some(512), ..Default::default() };
    let engine = InferenceEngine::load(oracle(model), &load).unwrap();
    let mut session = engine.session().unwrap();
    let stop = vec!["never said".to_string()];
    let options =
        GenerateOptions { max_new_tokens: 300, sampling, ignore_eos: true, stop, ..Default::default() };
    let ids = [2043, 10, 20, 30];
    let mut generation = session.generate_ids(&ids, &options).unwrap();
    let (mut tokens, mut allocating) = (0, 0);
    loop {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let Some(step) = generation.step().unwrap() else { break };
        if step.id.is_none() {
            // Held-back text, told once at the end, is no token.
            continue;
        }
        tokens += 1;
        if tokens > 1 && ALLOCATIONS.load(Ordering::Relaxed) != before {
            allocating += 1;
            println!("token {tokens} of {model} allocates");
        }
    }
    // More than one chunk of attention, so that growth would show.
    assert!(tokens >= 300, "{tokens}");
    allocating
}

/// Steps of eight sequences that allocated, the first excepted; they enter new pages on the way.
fn allocating_steps(model: &str) -> usize {
    let load = LoadOptions { threads: Some(2), context: Some(512), ..Default::default() };
    let engine = InferenceEngine::load(oracle(model), &load).unwrap();
    let spans: Vec<Span> =
        (0..8).map(|_| Span { sequence: engine.runs().open(), tokens: 1, output: Output::Last }).collect();
    let mut allocating = 0;
    for step in 0..300u32 {
        let ids = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| (step * 7 + i * 31) % 300 + 1);
        let mut largest = [f32::MIN; 8];
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let mut take =
            |output: usize, row: &[f32]| largest[output] = row.iter().copied().fold(f32::MIN, f32::max);
        engine.runs().step(&ids, &spans, &mut take, None).unwrap();
        if step > 0 && ALLOCATIONS.load(Ordering::Relaxed) != before {
            allocating += 1;
            println!("step {step} of {model} allocates");
        }
        assert!(largest.iter().all(|x| x.is_finite() && *x > f32::MIN));
    }
    allocating
}

/// One test, so that no other allocates beside it.
#[test]
fn tokens_do_not_allocate() {
    let warm = || SamplingOptions {
        temperature: 0.9,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.01,
        repetition_penalty: 1.1,
        frequency_penalty: 0.1,
        logit_bias: vec![(5, 1.0)],
        ..Default::default()
    };
    let models = [
        ("bitnet-a-offline-packed", ActivationChoice::Auto),
        ("bitnet-c-silu-online-bf16", ActivationChoice::Auto),
        ("llama-b-bitlinear-packed", ActivationChoice::Auto),
        ("qwen3-b-ternary-g128", ActivationChoice::Auto),
        ("qwen3-a-ternary-g64", ActivationChoice::Float),
        ("gguf/bitnet-a-I2_S-embdQ6_K.gguf", ActivationChoice::Auto),
    ];
    for (model, activations) in models {
        for sampling in [SamplingOptions::default(), warm()] {
            assert_eq!(allocating_tokens(model, activations, sampling), 0, "{model}");
        }
        assert_eq!(allocating_steps(model), 0, "{model}");
    }
}
