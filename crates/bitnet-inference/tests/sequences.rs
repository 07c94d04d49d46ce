//! Several sequences in one step: each has its own keys, values and positions, and the bits that it has alone.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use bitnet_decoder::DecoderError;
use bitnet_device::{Output, PAGE, SequenceError, SequenceId, Span};
use bitnet_inference::{InferenceEngine, KvType, LoadOptions, Runs};

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

/// Feeds `ids` to a sequence and gives the bits of the logits that `output` asks for.
fn feed(runs: &dyn Runs, sequence: SequenceId, ids: &[u32], output: Output) -> Vec<Vec<u32>> {
    let mut rows = Vec::new();
    let span = Span { sequence, tokens: ids.len(), output };
    runs.step(ids, &[span], &mut |_: usize, row: &[f32]| rows.push(bits(row)), None).unwrap();
    rows
}

fn load(kernel: &str, threads: usize, kv: KvType, kv_bytes: Option<usize>) -> InferenceEngine {
    let kernel = Some(kernel.to_owned());
    let context = Some(4 * PAGE);
    let options =
        LoadOptions { threads: Some(threads), context, kv, kernel, kv_bytes, ..LoadOptions::default() };
    InferenceEngine::load(oracle("bitnet-a-offline-packed"), &options).unwrap()
}

/// Runs the sequences in steps of random order and company and compares every row of logits with `alone`.
fn compare(engine: &InferenceEngine, alone: &[Vec<Vec<u32>>; 3], seed: u64, told: &str) {
    let (runs, draw) = (engine.runs(), &mut Draw(seed));
    let sequences = [(); 3].map(|()| runs.open());
    let mut held = [0; 3];
    for step in 0..1000 {
        let mut order = [0, 1, 2];
        order.swap(0, draw.below(3));
        order.swap(1, 1 + draw.below(2));
        // The first step has all three, so that 1, 7 and 254 tokens stand side by side.
        let company = if step == 0 { 3 } else { 1 + draw.below(3) };
        let (mut batch, mut expected, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for &which in &order[..company] {
            let tokens = share(which, held[which], draw);
            let output = [Output::None, Output::Last, Output::All][draw.below(3)];
            let (from, end) = (held[which], held[which] + tokens);
            batch.extend_from_slice(&ids(which)[from..end]);
            let span = Span { sequence: sequences[which], tokens, output };
            expected.extend(alone[which][end - span.outputs()..end].iter().cloned());
            spans.push(span);
            held[which] = end;
        }
        let (mut got, mut places) = (Vec::new(), Vec::new());
        let mut take = |output: usize, row: &[f32]| {
            got.push(bits(row));
            places.push(output);
        };
        runs.step(&batch, &spans, &mut take, None).unwrap();
        assert_eq!(places, (0..expected.len()).collect::<Vec<_>>(), "{told}, step {step}");
        assert!(got == expected, "{told}, step {step}: {spans:?}");
        if held == LENGTHS {
            return;
        }
    }
    panic!("{told}: the sequences do not end");
}

#[test]
fn steps_of_prompts_and_tokens_in_any_company_give_each_sequence_its_own_bits() {
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        let engine = load("scalar", 1, kv, None);
        let alone = [0, 1, 2].map(|which| {
            let sequence = engine.runs().open();
            feed(engine.runs(), sequence, &ids(which), Output::All)
        });
        for (round, kernel) in bitnet_kernels::available().enumerate() {
            let threads = 1 + round % 3;
            let told = format!("{kv:?}, {}, {threads} threads", kernel.name());
            compare(&load(kernel.short_name(), threads, kv, None), &alone, round as u64, &told);
        }
    }
}

/// Several single tokens of which one sees many pages: its pages are shared out over the threads.
#[test]
fn a_long_sequence_beside_short_ones_has_the_same_bits() {
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        let reference = load("scalar", 1, kv, None);
        let long: Vec<u32> = (0..3 * PAGE as u32 + 9).map(|i| i * 5 % 300 + 1).collect();
        let lengths = [2, 3 * PAGE + 5, 1, 7, 3, 2];
        let (runs, vocab) = (reference.runs(), reference.config().vocab);
        let last = |runs: &dyn Runs, sequence, at: usize| feed(runs, sequence, &long[at..=at], Output::Last);
        let want: Vec<_> = lengths
            .iter()
            .map(|&length| {
                let sequence = runs.open();
                feed(runs, sequence, &long[..length], Output::None);
                last(runs, sequence, length).remove(0)
            })
            .collect();
        for kernel in bitnet_kernels::available() {
            for threads in [1, 2, 3] {
                let engine = load(kernel.short_name(), threads, kv, None);
                let runs = engine.runs();
                let whole = runs.open();
                feed(runs, whole, &long, Output::None);
                let spans: Vec<_> = lengths
                    .iter()
                    .map(|&at| runs.fork(whole, at).unwrap())
                    .map(|sequence| Span { sequence, tokens: 1, output: Output::Last })
                    .collect();
                let next: Vec<u32> = lengths.iter().map(|&at| long[at]).collect();
                let mut got = Vec::new();
                runs.step(&next, &spans, &mut |_: usize, row: &[f32]| got.push(bits(row)), None).unwrap();
                assert!(got == want, "{kv:?}, {}, {threads} threads, {vocab} logits", kernel.name());
            }
        }
    }
}

