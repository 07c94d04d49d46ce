//! Figures of evaluation, against numbers that were computed with other software.
//!
//! Expected values: tokens by the `tokenizers` library for Python, logits by `bitnet logits` (which `bitnet-inference/tests/oracle.rs`
//! holds to those of `transformers`), everything behind them by numpy in f64. What the engine adds in f32 (log-sum-exp, rounded to f32 once per
//! position) leaves 1e-6 between the two.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_evaluation::{
    Answer, EvaluationError, MismatchError, PerplexityOptions, Question, TaskErrorKind, TaskResult, compare,
    multiple_choice, perplexity, read_questions, same_vocabulary,
};
use bitnet_inference::{InferenceEngine, KvType, LoadOptions};

mod support;
use support::oracle;

const MODEL: &str = "bitnet-a-offline-packed";
const OTHER: &str = "bitnet-c-silu-online-bf16";

fn load(path: &str) -> InferenceEngine {
    let options = LoadOptions { threads: Some(2), context: Some(128), kv: KvType::F32, ..Default::default() };
    InferenceEngine::load(oracle(path), &options).unwrap()
}

fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/text/tinyshakespeare-6000.txt");
    std::fs::read_to_string(path).unwrap()[..1500].to_owned()
}

fn near(got: f64, wanted: f64) {
    assert!((got - wanted).abs() <= 2e-6 * wanted.abs().max(1.0), "{got} is not {wanted}");
}

/// Windows of 64 that move by 40: all of the first one but the token that begins it, 40 tokens of each other.
const WINDOWS: PerplexityOptions = PerplexityOptions { window: 64, stride: 40, bos: Some(2043) };

#[test]
fn two_models_are_as_far_apart_as_numpy_says() {
    let (a, c) = (load(MODEL), load(OTHER));
    let ids = same_vocabulary(&a, &c, &text()).unwrap();
    assert_eq!(ids.len(), 481);
    let (mut ours, mut theirs) = (a.session().unwrap(), c.session().unwrap());
    let mut calls = Vec::new();
    let told = compare(&mut ours, &mut theirs, &ids, &WINDOWS, |done, of| calls.push((done, of))).unwrap();
    assert_eq!(told.model.tokens_scored, 463);
    assert_eq!(calls.first().zip(calls.last()), Some((&(1, 11), &(11, 11))));
    near(told.model.mean_nll, 0.046_242_147_453_335_67);
    near(told.reference.mean_nll, 0.026_014_558_874_182_758);
    near(told.model.bits_per_byte.unwrap(), 0.021_258_269_568_813_073);
    near(told.loss_difference, 0.020_227_588_579_152_918);
    near(told.loss_difference_error, 0.007_354_867_491_480_158);
    near(told.top1_agreement, 461.0 / 463.0);
    near(told.kl.mean, 0.109_852_220_686_322_42);
    near(told.kl.median, 0.049_408_918_340_599_61);
    near(told.kl.p99, 2.074_305_941_098_627);
    near(told.kl.max, 2.957_347_643_086_305_5);
    near(told.logits.mean, 2.415_085_095_304_072_6);
    near(told.logits.max, 15.220_303_535_461_426);
    // Percentiles of logits are known to 11 bits, from below.
    for (got, exact) in
        [(told.logits.median, 1.563_505_053_520_202_6), (told.logits.p99, 6.624_534_010_887_146)]
    {
        assert!(got <= exact && exact < got * (1.0 + 1.0 / 2048.0), "{got} {exact}");
    }
    // The same figures as without a comparison, to the bit.
    let alone = perplexity(&mut ours, &ids, &WINDOWS, |_, _| {}).unwrap();
    assert_eq!(alone, told.model);
}

#[test]
fn a_model_is_not_apart_from_itself() {
    let engine = load(MODEL);
    let ids = engine.encode(&text()).unwrap();
    let (mut one, mut two) = (engine.session().unwrap(), engine.session().unwrap());
    // What shares a batch changes no logit, so nothing here is merely small.
    two.set_prefill(7);
    let told = compare(&mut one, &mut two, &ids[1..], &WINDOWS, |_, _| {}).unwrap();
    assert_eq!(
        (told.kl.max, told.logits.max, told.loss_difference, told.top1_agreement),
        (0.0, 0.0, 0.0, 1.0)
    );
}

#[test]
fn models_with_other_tokens_are_not_compared() {
    let made = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle-made");
        InferenceEngine::load(format!("{path}/{name}"), &LoadOptions::default()).unwrap()
    };
    let (a, e) = (load(MODEL), made("bitnet-e-bitlinear-packed"));
    let mismatch = |other: &InferenceEngine| match same_vocabulary(&a, other, "Speak.") {
        Err(EvaluationError::Mismatch(mismatch)) => mismatch,
        other => panic!("{other:?}"),
    };
    let told = mismatch(&e);
    assert!(
        matches!(told, MismatchError::Vocabulary { model: 2048, .. } | MismatchError::Token { .. }),
        "{told}"
    );
}

