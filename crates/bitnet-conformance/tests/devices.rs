//! The suite on the devices that there are, on one that records, and on ones that are wrong.

// A test that cannot make its device has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bitnet_conformance::{Exactness, Made, Recording, Report, Shape, check};
use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_cpu::{Cpu, HeadChoice, KvType};
use bitnet_decoder::{DecoderError, Model, Runner, RunnerOptions};
use bitnet_device::{DeviceError, Output, PAGE, Span};
use bitnet_kernels::Kernel;
use bitnet_model::{ActivationChoice, Layout, Sparsity, Wishes};

const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Int8];

fn cpu(kernel: &'static Kernel, threads: usize, kv: KvType) -> Cpu {
    Cpu::new(kernel, Arc::new(ThreadPool::new(threads)), HybridMemoryPool::new())
        .with_kv(kv)
        .rows_per_chunk(32)
        .with_head(HeadChoice::Screened)
}

fn best() -> &'static Kernel {
    bitnet_kernels::select(None).unwrap()
}

fn conforms(report: &Report, told: &str) {
    let first: Vec<String> = report.differences.iter().take(5).map(ToString::to_string).collect();
    assert!(
        first.is_empty(),
        "{told}: {} of {} cases differ: {first:#?}",
        report.differences.len(),
        report.cases
    );
    assert!(report.cases > 1000, "{told}: {} cases", report.cases);
}

#[test]
fn the_cpu_conforms_on_every_kernel() {
    for (round, kernel) in bitnet_kernels::available().enumerate() {
        for (more, kv) in TYPES.into_iter().enumerate() {
            let threads = 1 + (round + more) % 3;
            let report = check(&cpu(kernel, threads, kv), kv, Exactness::Bits).unwrap();
            conforms(&report, &format!("{}, {threads} threads, {kv:?}", kernel.name()));
        }
    }
}

/// Nothing that a pass computes is read before it is submitted: here it would not be there.
#[test]
fn a_device_that_records_conforms() {
    let report = check(&Recording::new(cpu(best(), 2, KvType::F16)), KvType::F16, Exactness::Bits).unwrap();
    conforms(&report, "recording");
}

#[test]
fn a_device_that_rounds_otherwise_is_found() {
    let report = check(&cpu(best(), 1, KvType::F16), KvType::F32, Exactness::Bits).unwrap();
    assert!(!report.differences.is_empty());
    // What keeps no keys and values is right all the same.
    let wrong =
        |d: &bitnet_conformance::Difference| d.case.contains("attention") || d.case.contains("a model");
    assert!(report.differences.iter().all(wrong), "{:?}", report.differences);
    // The bound of a device that promises less than bits is told, and is kept or not.
    let near = |part| check(&cpu(best(), 1, KvType::F16), KvType::F32, Exactness::Within(part)).unwrap();
    let of_attention =
        |report: &Report| report.differences.iter().any(|d| d.case.starts_with("attention of"));
    assert!(!of_attention(&near(2.0)) && of_attention(&near(1e-6)));
}

fn runner(device: &Recording<Cpu>, source: &Made) -> Runner<Recording<Cpu>> {
    let wishes = Wishes { layout: Layout::Base3, sparsity: Sparsity::On, ..Wishes::default() };
    let threads = ThreadPool::new(1);
    let model =
        Model::load(source, device.clone(), &threads, ActivationChoice::Auto, &wishes, &|_, _| {}).unwrap();
    Runner::new(model, RunnerOptions { tokens: 4, context: 2 * PAGE, kv_bytes: None }).unwrap()
}

