//! `bitnet convert IN OUT --to FORMAT`.

use std::{path::Path, sync::Arc};

use bitnet_convert::{ConvertError, ConvertOptions, ConvertProgress, ConvertReport, Target, convert};
use serde::Serialize;

use crate::{
    args::{ConvertArgs, ModelName},
    failure::{Failure, Result, sentence},
    files,
    human::{self, Pairs},
    interrupt::interruptible,
    load,
    progress::{ProgressMeter, Unit},
    resolve, terminal,
};

#[derive(Serialize)]
struct Told<'a> {
    output: String,
    target: String,
    matrices: u64,
    trits: u64,
    trits_equal: u64,
    scales: u64,
    scales_equal: u64,
    max_scale_loss: f32,
    dense: u64,
    dense_equal: u64,
    vectors: u64,
    vectors_equal: u64,
    bytes_written: u64,
    notes: &'a [String],
}

/// The model to read and what to write. Behind -m, the first word is what to write.
fn places(args: &ConvertArgs) -> Result<(&ModelName, &Path)> {
    match (&args.model, &args.first, &args.second) {
        (Some(model), Some(output), None) => Ok((model, output.path())),
        (None, Some(model), Some(output)) => Ok((model, output)),
        // The arguments have been refused.
        _ => Err(Failure::usage("a model to read and what to write are needed")
            .cure("bitnet convert IN OUT --to FORMAT")),
    }
}

pub fn run(args: &ConvertArgs) -> Result<()> {
    let (model, output) = places(args)?;
    let input = resolve::model(model)?;
    let target: Target = args.to.parse().map_err(failure)?;
    if output == Path::new("-") {
        return Err(Failure::usage("a model is not written to standard output").cure("give it a name"));
    }
    if args.i2s_64 {
        // Opening it says whether the flag means anything to it.
        load::checkpoint(model, true)?;
    }
    match target.to_string().split('-').next() {
        Some("hf") => files::warn_of_ending(output, "", "a directory"),
        Some("gguf") => files::warn_of_ending(output, "gguf", "a GGUF file"),
        _ => files::warn_of_ending(output, "bitnet", "a .bitnet file"),
    }
    let report = interruptible(|guard| {
        let progress = ProgressMeter::new("converting", 0, Unit::Bytes);
        let look = move |ConvertProgress { done, total }| {
            progress.set(done, total);
            guard.give_way();
        };
        let options =
            ConvertOptions { i2s_64: args.i2s_64, force: args.force, progress: Some(Arc::new(look)) };
        convert(&input, output, target, &options).map_err(failure)
    })?;
    if args.json {
        return terminal::print_json(&told(&report, output, target));
    }
    terminal::print(&words(&report, output))?;
    for note in &report.notes {
        terminal::warning(format_args!("{note}"));
    }
    Ok(())
}

fn failure(error: ConvertError) -> Failure {
    Failure::new(sentence(&error))
}

fn told<'a>(report: &'a ConvertReport, output: &Path, target: Target) -> Told<'a> {
    Told {
        output: output.display().to_string(),
        target: target.to_string(),
        matrices: report.matrices,
        trits: report.trits,
        trits_equal: report.trits_equal,
        scales: report.scales,
        scales_equal: report.scales_equal,
        max_scale_loss: report.max_scale_loss,
        dense: report.dense,
        dense_equal: report.dense_equal,
        vectors: report.vectors,
        vectors_equal: report.vectors_equal,
        bytes_written: report.bytes_written,
        notes: &report.notes,
    }
}

/// The proof: what was written, opened again and compared with what was read.
fn words(report: &ConvertReport, output: &Path) -> String {
    let of = |equal: u64, all: u64| format!("{} of {} equal", human::count(equal), human::count(all));
    let mut pairs = Pairs::new();
    pairs.row("written", format_args!("{}, {}", output.display(), human::bytes(report.bytes_written)));
    pairs.row(
        "read back",
        format_args!(
            "{} ternary matrices, {} dense",
            human::count(report.matrices),
            human::count(report.dense)
        ),
    );
    if report.dense > 0 {
        pairs.row("dense matrices", of(report.dense_equal, report.dense));
    }
    if report.matrices == 0 {
        pairs.row("norms, biases", of(report.vectors_equal, report.vectors));
        return pairs.text();
    }
    pairs.row("trits", of(report.trits_equal, report.trits));
    let loss = match report.max_scale_loss {
        loss if loss > 0.0 => format!(", the others differ by a factor of at most 1 + {loss:.1e}"),
        _ => String::new(),
    };
    pairs.row("scales", of(report.scales_equal, report.scales) + &loss);
    pairs.row("norms, biases", of(report.vectors_equal, report.vectors));
    pairs.text()
}
