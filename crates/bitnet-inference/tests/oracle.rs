//! Whole models against `transformers`: logits, greedy tokens, and the first stage that differs.
//!
//! Tolerances are those of the people who made the expected values: an engine that computes W1.58A8 in f32 agrees to
//! 1e-3 on most prompts; where an activation lands on the other side of a rounding boundary the difference jumps, so every
//! prompt gets 0.15 at most and 0.02 root mean square. A loose bound alone would accept an engine that forgets to
//! quantize activations, hence both.

use bitnet_inference::{ActivationChoice, GenerateOptions, InferenceEngine, LoadOptions, Session};

mod support;
use support::{cases, expected_logits, npz, oracle};

const TIGHT: f32 = 1e-3;

fn load(path: &str, activations: ActivationChoice) -> InferenceEngine {
    let options = LoadOptions { threads: Some(2), activations, context: Some(256), ..Default::default() };
    InferenceEngine::load(oracle(path), &options).unwrap()
}

/// Largest and root mean square difference to the expected logits of a prompt.
fn compare(session: &mut Session, dir: &str, i: usize, prompt: &[u32]) -> Option<(f32, f64)> {
    let expected = expected_logits(dir, i)?;
    session.reset();
    let mut got = Vec::new();
    session.logits(prompt, |row| got.extend_from_slice(row)).unwrap();
    assert_eq!(expected.shape, [prompt.len(), session.engine().config().vocab]);
    let diffs = got.iter().zip(&expected.values).map(|(a, b)| (a - b).abs());
    let max = diffs.clone().fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    let rms = (diffs.map(|d| f64::from(d) * f64::from(d)).sum::<f64>() / got.len() as f64).sqrt();
    Some((max, rms))
}

fn check_logits(model: &str, dir: &str, activations: ActivationChoice) {
    let mut session = load(model, activations).session().unwrap();
    let float = activations == ActivationChoice::Float;
    let (mut tight, mut compared) = (0, 0);
    for (i, case) in cases(dir).iter().enumerate() {
        let Some((max, rms)) = compare(&mut session, dir, i, &case.prompt) else { continue };
        println!("{model} prompt {i}: max {max:.2e} rms {rms:.2e}");
        tight += usize::from(max <= TIGHT);
        compared += 1;
        let (most, most_rms) = if float { (TIGHT, 1e-4) } else { (0.15, 0.02) };
        assert!(
            max <= most && rms <= most_rms,
            "{model} prompt {i}: max {max} rms {rms}; {}",
            first_difference(dir, &mut session)
        );
    }
    assert!(compared >= 1, "no expected logits for {dir}");
    assert!(
        2 * tight >= compared,
        "{model}: only {tight} of {compared} prompts within {TIGHT}; {}",
        first_difference(dir, &mut session)
    );
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
    session
        .feed_observed(&cases(dir)[0].prompt, |stage, rows| {
            let Some(want) = expected.get(&stage.to_string()) else { return };
            if first.is_some() || want.values.len() != rows.len() {
                return;
            }
            let largest = want.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let worst = rows.iter().zip(&want.values).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            if worst > 1e-3 * largest {
                first = Some(format!("the first stage that differs is {stage}: {worst} of {largest}"));
            }
        })
        .unwrap();
    first.unwrap_or("every stage of prompt 0 agrees".into())
}

fn check_greedy(model: &str, dir: &str, activations: ActivationChoice) {
    let mut session = load(model, activations).session().unwrap();
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
        let sure = case.margins.iter().position(|&m| m < 0.2).unwrap_or(32);
        assert_eq!(ids[..sure], case.greedy[..sure], "{model} prompt {i}");
    }
}

macro_rules! models {
    ($($name:ident: $model:literal against $dir:literal, $activations:ident;)*) => {$(
        mod $name {
            use super::*;
            #[test]
            fn logits() { check_logits($model, $dir, ActivationChoice::$activations); }
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
    gguf_qwen3_g128: "gguf/qwen3-b-ternary-g128-Q2_0g128.gguf" against "qwen3-b-ternary-g128", Float;
}
