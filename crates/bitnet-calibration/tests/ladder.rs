//! The ladder of post-training quantization on a float twin that was trained with this project's own trainer, and what a
//! quantized model must be whatever its quality.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bitnet_calibration::{Grid, Method, QuantizeError, QuantizeOptions, QuantizeReport, Windows, quantize};
use bitnet_format::Checkpoint;
use bitnet_inference::vocabulary;
use bitnet_model::Part;
use bitnet_quant::Granularity;
use bitnet_source::Source;
use bitnet_text::EncodeOptions;

const TWIN: &str = "float-twin";

fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}

fn open(path: &Path) -> Source {
    Source::new(Checkpoint::open(path, &Default::default()).unwrap()).unwrap()
}

/// The text of a file in windows of the length that the twin was trained with.
fn windows(source: &Source, text: &str) -> Windows {
    let tokenizer = vocabulary::tokenizer(source.checkpoint()).unwrap().unwrap();
    let text = fs::read_to_string(data(text)).unwrap();
    let plain = EncodeOptions { add_special: false, parse_special: false };
    Windows::new(&tokenizer.encode(&text, plain).unwrap(), 64, None)
}

fn with(method: Method, output: &Path, more: QuantizeOptions) -> Result<QuantizeReport, QuantizeError> {
    let source = open(&data(TWIN));
    let calibration = windows(&source, "text/tinyshakespeare-6000.txt");
    let held_out = windows(&source, "float-twin/held-out.txt");
    let options = QuantizeOptions { scheme: method.scheme(), ..more };
    quantize(&source, output, &calibration, &held_out, &options, &mut |_, _, _| {})
}

/// What a method adds to the loss on held-out text.
fn gap(method: Method, granularity: Granularity) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let more = QuantizeOptions { granularity, ..QuantizeOptions::default() };
    let report = with(method, &directory.path().join("out.bitnet"), more).unwrap();
    report.loss_after.unwrap() - report.loss_before.unwrap()
}

#[test]
fn the_ladder_keeps_its_order() {
    for granularity in [Granularity::Group(64), Granularity::Row] {
        let of = |method| gap(method, granularity);
        let (absmean, least) = (of(Method::Absmean), of(Method::LeastSquares));
        let (gptq, planes, both) = (of(Method::Gptq), of(Method::TwoPlanes), of(Method::TwoPlanesGptq));
        println!(
            "{granularity:?}: {absmean:.4} > {least:.4} > {gptq:.4} > {planes:.4}, with feedback {both:.4}"
        );
        assert!(absmean > least && least > gptq && gptq > planes, "the order of {granularity:?}");
        assert!(planes <= 0.04 && both <= 0.04, "{granularity:?}: two planes are nearly lossless");
    }
    let (four, eight) = (gap(Method::Int4, Granularity::Row), gap(Method::Int8, Granularity::Row));
    assert!(eight.abs() < 0.002 && four < 0.04, "{four} {eight}");
}

#[test]
fn a_budget_is_kept_and_spent_where_it_helps() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.bitnet");
    let weights = with(Method::Int8, &output, QuantizeOptions::default())
        .unwrap()
        .matrices
        .iter()
        .map(|m| (m.shape[0] * m.shape[1]) as u64)
        .sum::<u64>();
    // Three and a half bits for each weight.
    let budget = weights * 7 / 16;
    let more = QuantizeOptions { budget: Some(budget), force: true, ..QuantizeOptions::default() };
    let report = with(Method::Gptq, &output, more).unwrap();
    let spent: u64 = report.matrices.iter().map(|m| m.bytes).sum();
    assert!(spent <= budget && spent > budget * 9 / 10, "{spent} of {budget}");
    assert_eq!(report.plan.as_ref().unwrap().bytes, spent);
    assert_eq!(report.sensitivities.len(), report.matrices.len());
    let mixed = report.loss_after.unwrap() - report.loss_before.unwrap();
    let one_plane = gap(Method::Gptq, Granularity::Group(64));
    assert!(mixed < 0.8 * one_plane, "{mixed} after {one_plane}");
    let forms = |grid| report.matrices.iter().filter(|m| m.grid == grid).count();
    assert!(forms(Grid::Ternary) > 0 && forms(Grid::Ternary) < report.matrices.len());
    let small = QuantizeOptions { budget: Some(1000), force: true, ..QuantizeOptions::default() };
    assert!(matches!(with(Method::Gptq, &output, small), Err(QuantizeError::Budget { .. })));
}

