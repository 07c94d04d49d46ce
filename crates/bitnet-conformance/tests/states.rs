//! Recurrent states of sequences: whatever is cut, shared, kept and taken back, each sequence has the bits that it has alone.

// A test that cannot make its device has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bitnet_conformance::{Made, Shape};
use bitnet_core::{HybridMemoryPool, Purpose, ThreadPool};
use bitnet_cpu::{Cpu, KvType};
use bitnet_decoder::{DecoderError, Model, Runner, RunnerOptions};
use bitnet_device::{Output, PAGE, SequenceError, SequenceId, Span};
use bitnet_kernels::Kernel;
use bitnet_model::{ActivationChoice, PartSource, Wishes};

const CONTEXT: usize = 2 * PAGE;

/// The small models that have recurrent blocks.
fn hybrids() -> impl Iterator<Item = Shape> {
    Shape::ALL.into_iter().filter(|shape| shape.hybrid)
}

fn runner(shape: Shape, kernel: &'static Kernel, threads: usize, kv_bytes: Option<usize>) -> Runner<Cpu> {
    let cpu = Cpu::new(kernel, Arc::new(ThreadPool::new(threads)), HybridMemoryPool::new())
        .with_kv(KvType::F32)
        .rows_per_chunk(32);
    let (source, one, wishes) = (Made::new(shape), ThreadPool::new(1), Wishes::default());
    let model = Model::load(&source, cpu, &one, ActivationChoice::Auto, &wishes, &|_, _| {}).unwrap();
    Runner::new(model, RunnerOptions { tokens: 4, context: CONTEXT, kv_bytes }).unwrap()
}

fn ids(sequence: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 7 + sequence * 13) % 40) as u32).collect()
}

/// Feeds `ids` in one step; the bits of all logits.
fn feed(runner: &mut Runner<Cpu>, sequence: SequenceId, ids: &[u32]) -> Vec<Vec<u32>> {
    let mut rows = Vec::new();
    let span = Span { sequence, tokens: ids.len(), output: Output::All };
    let mut take = |_: usize, row: &[f32]| rows.push(row.iter().map(|x| x.to_bits()).collect());
    runner.step(ids, &[span], &mut take, None).unwrap();
    rows
}

/// Numbers that differ from call to call and not from run to run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn cuts_and_company_change_no_bit() {
    const LENGTHS: [usize; 3] = [9, 40, PAGE + 20];
    for shape in hybrids() {
        let mut reference = runner(shape, bitnet_kernels::by_name("scalar").unwrap(), 1, None);
        let alone = [0, 1, 2].map(|which| {
            let sequence = reference.sequences().open();
            feed(&mut reference, sequence, &ids(which, LENGTHS[which]))
        });
        for (round, kernel) in bitnet_kernels::available().enumerate() {
            let threads = 1 + round % 3;
            let mut runner = runner(shape, kernel, threads, None);
            let sequences = [(); 3].map(|()| runner.sequences().open());
            let (mut held, mut draw) = ([0; 3], Draw(round as u64));
            while held != LENGTHS {
                let (mut batch, mut spans, mut want) = (Vec::new(), Vec::new(), Vec::new());
                for which in [2, 0, 1] {
                    let most = [0, 1, 1, 3, 17][draw.below(5)];
                    let tokens = most.min(LENGTHS[which] - held[which]);
                    let end = held[which] + tokens;
                    batch.extend_from_slice(&ids(which, LENGTHS[which])[held[which]..end]);
                    want.extend_from_slice(&alone[which][held[which]..end]);
                    spans.push(Span { sequence: sequences[which], tokens, output: Output::All });
                    held[which] = end;
                }
                let mut got: Vec<Vec<u32>> = Vec::new();
                let mut take = |_: usize, row: &[f32]| got.push(row.iter().map(|x| x.to_bits()).collect());
                runner.step(&batch, &spans, &mut take, None).unwrap();
                assert!(got == want, "{shape:?}, {}, {threads} threads, {held:?}", kernel.name());
            }
        }
    }
}

