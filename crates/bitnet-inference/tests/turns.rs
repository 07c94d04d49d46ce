//! Many generations in one step: each has the tokens that it has alone.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_device::Span;
use bitnet_inference::{
    Choices, FinishReason, GenerateOptions, InferenceEngine, LoadOptions, SamplingMemory, SamplingOptions,
    Turn, cut,
};

mod support;
use support::oracle;

fn options(which: usize) -> GenerateOptions {
    let warm = SamplingOptions { temperature: 0.9, seed: which as u64, ..SamplingOptions::default() };
    let sampling = match which % 5 {
        0 => SamplingOptions::default(),
        1 => warm,
        2 => SamplingOptions { top_k: 40, top_p: 0.9, repetition_penalty: 1.2, ..warm },
        3 => SamplingOptions { min_p: 0.1, frequency_penalty: 0.3, penalty_window: 9, ..warm },
        _ => SamplingOptions {
            logit_bias: vec![(7, 1.5)],
            presence_penalty: 0.5,
            ..SamplingOptions::default()
        },
    };
    let logprobs = (which % 4 == 3).then_some(2);
    GenerateOptions {
        max_new_tokens: 5 + which * 3,
        sampling,
        ignore_eos: which.is_multiple_of(2),
        logprobs,
        ..Default::default()
    }
}

fn prompt(which: usize) -> Vec<u32> {
    (0..1 + which * which * 5).map(|i| (i * 7 + which * 31) as u32 % 300 + 1).collect()
}

/// Ids and end of a generation that has a session of its own.
fn alone(engine: &InferenceEngine, which: usize) -> (Vec<u32>, Option<FinishReason>) {
    let mut session = engine.session().unwrap();
    let mut generation = session.generate_ids(&prompt(which), &options(which)).unwrap();
    let ids = generation.by_ref().filter_map(|piece| piece.unwrap().id).collect();
    (ids, generation.finish_reason())
}

#[test]
fn generations_that_share_their_steps_have_the_tokens_that_they_have_alone() {
    for (model, threads) in [("bitnet-a-offline-packed", 1), ("qwen3-b-ternary-g128", 2)] {
        let load = LoadOptions { threads: Some(threads), context: Some(300), ..LoadOptions::default() };
        let engine = InferenceEngine::load(oracle(model), &load).unwrap();
        let want: Vec<_> = (0..8).map(|which| alone(&engine, which)).collect();
        // The longest prompt leaves little of the context.
        assert!(want.iter().any(|(_, reason)| *reason == Some(FinishReason::Length)));
        assert_eq!(together(&engine, 8), want, "{model}");
        assert_eq!(engine.pages().in_use, 0);
    }
}

/// Eight turns in one loop: every step takes some of each one's tokens. Turns join one after another.
fn together(engine: &InferenceEngine, count: usize) -> Vec<(Vec<u32>, Option<FinishReason>)> {
    let (runs, mut memory) = (engine.runs(), SamplingMemory::new(engine.config().vocab));
    let (mut turns, mut sequences, mut said): (Vec<Turn>, Vec<_>, Vec<Vec<u32>>) = Default::default();
    loop {
        if turns.len() < count {
            let which = turns.len();
            turns.push(Turn::new(engine, &[], &prompt(which), &options(which)).unwrap());
            sequences.push(runs.open());
            said.push(Vec::new());
        }
        let (mut ids, mut spans, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (which, turn) in turns.iter().enumerate().filter(|(_, turn)| !turn.pending().is_empty()) {
            let (tokens, output) = cut(turn.pending().len(), 13);
            ids.extend_from_slice(&turn.pending()[..tokens]);
            let span = Span { sequence: sequences[which], tokens, output };
            outputs.extend((0..span.outputs()).map(|_| which));
            spans.push(span);
        }
        if spans.is_empty() && turns.len() == count {
            break;
        }
        let mut choices = Choices { turns: &mut turns, outputs: &outputs, memory: &mut memory };
        runs.step(&ids, &spans, &mut choices, None).unwrap();
        for span in &spans {
            let which = sequences.iter().position(|&sequence| sequence == span.sequence).unwrap();
            turns[which].fed(span.tokens);
            while let Some(step) = turns[which].step().unwrap() {
                said[which].extend(step.id);
            }
        }
    }
    sequences.into_iter().for_each(|sequence| runs.close(sequence));
    said.into_iter().zip(&turns).map(|(ids, turn)| (ids, turn.finish_reason())).collect()
}