#[test]
fn threads_change_no_byte() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = |threads| {
        let output = directory.path().join(format!("{threads}.bitnet"));
        let more = QuantizeOptions {
            threads: Some(threads),
            tables: Some(Grid::Int8),
            ..QuantizeOptions::default()
        };
        with(Method::TwoPlanesGptq, &output, more).unwrap();
        fs::read(output).unwrap()
    };
    assert!(bytes(1) == bytes(3), "the files differ");
}

#[test]
fn damping_is_what_suits_the_grid_or_what_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = |method: Method, granularity, damping| {
        let output = directory.path().join("out.bitnet");
        with(
            method,
            &output,
            QuantizeOptions { granularity, damping, force: true, ..QuantizeOptions::default() },
        )
        .unwrap();
        fs::read(output).unwrap()
    };
    let group = Granularity::Group(64);
    let cases = [
        (Method::Gptq, group, 1.0),
        (Method::Gptq, Granularity::Row, 10.0),
        (Method::TwoPlanesGptq, group, 0.01),
        (Method::Int4Gptq, group, 0.01),
    ];
    for (method, granularity, own) in cases {
        let left = bytes(method, granularity, None);
        assert!(left == bytes(method, granularity, Some(own)), "{method} {granularity:?}");
        assert!(left != bytes(method, granularity, Some(0.3)), "{method} {granularity:?}");
    }
}

#[test]
fn what_is_left_alone_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.bitnet");
    with(Method::TwoPlanes, &output, QuantizeOptions::default()).unwrap();
    let (before, after) = (open(&data(TWIN)), open(&output));
    assert!(!after.config().trained_int8);
    for part in before.vectors() {
        assert_eq!(before.vector(part).unwrap(), after.vector(part).unwrap(), "{part:?}");
    }
    assert_eq!(before.stored_as(Part::Embedding), after.stored_as(Part::Embedding));
    assert_eq!(after.stored_as(Part::Weight(0, bitnet_model::Projection::Down)), "t2 strips, two planes");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.bitnet");
    let none = Windows::default();
    let refusal = |model: &str, method: Method| {
        let options = QuantizeOptions { scheme: method.scheme(), ..QuantizeOptions::default() };
        let error = quantize(&open(&data(model)), &output, &none, &none, &options, &mut |_, _, _| {});
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "something is left of the output");
        error.unwrap_err().to_string()
    };
    let ternary = refusal("oracle/llama-b-bitlinear-packed", Method::LeastSquares);
    assert!(ternary.contains("ternary already"), "{ternary}");
    let text = refusal(TWIN, Method::Gptq);
    assert!(text.contains("calibration text of at least 64 tokens"), "{text}");
    // 48 columns are no whole number of blocks.
    let blocks = refusal("oracle-made/dense-llama-f16", Method::Int4);
    assert!(blocks.contains("down_proj") && blocks.contains("rows of 48"), "{blocks}");
    let group = QuantizeOptions { granularity: Granularity::Group(0), ..QuantizeOptions::default() };
    let group = with(Method::TwoPlanes, &output, group).unwrap_err();
    assert!(group.to_string().contains("size of a group"), "{group}");
    fs::write(&output, "here first").unwrap();
    let there = with(Method::TwoPlanes, &output, QuantizeOptions::default()).unwrap_err();
    assert!(there.to_string().contains("exists already"), "{there}");
    assert_eq!(fs::read_to_string(&output).unwrap(), "here first");
}
