//! Several sequences in one step: each has its own keys, values and positions, and the bits that it has alone.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_inference::{InferenceEngine, KvType, LoadOptions};
use bitnet_model::{Output, Span};

mod support;
use support::oracle;

/// Positions of each sequence: one of them ends behind the first page of 256, one crosses its edge token by token.
const LENGTHS: [usize; 3] = [12, 7 + 12, 300];

fn ids(sequence: usize) -> Vec<u32> {
    (0..LENGTHS[sequence]).map(|i| (i * 7 + sequence * 31) as u32 % 300 + 1).collect()
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|x| x.to_bits()).collect()
}

/// Numbers that differ from run to run of a loop and not from run to run of the test.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// How many tokens of a sequence that holds `held` the next step takes: short sequences begin with prompts of 1 and 7, the
/// long one with 254; then one token, sometimes a few.
fn share(sequence: usize, held: usize, draw: &mut Draw) -> usize {
    let most = LENGTHS[sequence] - held;
    let wanted = match (held, sequence) {
        (0, sequence) => [1, 7, 254][sequence],
        _ => [1, 1, 1, 5, 20][draw.below(5)],
    };
    wanted.min(most)
}

/// Runs the sequences in steps of random order and company and compares every row of logits with `alone`.
fn compare(engine: &InferenceEngine, alone: &[Vec<Vec<u32>>; 3], seed: u64, told: &str) {
    let (model, vocab, draw) = (engine.model(), engine.config().vocab, &mut Draw(seed));
    let mut state = model.state(300, 300, 400).unwrap();
    let mut sequences = [(); 3].map(|()| model.sequence(400).unwrap());
    for step in 0..1000 {
        let mut order = [0, 1, 2];
        order.swap(0, draw.below(3));
        order.swap(1, 1 + draw.below(2));
        // The first step has all three, so that 1, 7 and 254 tokens stand side by side.
        let company = if step == 0 { 3 } else { 1 + draw.below(3) };
        let (mut batch, mut expected, mut wishes) = (Vec::new(), Vec::new(), [(0, Output::None); 3]);
        for &which in &order[..company] {
            let held = sequences[which].len();
            let tokens = share(which, held, draw);
            let output = [Output::None, Output::Last, Output::All][draw.below(3)];
            let from = match output {
                Output::None => held + tokens,
                Output::Last => (held + tokens).saturating_sub(1).max(held),
                Output::All => held,
            };
            batch.extend_from_slice(&ids(which)[held..held + tokens]);
            expected.extend(alone[which][from..held + tokens].iter().cloned());
            wishes[which] = (tokens, output);
        }
        if batch.is_empty() {
            if sequences.iter().zip(LENGTHS).all(|(sequence, length)| sequence.len() == length) {
                return;
            }
            continue;
        }
        let mut all = sequences.each_mut().map(Some);
        let mut spans: Vec<_> = order[..company]
            .iter()
            .map(|&which| {
                let (tokens, output) = wishes[which];
                Span { sequence: all[which].take().unwrap(), tokens, output }
            })
            .collect();
        let rows = model.forward(&mut state, &batch, &mut spans, |_, _| {}).unwrap();
        assert_eq!(rows.len(), expected.len() * vocab, "{told}, step {step}");
        for (row, (got, want)) in rows.chunks_exact(vocab).zip(&expected).enumerate() {
            assert!(bits(got) == *want, "{told}, step {step}, {wishes:?} in the order {order:?}, row {row}");
        }
    }
    panic!("{told}: the sequences did not end");
}

#[test]
fn steps_of_prompts_and_tokens_in_any_company_give_each_sequence_its_own_bits() {
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        let load = |kernel: &str, threads| {
            let kernel = Some(kernel.to_owned());
            let options =
                LoadOptions { threads: Some(threads), context: Some(400), kv, kernel, ..Default::default() };
            InferenceEngine::load(oracle("bitnet-a-offline-packed"), &options).unwrap()
        };
        let engine = load("scalar", 1);
        let (model, vocab) = (engine.model(), engine.config().vocab);
        let mut state = model.state(300, 300, 400).unwrap();
        let alone = [0, 1, 2].map(|which| {
            let (ids, mut sequence) = (ids(which), model.sequence(400).unwrap());
            let mut spans = [Span { sequence: &mut sequence, tokens: ids.len(), output: Output::All }];
            let rows = model.forward(&mut state, &ids, &mut spans, |_, _| {}).unwrap();
            rows.chunks_exact(vocab).map(bits).collect::<Vec<_>>()
        });
        for (round, kernel) in bitnet_kernels::available().enumerate() {
            let threads = 1 + round % 3;
            let told = format!("{kv:?}, {}, {threads} threads", kernel.name());
            compare(&load(kernel.short_name(), threads), &alone, round as u64, &told);
        }
    }
}
