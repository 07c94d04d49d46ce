//! The same request gives the same bits: for any number of threads, any cut of the prompt, any kernel, any batch.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_inference::{
    ActivationChoice, GenerateOptions, InferenceEngine, KvType, Layout, LoadOptions, SamplingOptions,
    Sparsity,
};

mod support;
use support::{cases, oracle};

fn load(model: &str, kernel: &str, threads: usize, activations: ActivationChoice) -> InferenceEngine {
    load_with(model, kernel, threads, activations, KvType::default())
}

fn load_with(
    model: &str,
    kernel: &str,
    threads: usize,
    activations: ActivationChoice,
    kv: KvType,
) -> InferenceEngine {
    let options = LoadOptions {
        kv,
        threads: Some(threads),
        kernel: Some(kernel.into()),
        activations,
        context: Some(600),
        ..Default::default()
    };
    InferenceEngine::load(oracle(model), &options).unwrap()
}

/// A prompt longer than a chunk of attention and a batch of prefill.
fn long_prompt() -> Vec<u32> {
    let case = &cases("bitnet-a-offline-packed")[4].prompt;
    case.iter().chain(&case[1..]).chain(&case[1..]).chain(&case[1..]).copied().take(300).collect()
}

/// Bits of the logits behind a prompt fed in batches of `prefill`, then of each of a few greedy tokens.
fn bits(engine: &InferenceEngine, prompt: &[u32], prefill: usize) -> Vec<u32> {
    let mut session = engine.session().unwrap();
    session.set_prefill(prefill);
    let mut bits: Vec<u32> = session.feed(prompt).unwrap().iter().map(|x| x.to_bits()).collect();
    for _ in 0..4 {
        let last = &bits[bits.len() - engine.config().vocab..];
        let next = bitnet_inference::argmax(&last.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>());
        bits.extend(session.feed(&[next]).unwrap().iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn threads_kernels_and_cuts_do_not_change_a_bit() {
    let prompt = long_prompt();
    let models = [
        ("bitnet-a-offline-packed", ActivationChoice::Auto),
        ("llama-b-bitlinear-packed", ActivationChoice::Auto),
        ("qwen3-b-ternary-g128", ActivationChoice::Int8),
        ("qwen3-a-ternary-g64", ActivationChoice::Float),
        ("gguf/bitnet-a-I2_S-embdQ6_K.gguf", ActivationChoice::Auto),
    ];
    for (model, activations) in models {
        let reference = bits(&load(model, "scalar", 1, activations), &prompt, 128);
        for kernel in bitnet_kernels::available() {
            for (threads, prefill) in [(1, 1), (2, 128), (3, 37), (2, 13)] {
                let got = bits(&load(model, kernel.name(), threads, activations), &prompt, prefill);
                assert!(
                    got == reference,
                    "{model} on {} with {threads} threads, batches of {prefill}",
                    kernel.name()
                );
            }
        }
    }
}

/// Each type of keys and values is a computation of its own, which nothing else changes.
#[test]
fn threads_kernels_and_cuts_do_not_change_a_bit_of_any_type_of_keys_and_values() {
    let prompt = long_prompt();
    let mut seen = Vec::new();
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        // Heads of 32 dimensions that share keys by two, and heads of 64 by four.
        for model in ["bitnet-a-offline-packed", "qwen3-b-ternary-g128"] {
            let load = |kernel: &str, threads| load_with(model, kernel, threads, ActivationChoice::Auto, kv);
            let reference = bits(&load("scalar", 1), &prompt, 1);
            for kernel in bitnet_kernels::available() {
                for (threads, prefill) in [(1, 128), (2, 128), (3, 3), (2, 37)] {
                    let got = bits(&load(kernel.name(), threads), &prompt, prefill);
                    let name = kernel.name();
                    assert!(
                        got == reference,
                        "{model} {kv:?} on {name}, {threads} threads, batches of {prefill}"
                    );
                }
            }
            assert!(!seen.contains(&reference), "{kv:?} rounds");
            seen.push(reference);
        }
    }
}

#[test]
fn layouts_do_not_change_a_bit() {
    let prompt = long_prompt();
    let skipping = (Sparsity::On, Layout::Auto);
    let base3 = (Sparsity::Off, Layout::Base3);
    for (model, (sparsity, layout)) in [
        ("bitnet-a-offline-packed", skipping),
        ("gguf/bitnet-a-I2_S-embdQ6_K.gguf", skipping),
        ("bitnet-a-offline-packed", base3),
        ("llama-b-bitlinear-packed", base3),
        ("bitnet-a-offline-packed", (Sparsity::On, Layout::Base3)),
    ] {
        let reference = bits(&load(model, "scalar", 1, ActivationChoice::Auto), &prompt, 128);
        for kernel in bitnet_kernels::available() {
            for (threads, prefill) in [(1, 1), (2, 128), (3, 37), (2, 3)] {
                let options = LoadOptions {
                    threads: Some(threads),
                    kernel: Some(kernel.name().into()),
                    context: Some(600),
                    sparsity,
                    layout,
                    ..Default::default()
                };
                let engine = InferenceEngine::load(oracle(model), &options).unwrap();
                let got = bits(&engine, &prompt, prefill);
                assert!(
                    got == reference,
                    "{model} in {layout:?}, {sparsity:?} on {} with {threads} threads",
                    kernel.name()
                );
            }
        }
    }
}

#[test]
fn logits_of_all_positions_are_those_of_each() {
    let engine = load("bitnet-a-offline-packed", "scalar", 2, ActivationChoice::Auto);
    let prompt = &long_prompt()[..40];
    let mut session = engine.session().unwrap();
    let mut all = Vec::new();
    session.logits(prompt, |row| all.push(row.to_vec())).unwrap();
    for n in [1, 2, 17, 40] {
        session.reset();
        assert_eq!(session.feed(&prompt[..n]).unwrap(), all[n - 1], "position {n}");
    }
}

#[test]
fn a_kept_prefix_gives_what_a_fresh_session_gives() {
    let engine = load("bitnet-a-offline-packed", "scalar", 2, ActivationChoice::Auto);
    let prompt = long_prompt();
    let mut session = engine.session().unwrap();
    session.feed(&prompt[..200]).unwrap();
    let mut other = prompt[..280].to_vec();
    other[150] ^= 1;
    assert_eq!(session.keep_prefix(&other), 150);
    let continued = session.feed(&other[150..]).unwrap().to_vec();
    assert_eq!(engine.session().unwrap().feed(&other).unwrap(), continued);
    assert_eq!(session.keep_prefix(&other), 279, "the last token is always fed");
}

#[test]
fn a_seed_gives_the_same_text_on_every_kernel() {
    let sampling = SamplingOptions { temperature: 1.2, top_p: 0.95, seed: 42, ..Default::default() };
    let options = GenerateOptions { max_new_tokens: 40, sampling, ignore_eos: true, ..Default::default() };
    let text = |kernel: &str, threads| -> String {
        let engine = load("bitnet-a-offline-packed", kernel, threads, ActivationChoice::Auto);
        let mut session = engine.session().unwrap();
        session.generate("First Citizen:", &options).unwrap().map(|piece| piece.unwrap().text).collect()
    };
    let reference = text("scalar", 1);
    assert!(reference.len() > 40, "{reference:?}");
    for kernel in bitnet_kernels::available() {
        assert_eq!(text(kernel.name(), 3), reference, "{}", kernel.name());
    }
}
