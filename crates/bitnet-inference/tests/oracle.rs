//! Whole models against `transformers`: logits, greedy tokens, and the first stage that differs.
//!
//! Tolerances are those of the people who made the expected values: an engine that computes W1.58A8 in f32 agrees to
//! 1e-3 on most prompts; where an activation lands on the other side of a rounding boundary the difference jumps, so every
//! prompt gets 0.15 at most and 0.02 root mean square. A loose bound alone would accept an engine that forgets to
//! quantize activations, hence both.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_device::Looking;
use bitnet_format::Checkpoint;
use bitnet_inference::{ActivationChoice, GenerateOptions, InferenceEngine, KvType, LoadOptions, Session};

use std::{fs, path::Path};

mod support;
use support::{cases, expected_logits, npz, oracle};

const TIGHT: f32 = 1e-3;

fn load(path: &Path, activations: ActivationChoice) -> InferenceEngine {
    // Rounded keys and values differ from other software's by more than the bounds below.
    let options = LoadOptions {
        threads: Some(2),
        activations,
        context: Some(384),
        kv: KvType::F32,
        ..Default::default()
    };
    InferenceEngine::load(path, &options).unwrap()
}

/// Largest and root mean square difference to the expected logits of a prompt.
fn compare(session: &mut Session, dir: &str, i: usize, prompt: &[u32]) -> Option<(f32, f64)> {
    let expected = expected_logits(dir, i)?;
    session.reset();
    let mut got = Vec::new();
    session.logits(prompt, |row| got.extend_from_slice(row)).unwrap();
    let [rows, vocab] = expected.shape[..] else { panic!("{dir} prompt {i}: {:?}", expected.shape) };
    assert!(vocab == session.engine().config().vocab && (rows == prompt.len() || rows == 4));
    got.drain(..(prompt.len() - rows) * vocab);
    let diffs = got.iter().zip(&expected.values).map(|(a, b)| (a - b).abs());
    let max = diffs.clone().fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    let rms = (diffs.map(|d| f64::from(d) * f64::from(d)).sum::<f64>() / got.len() as f64).sqrt();
    Some((max, rms))
}

/// Whether a model's logits are those of `dir`, or what is wrong with them.
fn judge(model: &Path, dir: &str, activations: ActivationChoice) -> Result<(), String> {
    let mut session = load(model, activations).session().unwrap();
    let float = activations == ActivationChoice::Float && !dir.starts_with("bitnet");
    let (most, most_rms) = if float { (TIGHT, 1e-4) } else { (0.15, 0.02) };
    let (mut tight, mut compared) = (0, 0);
    for (i, case) in cases(dir).iter().enumerate() {
        let Some((max, rms)) = compare(&mut session, dir, i, &case.prompt) else { continue };
        println!("{} prompt {i}: max {max:.2e} rms {rms:.2e}", model.display());
        tight += usize::from(max <= TIGHT);
        compared += 1;
        if max > most || rms > most_rms {
            return Err(format!("prompt {i}: max {max} rms {rms}; {}", first_difference(dir, &mut session)));
        }
    }
    assert!(compared >= 1, "no expected logits for {dir}");
    if 2 * tight < compared {
        let first = first_difference(dir, &mut session);
        return Err(format!("only {tight} of {compared} prompts within {TIGHT}; {first}"));
    }
    Ok(())
}

/// The first stage of prompt 0 whose rows differ from the expected by more than a thousandth of their largest value.
fn first_difference(dir: &str, session: &mut Session) -> String {
    let path = oracle(&format!("{dir}/expected/f32/acts_0.npz"));
    if !path.exists() {
        return "no expected activations for this model".into();
    }
    let expected = npz(path);
    session.reset();
    let mut first = None;
    let mut compare = Looking::at(
        |_| true,
        |stage, rows: &[f32]| {
            let Some(want) = expected.get(&stage.to_string()) else { return };
            if first.is_some() || want.values.len() != rows.len() {
                return;
            }
            let largest = want.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let worst = rows.iter().zip(&want.values).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            if worst > 1e-3 * largest {
                first = Some(format!("the first stage that differs is {stage}: {worst} of {largest}"));
            }
        },
    );
    session.feed_observed(&cases(dir)[0].prompt, &mut compare).unwrap();
    first.unwrap_or("every stage of prompt 0 agrees".into())
}

