//! `bitnet quantize MODEL -o OUT.bitnet`: a float model to small integers and ternary planes.

use std::path::Path;

use bitnet_calibration::{
    Grid, Method, QuantizeError, QuantizeOptions, QuantizeStep, Scheme, Windows, quantize,
};
use bitnet_inference::{DEFAULT_CONTEXT, vocabulary};
use bitnet_model::Projection;
use bitnet_quant::Granularity;
use bitnet_source::Source;
use bitnet_text::{EncodeOptions, Tokenizer};

use crate::{
    args::{Group, QuantizeArgs},
    failure::{Failure, Result, sentence},
    files,
    interrupt::interruptible,
    load, machine,
    progress::{ProgressMeter, Unit},
    terminal,
};

mod job;
mod tables;

/// What nobody says; the template of a job says the same.
const GROUP: Group = Group::Columns(64);
const WINDOW: u32 = 256;
const TOKENS: u32 = 32_768;
const HELD_OUT_TOKENS: u32 = 8192;
/// What is held out of calibration text when there is no other.
const HELD_OUT_SHARE: usize = 8;

pub fn run(args: &QuantizeArgs) -> Result<()> {
    if let Some(path) = &args.init {
        return job::init(path);
    }
    let given = args;
    let args = &match &args.job {
        Some(path) => job::filled(args.clone(), path)?,
        None => args.clone(),
    };
    warn_of_text(given, args);
    let (Some(model), Some(output)) = (args.model.name(), &args.output) else {
        return Err(
            Failure::usage("a model to read and a file to write are needed").cure("MODEL -o OUT.bitnet")
        );
    };
    // Before minutes of work.
    files::check_output_file(output, args.force)?;
    files::warn_of_ending(output, "bitnet", "a .bitnet file");
    let source = load::source(model, false)?;
    let options = options(args, &source)?;
    warn_of_scheme(given, options.scheme);
    let (calibration, held_out) = texts(args, &source)?;
    let report = interruptible(|guard| {
        let mut shown: Option<(QuantizeStep, ProgressMeter)> = None;
        let mut look = |step: QuantizeStep, done: usize, total: usize| {
            if shown.as_ref().is_none_or(|(now, _)| *now != step) {
                shown = Some((step, ProgressMeter::new(label(step), total as u64, Unit::Items)));
            }
            if let Some((_, bar)) = &shown {
                bar.set(done as u64, total as u64);
            }
            guard.give_way();
        };
        quantize(&source, output, &calibration, &held_out, &options, &mut look).map_err(failure)
    })?;
    if args.json {
        return terminal::print_json(&tables::told(&report, output, &options));
    }
    terminal::print(&tables::words(&report, output))?;
    report.notes.iter().for_each(|note| terminal::warning(format_args!("{note}")));
    Ok(())
}

/// Says which flags tell how a text is looked at where there is none. A job tells it in any case, so only flags count.
fn warn_of_text(given: &QuantizeArgs, args: &QuantizeArgs) {
    let (calibration, held_out) = (args.calibration.is_some(), args.held_out.is_some());
    let flags = [
        ("--window", given.window.is_some() && !calibration && !held_out, "no text is given (--calibration)"),
        ("--tokens", given.tokens.is_some() && !calibration, "no text is given (--calibration)"),
        ("--damping", given.damping.is_some() && !calibration, "no text is given (--calibration)"),
        (
            "--held-out-tokens",
            given.held_out_tokens.is_some() && !held_out,
            "no such text is given (--held-out)",
        ),
    ];
    for (flag, _, why) in flags.into_iter().filter(|(_, idle, _)| *idle) {
        load::idle(flag, why);
    }
}

/// Says which flags the method does not look at.
fn warn_of_scheme(given: &QuantizeArgs, scheme: Scheme) {
    if given.damping.is_some() && !scheme.feedback {
        load::idle("--damping", "the method has no feedback");
    }
    let blocks = matches!(scheme.grid, Grid::Int4 | Grid::Int8);
    if given.group.is_some() && blocks && given.budget.is_none() && given.bits_per_weight.is_none() {
        load::idle("--group", "blocks of integers have 32 weights each");
    }
}

fn label(step: QuantizeStep) -> &'static str {
    match step {
        QuantizeStep::Measuring => "measuring each matrix",
        QuantizeStep::Planning => "planning",
        QuantizeStep::Quantizing => "quantizing",
    }
}