/// Forks before, at and behind the edge of a page go their own ways; so does what they were forked from.
#[test]
fn forks_and_truncations_at_page_edges_do_not_disturb_each_other() {
    let text: Vec<u32> = (0..PAGE as u32 + 60).map(|i| i * 7 % 300 + 1).collect();
    for kv in [KvType::F32, KvType::F16, KvType::Int8] {
        for (round, kernel) in bitnet_kernels::available().enumerate() {
            let engine = load(kernel.short_name(), 1 + round % 3, kv, None);
            let runs = engine.runs();
            // What a sequence says that holds the first `at` tokens and then `other`.
            let alone = |at: usize, other: &[u32]| {
                let sequence = runs.open();
                feed(runs, sequence, &text[..at], Output::None);
                let rows = feed(runs, sequence, other, Output::All);
                runs.close(sequence);
                rows
            };
            let trunk = runs.open();
            feed(runs, trunk, &text[..PAGE + 44], Output::None);
            let rest = &text[PAGE + 44..PAGE + 60];
            let trunk_goes_on = alone(PAGE + 44, rest);
            for at in [3, PAGE - 1, PAGE, PAGE + 1, PAGE + 44] {
                let told = format!("{kv:?}, {}, fork at {at}", kernel.name());
                let [left, right] = [(); 2].map(|()| runs.fork(trunk, at).unwrap());
                let (ours, theirs) = ([9u32, 8, 7], [5u32, 6, 4]);
                assert!(feed(runs, left, &ours, Output::All) == alone(at, &ours), "{told}: the first");
                assert!(feed(runs, right, &theirs, Output::All) == alone(at, &theirs), "{told}: the second");
                assert!(feed(runs, trunk, rest, Output::All) == trunk_goes_on, "{told}: the trunk");
                // A fork that forgets and goes on is what it would have been.
                runs.truncate(left, at.min(2)).unwrap();
                assert!(
                    feed(runs, left, &theirs, Output::All) == alone(at.min(2), &theirs),
                    "{told}: truncated"
                );
                runs.truncate(trunk, PAGE + 44).unwrap();
                runs.close(left);
                runs.close(right);
            }
            runs.close(trunk);
            assert_eq!(engine.pages().in_use, 0);
        }
    }
}

#[test]
fn a_budget_refuses_a_step_and_leaves_everything_as_it_was() {
    let page = load("scalar", 1, KvType::F16, None).pages().page_bytes;
    let engine = load("scalar", 1, KvType::F16, Some(3 * page + page / 2));
    let runs = engine.runs();
    assert_eq!((engine.pages().budget, engine.pages().in_use), (Some(3), 0));
    let text: Vec<u32> = (0..3 * PAGE as u32).map(|i| i * 7 % 300 + 1).collect();
    let (a, b) = (runs.open(), runs.open());
    feed(runs, a, &text[..PAGE + 1], Output::None);
    feed(runs, b, &text[..PAGE], Output::None);
    let full = engine.pages();
    assert_eq!((full.in_use, full.shared, full.free), (3, 0, 0));
    // `a` would fit, `b` would not: neither takes a step.
    let spans = [a, b].map(|sequence| Span { sequence, tokens: 1, output: Output::Last });
    let error = runs.step(&[5, 6], &spans, &mut |_: usize, _: &[f32]| panic!("no logits"), None).unwrap_err();
    assert!(
        matches!(error, DecoderError::Sequence(SequenceError::NoPages { needed: 1, free: 0, budget: 3 })),
        "{error}"
    );
    assert_eq!(engine.pages(), full);
    let before = feed(runs, a, &[5], Output::Last);
    // A fork inside a page shares it and cannot go on; once the other is gone it can.
    let fork = runs.fork(a, PAGE + 1).unwrap();
    assert_eq!((engine.pages().in_use, engine.pages().shared), (3, 2));
    let span = [Span { sequence: fork, tokens: 1, output: Output::Last }];
    runs.step(&[5], &span, &mut |_: usize, _: &[f32]| {}, None).unwrap_err();
    runs.close(b);
    assert!(feed(runs, fork, &[5], Output::Last) == before);
    assert_eq!((engine.pages().in_use, engine.pages().shared, engine.pages().free), (3, 1, 0));
    runs.close(a);
    runs.close(fork);
    assert_eq!((engine.pages().in_use, engine.pages().free), (0, 3));
}