#[test]
fn sequences_go_back_to_what_they_keep_and_forks_disturb_nobody() {
    for shape in hybrids() {
        let mut runner = runner(shape, bitnet_kernels::select(None).unwrap(), 2, None);
        let text = ids(0, 60);
        let whole = runner.sequences().open();
        let alone = feed(&mut runner, whole, &text);
        runner.sequences().close(whole);
        let trunk = runner.sequences().open();
        for (from, to) in [(0, 10), (10, 20), (20, 30)] {
            assert!(feed(&mut runner, trunk, &text[from..to]) == alone[from..to]);
            runner.sequences().keep(trunk).unwrap();
        }
        feed(&mut runner, trunk, &text[30..33]);
        // The newest two are kept; behind 33 positions it stands.
        let reach = |runner: &mut Runner<Cpu>, at| {
            let fork = runner.sequences().fork(trunk, at).unwrap();
            (fork, runner.sequences().len(fork).unwrap())
        };
        for (at, reached) in [(99, 33), (33, 33), (32, 30), (30, 30), (29, 20), (20, 20), (19, 0), (0, 0)] {
            let (fork, len) = reach(&mut runner, at);
            assert_eq!(len, reached, "a fork at {at}");
            let other = feed(&mut runner, fork, &[5, 6]);
            let fresh = runner.sequences().open();
            feed(&mut runner, fresh, &[&text[..reached], &[5]].concat());
            assert!(feed(&mut runner, fresh, &[6])[0] == other[1], "what a fork at {at} says");
            runner.sequences().close(fresh);
            runner.sequences().close(fork);
        }
        assert!(feed(&mut runner, trunk, &text[33..40]) == alone[33..40], "the trunk goes on");
        assert_eq!(runner.sequences().truncate(trunk, 25).unwrap(), 20);
        assert!(feed(&mut runner, trunk, &text[20..60]) == alone[20..60], "the trunk, truncated");
        assert_eq!(runner.sequences().truncate(trunk, 19).unwrap(), 0);
        assert!(feed(&mut runner, trunk, &text[..5]) == alone[..5], "from the beginning");
        runner.sequences().close(trunk);
        let after = runner.pages();
        assert_eq!((after.in_use, after.states), (0, 0));
        let memory = runner.model().device().pool().usage(Purpose::KvCache).current;
        assert_eq!(memory, after.free * after.page_bytes + after.free_states * after.state_bytes);
    }
}

#[test]
fn states_count_against_the_budget() {
    for shape in hybrids() {
        let kernel = bitnet_kernels::select(None).unwrap();
        let use_of = runner(shape, kernel, 1, None).pages();
        let told = Made::new(shape).config().recurrent_state() * size_of::<f32>();
        assert!(told > 0);
        assert_eq!((use_of.state_bytes, use_of.states), (told, 0));
        // One sequence needs a page, a state that it has, and one that it writes.
        let enough = use_of.page_bytes + 2 * use_of.state_bytes;
        let mut narrow = runner(shape, kernel, 1, Some(enough));
        let (a, b) = (narrow.sequences().open(), narrow.sequences().open());
        feed(&mut narrow, a, &[1, 2, 3]);
        feed(&mut narrow, a, &[4]);
        let full = narrow.pages();
        assert_eq!((full.in_use, full.states, full.free_states), (1, 1, 1));
        let span = [Span { sequence: b, tokens: 1, output: Output::None }];
        let error = narrow.step(&[1], &span, &mut |_: usize, _: &[f32]| {}, None).unwrap_err();
        assert!(matches!(error, DecoderError::Sequence(SequenceError::NoPages { .. })), "{error}");
        assert_eq!(narrow.pages(), full);
        narrow.sequences().close(a);
        feed(&mut narrow, b, &[1]);
        // With a byte less not even one sequence takes a second step.
        let mut short = runner(shape, kernel, 1, Some(enough - 1));
        let c = short.sequences().open();
        feed(&mut short, c, &[1]);
        let span = [Span { sequence: c, tokens: 1, output: Output::None }];
        let error = short.step(&[1], &span, &mut |_: usize, _: &[f32]| {}, None).unwrap_err();
        assert!(
            matches!(error, DecoderError::Sequence(SequenceError::NoStates { states: 2, .. })),
            "{error}"
        );
    }
}