fn options(args: &QuantizeArgs, source: &Source) -> Result<QuantizeOptions> {
    let method = match &args.method {
        Some(word) => word.parse().map_err(failure)?,
        // What loses least for its bits on models that were never trained ternary; without text nothing smaller is safe.
        None if args.calibration.is_some() => Method::Int4Gptq,
        None => Method::Int8,
    };
    let Scheme { grid, feedback } = method.scheme();
    Ok(QuantizeOptions {
        scheme: Scheme { grid, feedback },
        granularity: match args.group.unwrap_or(GROUP) {
            Group::Tensor => Granularity::Tensor,
            Group::Row => Granularity::Row,
            Group::Columns(n) => Granularity::Group(n),
        },
        budget: budget(args, source)?,
        tables: match args.tables.as_deref().unwrap_or_default() {
            "int8" => Some(Grid::Int8),
            "int4" => Some(Grid::Int4),
            _ => None,
        },
        damping: args.damping,
        sensitivity: args.sensitivity,
        threads: args.threads.map(machine::threads),
        force: args.force,
    })
}

/// Bytes of all projections together.
fn budget(args: &QuantizeArgs, source: &Source) -> Result<Option<u64>> {
    let Some(bits) = args.bits_per_weight else { return Ok(args.budget) };
    let config = source.config();
    let of = |p: &Projection| p.shape(config).into_iter().map(|n| n as f64).product::<f64>();
    let weights = (0..config.layers).flat_map(|layer| Projection::of(config, layer)).map(of).sum::<f64>();
    Ok(Some((weights * bits / 8.0) as u64))
}

/// Calibration and held-out text in windows.
fn texts(args: &QuantizeArgs, source: &Source) -> Result<(Windows, Windows)> {
    if args.calibration.is_none() && args.held_out.is_none() {
        return match args.sensitivity || args.budget.is_some() || args.bits_per_weight.is_some() {
            true => Err(Failure::usage("measuring needs text").cure("--calibration text.txt")),
            false => Ok(Default::default()),
        };
    }
    let tokenizer = vocabulary::tokenizer(source.checkpoint()).map_err(load::failure)?;
    let tokenizer =
        tokenizer.ok_or_else(|| Failure::new("the model has no tokenizer, so no text can be looked at"))?;
    let window = (args.window.unwrap_or(WINDOW) as usize).min(source.config().context).min(DEFAULT_CONTEXT);
    let windows = |path: &Path, most: u32| -> Result<Windows> {
        let ids = ids(&tokenizer, path, most as usize)?;
        Ok(Windows::new(&ids, window, tokenizer.bos().filter(|_| tokenizer.adds_bos())))
    };
    let mut calibration = match &args.calibration {
        Some(path) => windows(path, args.tokens.unwrap_or(TOKENS))?,
        None => Windows::default(),
    };
    let held_out = match &args.held_out {
        Some(path) => windows(path, args.held_out_tokens.unwrap_or(HELD_OUT_TOKENS))?,
        None => calibration.split_off(HELD_OUT_SHARE),
    };
    Ok((calibration, held_out))
}

fn ids(tokenizer: &Tokenizer, path: &Path, most: usize) -> Result<Vec<u32>> {
    let text = files::read_text(path)?;
    // No token is longer than this many bytes on average, so the rest of a large file need not be cut.
    const BYTES: usize = 64;
    let end =
        (most.saturating_mul(BYTES)..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(text.len());
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let mut ids = tokenizer.encode(&text[..end], plain).map_err(|e| load::failure(e.into()))?;
    ids.truncate(most);
    if ids.len() < 2 {
        return Err(Failure::new(format_args!("{} holds no text to look at", files::shown(path))));
    }
    Ok(ids)
}

fn failure(error: QuantizeError) -> Failure {
    let told = Failure::new(sentence(&error));
    match error {
        QuantizeError::Text { .. } => told.cure("--calibration text.txt"),
        QuantizeError::Blocks { table, .. } => {
            told.cure(if table { "--tables keep" } else { "--method two-planes" })
        }
        QuantizeError::Budget { least, .. } => told.cure(format_args!("--budget {least}B")),
        _ => told,
    }
}
