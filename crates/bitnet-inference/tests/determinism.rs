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

/// An adapter of rank 3 for some projections of a model, without a pattern.
fn adapter(directory: &std::path::Path, engine: &InferenceEngine) {
    use bitnet_format::{SafetensorsWriter, TensorSpec, TensorType};
    use bitnet_model::Projection;
    use bitnet_source::family::huggingface::module;
    let config = engine.config();
    let mut tensors = Vec::new();
    for (layer, projection) in (0..config.layers).flat_map(|l| Projection::PLAIN.map(|p| (l, p))) {
        if projection == Projection::Key || layer == 1 && projection == Projection::Gate {
            continue;
        }
        let [outputs, inputs] = projection.shape(config);
        for (tail, shape) in [("lora_A", [3, inputs]), ("lora_B", [outputs, 3])] {
            tensors.push((format!("base_model.model.{}.{tail}.weight", module(layer, projection)), shape));
        }
    }
    let specs: Vec<TensorSpec> =
        tensors.iter().map(|(name, shape)| TensorSpec::new(name.clone(), TensorType::F32, *shape)).collect();
    let path = directory.join("adapter_model.safetensors");
    let mut writer = SafetensorsWriter::create(&path, &Default::default(), &specs).unwrap();
    let mut state = 1u32;
    for (name, [rows, cols]) in &tensors {
        let values = (0..rows * cols).flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (((state >> 8) as f32 / 8_388_608.0 - 1.0) * 0.3).to_le_bytes()
        });
        writer.write(name, &values.collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
    let json =
        r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 5, "bias": "none", "target_modules": ["q_proj"]}"#;
    std::fs::write(directory.join("adapter_config.json"), json).unwrap();
}

#[test]
fn side_paths_are_the_same_bits_everywhere() {
    let prompt = long_prompt();
    let directory = tempfile::tempdir().unwrap();
    for model in ["bitnet-a-offline-packed", "llama-b-bitlinear-packed"] {
        adapter(directory.path(), &load(model, "scalar", 1, ActivationChoice::Auto));
        let load = |kernel: &str, threads, sparsity, layout| {
            let options = LoadOptions {
                threads: Some(threads),
                kernel: Some(kernel.into()),
                context: Some(600),
                adapter: Some(directory.path().into()),
                sparsity,
                layout,
                ..Default::default()
            };
            InferenceEngine::load(oracle(model), &options).unwrap()
        };
        let reference = bits(&load("scalar", 1, Sparsity::Off, Layout::TwoBit), &prompt, 128);
        let without =
            bits(&load_with(model, "scalar", 1, ActivationChoice::Auto, KvType::default()), &prompt, 128);
        assert!(reference != without, "{model}: the adapter does something");
        for kernel in bitnet_kernels::available() {
            for (threads, prefill, sparsity, layout) in [
                (1, 1, Sparsity::Off, Layout::Auto),
                (2, 128, Sparsity::Off, Layout::Base3),
                (3, 37, Sparsity::Off, Layout::TwoBit),
            ] {
                let got = bits(&load(kernel.name(), threads, sparsity, layout), &prompt, prefill);
                assert!(
                    got == reference,
                    "{model} on {}, {threads} threads, batches of {prefill}",
                    kernel.name()
                );
            }
        }
        // Left-out zeros change the sign of zeros only.
        let got = bits(&load("scalar", 2, Sparsity::On, Layout::Auto), &prompt, 64);
        let same = |(a, b): (&u32, &u32)| f32::from_bits(*a) == f32::from_bits(*b);
        assert!(got.iter().zip(&reference).all(same), "{model} with zeros left out");
    }
}

#[test]
fn what_is_no_adapter_of_the_model_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = load("bitnet-a-offline-packed", "scalar", 1, ActivationChoice::Auto);
    let refused = |parts: &[&str]| {
        let options = LoadOptions { adapter: Some(directory.path().into()), ..Default::default() };
        let error =
            InferenceEngine::load(oracle("bitnet-a-offline-packed"), &options).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(&["adapter_config.json"]);
    adapter(directory.path(), &engine);
    let path = directory.path().join("adapter_config.json");
    let json = std::fs::read_to_string(&path).unwrap();
    for (from, to, parts) in [
        ("LORA", "IA3", ["peft_type", "IA3"]),
        ("\"r\": 3", "\"r\": 0", ["r in adapter_config.json", "0"]),
        ("\"r\": 3", "\"r\": 4", ["lora_A", "[3, "]),
        ("\"none\"", "\"all\"", ["bias", "all"]),
        ("\"r\"", "\"use_dora\": true, \"r\"", ["use_dora", "true"]),
        ("\"r\"", "\"rank_pattern\": {\"x\": 1}, \"r\"", ["rank_pattern", "1"]),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json);
        std::fs::write(&path, changed).unwrap();
        refused(&parts);
    }
    // Of a model with fewer blocks or other names.
    std::fs::write(&path, &json).unwrap();
    adapter(directory.path(), &load("llama-b-bitlinear-packed", "scalar", 1, ActivationChoice::Auto));
    refused(&["expected"]);
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

/// Blocks that leave out zeros stand beside blocks that do not.
#[test]
fn measured_gates_do_not_change_a_bit() {
    let (model, prompt) = ("gguf/bitnet-a-I2_S-embdQ6_K.gguf", long_prompt());
    let plain = load(model, "scalar", 1, ActivationChoice::Auto);
    let reference = bits(&plain, &prompt, 128);
    let shares = plain.open_gates().unwrap().expect("squared ReLU");
    assert_eq!(shares.len(), plain.config().layers);
    assert!(shares.iter().all(|share| (0.05..0.95).contains(share)), "{shares:?}");
    for kernel in bitnet_kernels::available() {
        let load = |shares: Vec<f32>| {
            let options = LoadOptions {
                threads: Some(2),
                kernel: Some(kernel.name().into()),
                context: Some(600),
                open_gates: Some(shares.into()),
                ..Default::default()
            };
            InferenceEngine::load(oracle(model), &options).unwrap()
        };
        let alternating = load((0..shares.len()).map(|layer| (layer % 2) as f32).collect());
        assert_eq!(alternating.info().skipping_blocks, shares.len().div_ceil(2));
        assert!(bits(&alternating, &prompt, 37) == reference, "{}", kernel.name());
        assert_eq!(load(vec![1.0; shares.len()]).info().skipping_blocks, 0);
        // A block is worth it below 35 %.
        assert_eq!(load(vec![0.34; shares.len()]).info().skipping_blocks, shares.len());
        assert_eq!(load(vec![0.36; shares.len()]).info().skipping_blocks, 0);
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