/// Each operation of a step fails once: the step ends with that error, and the next one gives what it would have given.
#[test]
fn a_failure_in_any_operation_leaves_every_sequence_as_it_was() {
    for shape in [Shape::ALL[0], Shape::ALL[1], Shape::ALL[5], Shape::ALL[6]] {
        let device = Recording::new(cpu(best(), 1, KvType::F16));
        let mut runner = runner(&device, &Made::new(shape));
        let trunk = runner.sequences().open();
        let ids: Vec<u32> = (0..PAGE as u32 + 9).map(|i| i * 7 % 40).collect();
        let fill = Span { sequence: trunk, tokens: PAGE - 1, output: Output::None };
        runner.step(&ids[..PAGE - 1], &[fill], &mut |_: usize, _: &[f32]| {}, None).unwrap();
        // Recurrent blocks can be forked where they stand, and go back to what was kept.
        let at = if shape.hybrid { PAGE - 1 } else { PAGE - 4 };
        let fork = runner.sequences().fork(trunk, at).unwrap();
        for sequence in [trunk, fork] {
            runner.sequences().keep(sequence).unwrap();
        }
        // The trunk enters a new page, the fork copies a shared one.
        let spans =
            [(trunk, 3), (fork, 2)].map(|(sequence, tokens)| Span { sequence, tokens, output: Output::All });
        let (mut failures, mut want) = (0, None);
        loop {
            let before = (
                runner.pages(),
                runner.sequences().len(trunk).unwrap(),
                runner.sequences().len(fork).unwrap(),
            );
            device.fail(Some(failures));
            let mut rows = Vec::new();
            let mut take = |_: usize, row: &[f32]| rows.extend(row.iter().map(|x| x.to_bits()));
            match runner.step(&ids[..5], &spans, &mut take, None) {
                Err(DecoderError::Device(DeviceError::Failed { reason, .. })) => {
                    assert_eq!(reason, "it was told to")
                }
                Err(error) => panic!("{error}"),
                Ok(()) => {
                    assert_eq!(*want.get_or_insert_with(|| rows.clone()), rows);
                    break;
                }
            }
            let after = (
                runner.pages(),
                runner.sequences().len(trunk).unwrap(),
                runner.sequences().len(fork).unwrap(),
            );
            assert_eq!((before.1, before.2), (after.1, after.2));
            // A shared page that was copied before the failure is two pages now, and both hold what they held.
            assert!(after.0.in_use <= before.0.in_use + 1, "{before:?} {after:?}");
            // Nothing fails: the step gives what it gives elsewhere, and is taken back.
            device.fail(None);
            let mut rows = Vec::new();
            let mut take = |_: usize, row: &[f32]| rows.extend(row.iter().map(|x| x.to_bits()));
            runner.step(&ids[..5], &spans, &mut take, None).unwrap();
            assert_eq!(
                *want.get_or_insert_with(|| rows.clone()),
                rows,
                "after the failure of operation {failures}"
            );
            assert_eq!(runner.sequences().truncate(trunk, PAGE - 1).unwrap(), PAGE - 1);
            assert_eq!(runner.sequences().truncate(fork, at).unwrap(), at);
            failures += 1;
        }
        assert!(failures > 30, "{failures} operations");
        assert_eq!(want.unwrap().len(), 5 * 40);
    }
}

#[test]
fn nobody_looks_so_nothing_is_recorded_for_an_observer() {
    let device = Recording::new(cpu(best(), 1, KvType::F16));
    let mut runner = runner(&device, &Made::new(Shape::ALL[0]));
    let sequence = runner.sequences().open();
    let span = [Span { sequence, tokens: 1, output: Output::Last }];
    let mut operations = |observer: Option<&mut dyn bitnet_device::Observe>| {
        let before = device.operations();
        runner.step(&[1], &span, &mut |_: usize, _: &[f32]| {}, observer).unwrap();
        device.operations() - before
    };
    operations(None);
    let unseen = operations(None);
    let mut gates = Vec::new();
    let mut gate = bitnet_device::Looking::at(
        |stage| matches!(stage, bitnet_device::Stage::Gate(1)),
        |_, rows: &[f32]| gates.extend_from_slice(rows),
    );
    assert_eq!(operations(Some(&mut gate)), unseen + 1);
    assert_eq!(gates.len(), 256);
}