fn check_greedy(model: &str, dir: &str, activations: ActivationChoice) {
    let mut session = load(&oracle(model), activations).session().unwrap();
    let options = GenerateOptions { max_new_tokens: 32, ignore_eos: true, ..Default::default() };
    for (i, case) in cases(dir).iter().enumerate() {
        session.reset();
        let ids: Vec<u32> = session
            .generate_ids(&case.prompt, &options)
            .unwrap()
            .filter_map(|piece| piece.unwrap().id)
            .collect();
        assert_eq!(ids.len(), 32);
        // From the first step whose two best logits are close, correct engines may part.
        let least = if dir.contains("dense") { 0.01 } else { 0.2 };
        let sure = case.margins.iter().position(|&m| m < least).unwrap_or(32);
        assert_eq!(ids[..sure], case.greedy[..sure], "{model} prompt {i}");
    }
}

macro_rules! models {
    ($($name:ident: $model:literal against $dir:literal, $activations:ident;)*) => {$(
        mod $name {
            use super::*;
            #[test]
            fn logits() { judge(&oracle($model), $dir, ActivationChoice::$activations).unwrap(); }
            #[test]
            fn greedy() { check_greedy($model, $dir, ActivationChoice::$activations); }
        }
    )*};
}

models! {
    offline_packed: "bitnet-a-offline-packed" against "bitnet-a-offline-packed", Auto;
    bitlinear_packed: "bitnet-a-bitlinear-packed" against "bitnet-a-bitlinear-packed", Auto;
    online_masters: "bitnet-a-online-bf16" against "bitnet-a-online-bf16", Auto;
    silu_masters: "bitnet-c-silu-online-bf16" against "bitnet-c-silu-online-bf16", Auto;
    llama_packed: "llama-b-bitlinear-packed" against "llama-b-bitlinear-packed", Auto;
    qwen3_g64: "qwen3-a-ternary-g64" against "qwen3-a-ternary-g64", Float;
    qwen3_g128: "qwen3-b-ternary-g128" against "qwen3-b-ternary-g128", Float;
    gguf_qwen3_g64: "gguf/qwen3-a-ternary-g64-Q2_0.gguf" against "qwen3-a-ternary-g64", Float;
    dense_llama: "../oracle-made/dense-llama-f16" against "../oracle-made/dense-llama-f16", Float;
    dense_qwen3: "../oracle-made/dense-qwen3-bf16" against "../oracle-made/dense-qwen3-bf16", Float;
    hybrid_even_heads: "../oracle-made/qwen35-b-ternary-g32" against "../oracle-made/qwen35-b-ternary-g32", Float;
    hybrid_interval: "../oracle-made/qwen35-c-ternary-g64" against "../oracle-made/qwen35-c-ternary-g64", Float;
    hybrid_listed: "../oracle-made/qwen35-d-layertypes-g64" against "../oracle-made/qwen35-d-layertypes-g64", Float;
    hybrid_seeing: "../oracle-made/qwen35-e-seeing-g32" against "../oracle-made/qwen35-e-seeing-g32", Float;
    hybrid_dense: "../oracle-made/dense-qwen35-f-bf16" against "../oracle-made/dense-qwen35-f-bf16", Float;
    gguf_hybrid_f16: "../oracle-made/gguf/qwen35-d-F16.gguf" against "../oracle-made/gguf/expected/qwen35-d-F16", Float;
    gguf_hybrid_g64: "../oracle-made/gguf/qwen35-h-Q2_0.gguf" against "../oracle-made/gguf/expected/qwen35-h-Q2_0", Float;
    gguf_hybrid_g128: "../oracle-made/gguf/qwen35-i-PQ2_0.gguf" against "../oracle-made/gguf/expected/qwen35-i-PQ2_0", Float;
    gguf_hybrid_folded_without_signs: "../oracle-made/gguf/qwen35-j-folded32-PQ2_0.gguf" against "../oracle-made/gguf/expected/qwen35-j-folded32-PQ2_0", Float;
    gguf_hybrid_folded_in_base_3: "../oracle-made/gguf/qwen35-j-folded32-PTQ1_0.gguf" against "../oracle-made/gguf/expected/qwen35-j-folded32-PTQ1_0", Float;
    gguf_hybrid_folded_with_signs: "../oracle-made/gguf/qwen35-k-folded64-PQ2_0.gguf" against "../oracle-made/gguf/expected/qwen35-k-folded64-PQ2_0", Float;
    gguf_qwen3_g128: "gguf/qwen3-b-ternary-g128-Q2_0g128.gguf" against "qwen3-b-ternary-g128", Float;
}

