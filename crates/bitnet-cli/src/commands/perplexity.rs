//! `bitnet perplexity MODEL --file text.txt`.

use std::time::Instant;

use bitnet_evaluation::{PerplexityOptions, perplexity};
use bitnet_inference::EngineError;
use bitnet_text::EncodeOptions;
use serde::Serialize;

use crate::{
    args::PerplexityArgs,
    failure::{Failure, Result},
    files, human,
    human::Pairs,
    load,
    progress::{ProgressMeter, Unit},
    terminal,
};

/// The window when nobody says: what the field's tables use most.
const WINDOW: usize = 512;

#[derive(Serialize)]
struct Report {
    mean_nll: f64,
    perplexity: f64,
    tokens: usize,
    tokens_scored: usize,
    window: usize,
    stride: usize,
    windows: Vec<f64>,
    kernel: &'static str,
    threads: usize,
    seconds: f64,
}

pub fn run(args: &PerplexityArgs) -> Result<()> {
    let text = files::read_text(&args.file)?;
    let mut engine_args = args.engine.clone();
    if let (None, Some(window)) = (engine_args.context, args.window) {
        engine_args.context = Some(window);
    }
    let engine = load::for_evaluation(&args.model, &engine_args)?;
    let tokenizer = engine.tokenizer().ok_or_else(|| load::failure(EngineError::NoTokenizer))?;
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let ids = tokenizer.encode(&text, plain).map_err(|e| load::failure(e.into()))?;
    if ids.is_empty() {
        return Err(Failure::new(format_args!("{} holds no text to score", files::shown(&args.file))));
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let window = args.window.map_or(WINDOW.min(engine.info().context), |n| n as usize);
    let stride = stride(window, args.stride)?;
    let mut session = engine.session().map_err(load::failure)?;
    let progress = ProgressMeter::new("windows", 0, Unit::Items);
    let start = Instant::now();
    let options = PerplexityOptions { window, stride, bos };
    let result =
        perplexity(&mut session, &ids, &options, |done, total| progress.set(done as u64, total as u64));
    drop(progress);
    let result = result.map_err(load::evaluation_failure)?;
    let info = engine.info();
    let report = Report {
        mean_nll: result.mean_nll,
        perplexity: result.perplexity,
        tokens: ids.len(),
        tokens_scored: result.tokens_scored,
        window,
        stride,
        windows: result.windows,
        kernel: info.kernel,
        threads: info.threads,
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.json { terminal::print_json(&report) } else { terminal::print(&words(&report)) }
}

/// By how much windows of `window` tokens move. Of a window, all but its first token can be scored, so windows that do not overlap move
/// by one less than their length.
pub fn stride(window: usize, asked: Option<u32>) -> Result<usize> {
    let stride = asked.map_or(window, |n| n as usize);
    if stride > window {
        return Err(Failure::usage(format_args!(
            "--stride {stride} is longer than the window of {window} tokens: what lies between would not be scored"
        ))
        .cure(format_args!("--stride {window} or less, or a longer --window")));
    }
    Ok(stride.min(window.saturating_sub(1)))
}

/// The rows that say what of a text was scored.
pub fn coverage(pairs: &mut Pairs, scored: usize, all: usize, windows: usize, window: usize, stride: usize) {
    let counted = |n: usize| human::count(n as u64);
    pairs.row("scored", format_args!("{} of {} tokens", counted(scored), counted(all)));
    if windows == 1 && all < window {
        pairs.row("windows", format_args!("1, shorter than the {} tokens that it may have", counted(window)));
        return;
    }
    pairs.row(
        "windows",
        format_args!("{} of {} tokens, stride {}", counted(windows), counted(window), counted(stride)),
    );
    // The first token of a text without one that begins it is not scored, and not left out.
    let left = all - scored;
    if left > 1 {
        pairs.row(
            "left out",
            format_args!(
                "{} tokens at the end, which fill no window; a smaller --window takes more of them",
                counted(left)
            ),
        );
    }
}

fn words(report: &Report) -> String {
    let mut pairs = Pairs::new();
    pairs.row("perplexity", format_args!("{:.4}", report.perplexity));
    pairs.row("mean nll", format_args!("{:.5} nats per token", report.mean_nll));
    let Report { tokens, tokens_scored, window, stride, .. } = *report;
    coverage(&mut pairs, tokens_scored, tokens, report.windows.len(), window, stride);
    let rate = report.tokens_scored as f64 / report.seconds.max(1e-9);
    pairs.row(
        "time",
        format_args!(
            "{} ({rate:.0} tokens/s, {} threads, {})",
            human::seconds(report.seconds),
            report.threads,
            report.kernel
        ),
    );
    pairs.text()
}
