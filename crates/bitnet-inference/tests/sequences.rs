//! Several sequences in one step: each has its own keys, values and positions.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_inference::{InferenceEngine, KvType, LoadOptions};
use bitnet_model::{Logits, Span};

mod support;
use support::oracle;

/// The ids of each sequence, step by step: of other lengths, so that every position differs between the two, and across the
/// end of a page.
const STEPS: [(&[u32], &[u32]); 3] =
    [(&[5, 9, 300, 41, 7], &[12, 44]), (&[8], &[90, 91, 92]), (&[17], &[23])];

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn two_sequences_in_one_step_are_as_each_alone() {
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        let options = LoadOptions { threads: Some(2), context: Some(400), kv, ..Default::default() };
        let engine = InferenceEngine::load(oracle("bitnet-a-offline-packed"), &options).unwrap();
        let (model, vocab) = (engine.model(), engine.config().vocab);
        // The first sequence begins behind a page, the second at nothing.
        let long: Vec<u32> = (0..255).map(|i| i * 7 % 300 + 1).collect();
        let mut state = model.state(300, 2, 400).unwrap();
        let mut alone = Vec::new();
        for which in 0..2 {
            let mut sequence = model.sequence(400).unwrap();
            let first = if which == 0 { &long[..] } else { &[][..] };
            let mut ids = first.to_vec();
            for (a, b) in STEPS {
                ids.extend(if which == 0 { a } else { b });
                let mut spans = [Span { sequence: &mut sequence, tokens: ids.len() }];
                let rows = model.forward(&mut state, &ids, &mut spans, Logits::Last, |_, _| {}).unwrap();
                alone.push(bits(rows));
                ids.clear();
            }
        }
        let (mut one, mut two) = (model.sequence(400).unwrap(), model.sequence(400).unwrap());
        let mut spans = [Span { sequence: &mut one, tokens: long.len() }];
        model.forward(&mut state, &long, &mut spans, Logits::None, |_, _| {}).unwrap();
        for (step, (a, b)) in STEPS.into_iter().enumerate() {
            let ids = [a, b].concat();
            let mut spans =
                [Span { sequence: &mut one, tokens: a.len() }, Span { sequence: &mut two, tokens: b.len() }];
            let rows = model.forward(&mut state, &ids, &mut spans, Logits::Last, |_, _| {}).unwrap();
            assert_eq!(bits(&rows[..vocab]), alone[step], "the first sequence, step {step}, {kv:?}");
            assert_eq!(bits(&rows[vocab..]), alone[3 + step], "the second sequence, step {step}, {kv:?}");
        }
    }
}