/// Engines with one fault each: the suite must tell every one of them from a right one.
mod faults {
    use std::path::PathBuf;

    use bitnet_source::family::gguf::interleaved_order;

    use super::*;

    /// A copy of an oracle model with other text in its config.
    fn with_config(name: &str, model: &str, edits: &[(&str, &str)]) -> PathBuf {
        let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&copy).unwrap();
        fs::copy(oracle(model).join("model.safetensors"), copy.join("model.safetensors")).unwrap();
        let mut config = fs::read_to_string(oracle(model).join("config.json")).unwrap();
        for (from, to) in edits {
            assert!(config.contains(from), "{from} is not in the config");
            config = config.replace(from, to);
        }
        fs::write(copy.join("config.json"), config).unwrap();
        copy
    }

    fn caught(model: &Path, activations: ActivationChoice) -> String {
        judge(model, "bitnet-a-offline-packed", activations).unwrap_err()
    }

    #[test]
    fn silu_for_squared_relu() {
        let model = with_config("silu", "bitnet-a-offline-packed", &[("\"relu2\"", "\"silu\"")]);
        let fault = caught(&model, ActivationChoice::Auto);
        assert!(fault.contains("l0.down_proj_in"), "the fault is not located: {fault}");
    }

    #[test]
    fn no_activation_quantization() {
        let fault = caught(&oracle("bitnet-a-offline-packed"), ActivationChoice::Float);
        assert!(fault.contains("l0.q_proj"), "the fault is not located: {fault}");
    }

    #[test]
    fn wrong_meaning_of_the_scale() {
        let edit = [("\"autobitlinear\"", "\"bitlinear\"")];
        let fault = caught(&with_config("divide", "bitnet-a-offline-packed", &edit), ActivationChoice::Auto);
        assert!(fault.contains("l0.q_proj"), "the fault is not located: {fault}");
    }

    #[test]
    fn wrong_epsilon() {
        let model = with_config("eps", "bitnet-a-offline-packed", &[("1e-05", "1e-06")]);
        caught(&model, ActivationChoice::Auto);
    }

    #[test]
    fn another_share_of_rotation() {
        let (dir, edit) = (
            "../oracle-made/qwen35-b-ternary-g32",
            [("\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 0.25")],
        );
        judge(&with_config("share", dir, &edit), dir, ActivationChoice::Float).unwrap_err();
    }

    #[test]
    fn interleaved_rotation() {
        // Rotating interleaved pairs of a model is the same as rotating halves of one whose rows are permuted.
        let model = with_config("interleaved", "bitnet-a-online-bf16", &[]);
        let file = model.join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let checkpoint = Checkpoint::open(oracle("bitnet-a-online-bf16"), &Default::default()).unwrap();
        let header = bytes.len() - checkpoint.tensors().map(|t| t.byte_len()).sum::<usize>();
        for tensor in
            checkpoint.tensors().filter(|t| t.name().contains("q_proj") || t.name().contains("k_proj"))
        {
            let start = if tensor.range().start >= header {
                tensor.range().start
            } else {
                header + tensor.range().start
            };
            let row = tensor.byte_len() / tensor.rows();
            let old = bytes[start..start + tensor.byte_len()].to_vec();
            for (to, from) in interleaved_order(tensor.rows() / 32, 32).into_iter().enumerate() {
                bytes[start + to * row..][..row].copy_from_slice(&old[from * row..][..row]);
            }
        }
        fs::write(&file, bytes).unwrap();
        let fault = judge(&model, "bitnet-a-online-bf16", ActivationChoice::Auto).unwrap_err();
        assert!(fault.contains("prompt 0"), "{fault}");
    }

    #[test]
    fn the_copies_are_right_without_a_fault() {
        let model = with_config("right", "bitnet-a-offline-packed", &[]);
        judge(&model, "bitnet-a-offline-packed", ActivationChoice::Auto).unwrap();
    }
}

