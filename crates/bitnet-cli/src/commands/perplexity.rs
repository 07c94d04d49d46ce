//! `bitnet perplexity MODEL --file text.txt`.

use std::time::Instant;

use bitnet_inference::{EngineError, PerplexityOptions, perplexity};
use bitnet_text::EncodeOptions;
use serde::Serialize;

use crate::{
    args::PerplexityArgs,
    failure::{Failure, Result},
    files, human,
    human::Pairs,
    load,
    progress::{Progress, Unit},
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
        return Err(Failure::new(format_args!("{} holds no text to score", args.file.display())));
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let window = args.window.map_or(WINDOW.min(engine.info().context), |n| n as usize);
    // Of a window, all but its first token can be scored, so a longer stride would leave tokens out.
    let most = window.saturating_sub(1);
    let stride = args.stride.map_or(most, |n| (n as usize).min(most));
    let mut session = engine.session().map_err(load::failure)?;
    let progress = Progress::new("windows", 0, Unit::Items);
    let start = Instant::now();
    let options = PerplexityOptions { window, stride, bos };
    let result =
        perplexity(&mut session, &ids, &options, |done, total| progress.set(done as u64, total as u64));
    drop(progress);
    let result = result.map_err(load::failure)?;
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

fn words(report: &Report) -> String {
    let mut pairs = Pairs::new();
    pairs.row("perplexity", format_args!("{:.4}", report.perplexity));
    pairs.row("mean nll", format_args!("{:.5} nats per token", report.mean_nll));
    let (scored, all) = (human::count(report.tokens_scored as u64), human::count(report.tokens as u64));
    pairs.row("scored", format_args!("{scored} of {all} tokens"));
    pairs.row(
        "windows",
        format_args!("{} of {} tokens, stride {}", report.windows.len(), report.window, report.stride),
    );
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