/// Both of a page's two holders continue it in one step: the first takes a copy, the page is the other's then.
#[test]
fn the_last_holder_of_a_page_needs_no_copy() {
    let page = load("scalar", 1, KvType::F16, None).pages().page_bytes;
    let engine = load("scalar", 1, KvType::F16, Some(2 * page));
    let runs = engine.runs();
    let a = runs.open();
    feed(runs, a, &[1, 2, 3], Output::None);
    let b = runs.fork(a, 3).unwrap();
    let spans = [a, b].map(|sequence| Span { sequence, tokens: 1, output: Output::Last });
    let mut rows = Vec::new();
    runs.step(&[4, 4], &spans, &mut |_: usize, row: &[f32]| rows.push(bits(row)), None).unwrap();
    assert!(rows[0] == rows[1]);
    assert_eq!((engine.pages().in_use, engine.pages().shared), (2, 0));
    // A third one has no page left.
    let c = runs.fork(a, 2).unwrap();
    let span = [Span { sequence: c, tokens: 1, output: Output::None }];
    runs.step(&[4], &span, &mut |_: usize, _: &[f32]| {}, None).unwrap_err();
}

/// A caller that panics in the middle of a step leaves the sequences as they were, and usable.
#[test]
fn a_panic_in_a_step_changes_no_sequence() {
    let engine = load("scalar", 1, KvType::F16, Some(usize::MAX));
    let runs = engine.runs();
    let (a, b) = (runs.open(), runs.open());
    let ids: Vec<u32> = (0..PAGE as u32 + 44).map(|i| i * 7 % 300 + 1).collect();
    let span = [Span { sequence: a, tokens: ids.len(), output: Output::Last }];
    let panics = std::panic::AssertUnwindSafe(|| {
        runs.step(&ids, &span, &mut |_: usize, _: &[f32]| panic!("a caller's own"), None)
    });
    std::panic::catch_unwind(panics).unwrap_err();
    assert!(feed(runs, a, &[5], Output::Last) == feed(runs, b, &[5], Output::Last));
    assert_eq!(engine.pages().in_use, 2);
}

#[test]
fn a_thousand_sequences_leave_nothing_behind() {
    let engine = load("scalar", 1, KvType::F16, None);
    let runs = engine.runs();
    let trunk = runs.open();
    feed(runs, trunk, &[1, 2, 3], Output::None);
    let before = engine.pages();
    let mut open = Vec::new();
    for i in 0..1000u32 {
        let sequence = if i % 3 == 0 { runs.open() } else { runs.fork(trunk, 2).unwrap() };
        if i % 4 == 0 {
            feed(runs, sequence, &[i % 300 + 1], Output::None);
        }
        open.push(sequence);
        if i % 2 == 0 {
            runs.close(open.swap_remove(i as usize * 7 % open.len()));
        }
    }
    let during = engine.pages();
    assert!(during.in_use > 10 && during.shared == 1, "{during:?}");
    for sequence in open {
        runs.close(sequence);
        runs.close(sequence);
    }
    let after = engine.pages();
    assert_eq!((after.in_use, after.shared), (before.in_use, before.shared));
    assert_eq!(after.free + after.in_use, during.in_use + during.free, "no page is lost");
    let memory = engine.memory().usage(bitnet_core::Purpose::KvCache).current;
    assert_eq!(memory, (after.free + after.in_use) * after.page_bytes);
}

#[test]
fn sequences_that_cannot_go_on_are_refused() {
    let engine = load("scalar", 1, KvType::F16, None);
    let runs = engine.runs();
    let sequence = runs.open();
    let span = Span { sequence, tokens: 1, output: Output::None };
    let step = |spans: &[Span]| {
        let ids = vec![1; spans.iter().map(|s| s.tokens).sum()];
        runs.step(&ids, spans, &mut |_: usize, _: &[f32]| {}, None)
    };
    let refused = |spans: &[Span]| match step(spans).unwrap_err() {
        DecoderError::Sequence(error) => error,
        error => panic!("{error}"),
    };
    assert!(matches!(refused(&[span, span]), SequenceError::Twice));
    let long = Span { tokens: 4 * PAGE + 1, ..span };
    assert!(matches!(refused(&[long]), SequenceError::ContextFull { needed: 1025, capacity: 1024 }));
    runs.close(sequence);
    assert!(matches!(refused(&[span]), SequenceError::Closed));
    // Nor is another model's sequence taken for one of this model.
    let stranger = load("scalar", 1, KvType::F16, None).runs().open();
    assert!(matches!(refused(&[Span { sequence: stranger, ..span }]), SequenceError::Closed));
    // Its place is another's now.
    let other = runs.open();
    assert!(matches!(refused(&[span]), SequenceError::Closed));
    assert!(runs.fork(sequence, 0).is_err() && runs.truncate(sequence, 0).is_err());
    step(&[Span { sequence: other, ..span }]).unwrap();
}