/// Layer 0 of the float run, where no rounding boundary has been crossed yet.
#[test]
fn activations_of_the_first_block() {
    let models = [
        ("bitnet-a-offline-packed", ActivationChoice::Auto),
        ("qwen3-a-ternary-g64", ActivationChoice::Float),
    ];
    for (dir, activations) in models {
        let expected = npz(oracle(&format!("{dir}/expected/f32/acts_0.npz")));
        let mut session = load(&oracle(dir), activations).session().unwrap();
        let mut seen = 0;
        let names = ["embed", "l0.input_layernorm", "l0.q_proj", "l0.k_proj", "l0.v_proj", "l0.out"];
        let mut compare = Looking::at(
            |stage| names.contains(&&*stage.to_string()),
            |stage, rows: &[f32]| {
                let name = stage.to_string();
                let want = &expected[&name];
                assert_eq!(want.values.len(), rows.len(), "{dir} {name}");
                let largest = want.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let worst = rows.iter().zip(&want.values).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
                assert!(worst <= 1e-3 * largest, "{dir} {name}: {worst} of {largest}");
                seen += 1;
            },
        );
        session.feed_observed(&cases(dir)[0].prompt, &mut compare).unwrap();
        assert_eq!(seen, 6, "{dir}");
    }
}

/// GGUF files against the model that they were made from. I2_S holds trits and scale exactly; TQ types round the scale
/// to f16, which moves logits by up to 0.3 (root mean square 0.06) between correct engines.
#[test]
fn gguf_files_agree_with_their_originals() {
    let pairs = [
        ("bitnet-a-I2_S.gguf", "bitnet-a-offline-packed", 0.2, 0.03),
        ("bitnet-a-I2_S-embdQ6_K.gguf", "bitnet-a-offline-packed", 0.3, 0.06),
        ("bitnet-a-TQ1_0.gguf", "bitnet-a-offline-packed", 0.3, 0.06),
        ("bitnet-c-TQ1_0-scaletensors.gguf", "bitnet-c-silu-online-bf16", 0.3, 0.06),
        ("bitnet-c-embdQ8_0-TQ2_0.gguf", "bitnet-c-silu-online-bf16", 0.3, 0.06),
        ("llama-b-I2_S.gguf", "llama-b-bitlinear-packed", 0.2, 0.03),
    ];
    for (file, dir, most, most_rms) in pairs {
        let mut session = load(&oracle(&format!("gguf/{file}")), ActivationChoice::Auto).session().unwrap();
        for (i, case) in cases(dir).iter().enumerate() {
            let Some((max, rms)) = compare(&mut session, dir, i, &case.prompt) else { continue };
            println!("{file} prompt {i}: max {max:.2e} rms {rms:.2e}");
            assert!(max <= most && rms <= most_rms, "{file} prompt {i}: max {max} rms {rms}");
        }
    }
}