fn ask(delimiter: &str, lines: &str) -> Result<TaskResult, EvaluationError> {
    let mut session = load(MODEL).session().unwrap();
    multiple_choice(&mut session, &read_questions(lines).unwrap(), delimiter, |_, _| {})
}

#[test]
fn choices_are_as_likely_as_numpy_says() {
    let lines = r#"
{"query": "First Citizen:\nBefore we proceed any further, hear me", "choices": ["speak", "sing loudly", "go"], "gold": 0}
{"question": "All:\nSpeak,", "choices": ["never at all", "speak"], "answer": "B"}
{"ctx": "You are all resolved rather to die than ", "endings": ["to famish?", "famine."], "label": "0"}
{"goal": "", "sol1": "We know't, we know't.", "sol2": "xqz", "label": 1}
"#;
    let told = ask(" ", lines).unwrap();
    let wanted: [&[f64]; 4] = [
        &[-0.005_001_969_142_539_794, -61.517_514_856_673_06, -15.575_351_424_022_301],
        &[-31.331_081_883_100_904, -0.054_846_024_766_163_404],
        &[-12.453_771_367_898_085, -31.251_816_679_320_45],
        &[-27.012_961_231_967_275, -39.734_150_364_499_1],
    ];
    for (answer, wanted) in told.answers.iter().zip(wanted) {
        answer.log_likelihoods.iter().zip(wanted).for_each(|(&got, &wanted)| near(got, wanted));
    }
    let of = |f: fn(&Answer) -> usize| told.answers.iter().map(f).collect::<Vec<_>>();
    assert_eq!(
        (of(|a| a.line), of(|a| a.chosen), of(|a| a.gold)),
        (vec![2, 3, 4, 5], vec![0, 1, 0, 0], vec![0, 1, 0, 1])
    );
    assert_eq!(told.answers[0].tokens, [1, 5, 1]);
    // Three of four; sqrt(3/4 * 1/4 / 3) = 1/4. Chance: one third, and three halves.
    assert_eq!((told.accuracy.value, told.accuracy.standard_error), (0.75, Some(0.25)));
    near(told.chance, (1.0 / 3.0 + 1.5) / 4.0);
}

#[test]
fn a_token_across_the_boundary_is_scored_with_every_choice() {
    // " Marc" is two tokens alone, and one with "ius" behind it: both choices are scored from there on.
    let told = ask(
        "",
        r#"{"query": "First, you know Caius Marc", "choices": ["ius is chief enemy to the people.", "us is a friend"], "gold": 0}
{"query": "First, you know Ca", "choices": ["ius Marcius is chief enemy to the people.", "t"], "gold": 0}"#,
    )
    .unwrap();
    let [first, second] = &told.answers[..] else { panic!() };
    near(first.log_likelihoods[0], -15.023_781_851_327_893);
    near(first.log_likelihoods[1], -59.245_927_341_881_945);
    assert_eq!(first.tokens, [9, 6]);
    // The shorter is likelier, and the longer likelier by the character.
    near(second.log_likelihoods[0], -15.067_303_426_499_349);
    near(second.log_likelihoods[1], -11.552_725_187_611_664);
    assert_eq!((second.chosen, second.chosen_normalized, second.tokens.as_slice()), (1, 0, &[11, 1][..]));
    assert_eq!((told.accuracy.value, told.accuracy_normalized.value), (0.5, 1.0));
}

#[test]
fn order_and_company_change_no_answer() {
    let line = |context: &str| {
        format!(r#"{{"query": "{context}", "choices": ["to famish?", "to eat", "Speak"], "gold": 0}}"#)
    };
    let [a, b] = ["You are all resolved rather to die than", "You are all"].map(line);
    let both = ask(" ", &format!("{a}\n{b}\n{a}")).unwrap();
    let alone = ask(" ", &b).unwrap();
    assert_eq!(both.answers[0].log_likelihoods, both.answers[2].log_likelihoods);
    assert_eq!(both.answers[1].log_likelihoods, alone.answers[0].log_likelihoods);
    assert_eq!(alone.accuracy.standard_error, None);
}

#[test]
fn a_question_that_does_not_fit_is_named() {
    let long =
        Question { line: 7, context: "word ".repeat(200), choices: vec!["a".into(), "b".into()], gold: 0 };
    let mut session = load(MODEL).session().unwrap();
    match multiple_choice(&mut session, &[long], " ", |_, _| {}) {
        Err(EvaluationError::Task(e)) => {
            assert_eq!(e.line, 7);
            assert!(matches!(e.kind, TaskErrorKind::TooLong { room: 128, .. }), "{e}");
        }
        other => panic!("{other:?}"),
    }
}
