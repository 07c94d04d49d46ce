//! `bitnet evaluate MODEL --text FILE [--against MODEL] [--tasks FILE.jsonl]`.

use std::{path::Path, time::Instant};

use bitnet_evaluation::{
    Comparison, EvaluationError, PerplexityOptions, Question, TaskErrorKind, TaskResult, compare,
    multiple_choice, perplexity as score_text, read_questions, same_vocabulary,
};
use bitnet_inference::{EngineError, InferenceEngine};
use bitnet_text::EncodeOptions;

use crate::{
    args::{EngineArgs, EvaluateArgs},
    failure::{Failure, Result},
    files, load,
    progress::{ProgressMeter, Unit},
    terminal,
};

use super::perplexity;

mod report;

use report::{ComparisonReport, EvaluationReport, Score, TaskReport, TextReport};

/// The window when nobody says: what the field's tables use most.
const WINDOW: usize = 512;

pub fn run(args: &EvaluateArgs) -> Result<()> {
    // Files that cannot be read are told before a model is loaded.
    let text = args.text.as_deref().map(read_text).transpose()?;
    let tasks: Vec<_> = args.tasks.iter().map(|file| Ok((file, questions(file)?))).collect::<Result<_>>()?;
    let mut engine_args = args.engine.clone();
    if let (None, Some(window)) = (engine_args.context, args.window.filter(|_| tasks.is_empty())) {
        engine_args.context = Some(window);
    }
    let start = Instant::now();
    let engine = load::for_evaluation(&args.model, &engine_args)?;
    let text = match text {
        Some(text) => Some(judge_text(&engine, &text, args, &engine_args)?),
        None => None,
    };
    let mut reports = Vec::with_capacity(tasks.len());
    for (file, questions) in tasks {
        let progress = ProgressMeter::new("questions", 0, Unit::Items);
        let mut session = engine.session().map_err(load::failure)?;
        let tell = |done, total| progress.set(done as u64, total as u64);
        let result = multiple_choice(&mut session, &questions, &args.delimiter, tell);
        drop(progress);
        let result: TaskResult = result.map_err(|e| task_failure(file, e))?;
        reports.push(TaskReport::new(file, result));
    }
    let info = engine.info();
    let report = EvaluationReport {
        model: args.model.to_string(),
        text,
        tasks: reports,
        kernel: info.kernel,
        threads: info.threads,
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.json { terminal::print_json(&report) } else { terminal::print(&report.words()) }
}

fn read_text(path: &Path) -> Result<String> {
    let text = files::read_text(path)?;
    if text.is_empty() {
        return Err(Failure::new(format_args!("{} holds no text to score", files::shown(path))));
    }
    Ok(text)
}

fn questions(path: &Path) -> Result<Vec<Question>> {
    read_questions(&files::read_text(path)?).map_err(|e| task_failure(path, e.into()))
}

/// Errors of questions name their line; the file is known here.
fn task_failure(path: &Path, error: EvaluationError) -> Failure {
    match error {
        EvaluationError::Task(error) => {
            let told = Failure::new(format_args!("{}, {error}", path.display()));
            match error.kind {
                TaskErrorKind::TooLong { needed, .. } => told.cure(format_args!("--context {needed}")),
                _ => told,
            }
        }
        other => load::evaluation_failure(other),
    }
}

fn judge_text(
    engine: &InferenceEngine,
    text: &str,
    args: &EvaluateArgs,
    engine_args: &EngineArgs,
) -> Result<TextReport> {
    let other = args.against.as_ref().map(|name| load::for_evaluation(name, engine_args)).transpose()?;
    let (ids, bos) = tokens(engine, other.as_ref(), text)?;
    let context = other.as_ref().map_or(usize::MAX, |o| o.info().context).min(engine.info().context);
    let window = args.window.map_or(WINDOW.min(context), |n| n as usize);
    let stride = perplexity::stride(window, args.stride)?;
    let options = PerplexityOptions { window, stride, bos };
    let progress = ProgressMeter::new("windows", 0, Unit::Items);
    let tell = |done, total| progress.set(done as u64, total as u64);
    let mut session = engine.session().map_err(load::failure)?;
    let (score, against) = match &other {
        None => (score_text(&mut session, &ids, &options, tell).map_err(load::evaluation_failure)?, None),
        Some(other) => {
            let mut theirs = other.session().map_err(load::failure)?;
            let told: Comparison =
                compare(&mut session, &mut theirs, &ids, &options, tell).map_err(load::evaluation_failure)?;
            (told.model.clone(), Some(told))
        }
    };
    drop(progress);
    Ok(TextReport {
        score: Score::new(&score),
        tokens: ids.len(),
        window,
        stride,
        windows: score.windows,
        against: args
            .against
            .as_ref()
            .map(ToString::to_string)
            .zip(against)
            .map(|(name, told)| ComparisonReport::new(name, &told)),
    })
}

/// The text's tokens, and what is put before every window.
fn tokens(
    engine: &InferenceEngine,
    other: Option<&InferenceEngine>,
    text: &str,
) -> Result<(Vec<u32>, Option<u32>)> {
    let tokenizer = engine.tokenizer().ok_or_else(|| load::failure(EngineError::NoTokenizer))?;
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let ids = match other {
        Some(other) => same_vocabulary(engine, other, text).map_err(load::evaluation_failure)?,
        None => {
            let plain = EncodeOptions { add_special: false, parse_special: false };
            tokenizer.encode(text, plain).map_err(|e| load::failure(e.into()))?
        }
    };
    Ok((ids, bos))
}
