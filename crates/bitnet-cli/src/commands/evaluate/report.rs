//! What `evaluate` prints: tables for people, the same as JSON for programs.

use std::path::Path;

use bitnet_evaluation::{Answer, Comparison, Distance, Perplexity, TaskResult};
use serde::Serialize;

use crate::{
    human::{self, Pairs, TextTable},
    terminal::{self, Style},
};

use super::super::perplexity::coverage;

#[derive(Serialize)]
pub struct EvaluationReport {
    pub model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskReport>,
    pub kernel: &'static str,
    pub threads: usize,
    pub seconds: f64,
}

/// What one model scored on a text.
#[derive(Serialize)]
pub struct TextReport {
    #[serde(flatten)]
    pub score: Score,
    pub tokens: usize,
    pub window: usize,
    pub stride: usize,
    pub windows: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<ComparisonReport>,
}

#[derive(Clone, Serialize)]
pub struct Score {
    mean_nll: f64,
    perplexity: f64,
    bits_per_byte: Option<f64>,
    tokens_scored: usize,
}

impl Score {
    pub fn new(p: &Perplexity) -> Self {
        Self {
            mean_nll: p.mean_nll,
            perplexity: p.perplexity,
            bits_per_byte: p.bits_per_byte,
            tokens_scored: p.tokens_scored,
        }
    }
}

/// How two models differ on a text.
#[derive(Serialize)]
pub struct ComparisonReport {
    reference: String,
    reference_score: Score,
    loss_difference: f64,
    loss_difference_error: f64,
    top1_agreement: f64,
    kl: Spread,
    logit_difference: LogitSpread,
}

#[derive(Serialize)]
struct Spread {
    mean: f64,
    median: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct LogitSpread {
    rms: f64,
    median: f64,
    p99: f64,
    max: f64,
}

impl ComparisonReport {
    pub fn new(reference: String, c: &Comparison) -> Self {
        let Distance { mean, median, p99, max } = c.kl;
        let l = c.logits;
        Self {
            reference,
            reference_score: Score::new(&c.reference),
            loss_difference: c.loss_difference,
            loss_difference_error: c.loss_difference_error,
            top1_agreement: c.top1_agreement,
            kl: Spread { mean, median, p99, max },
            logit_difference: LogitSpread { rms: l.mean, median: l.median, p99: l.p99, max: l.max },
        }
    }
}

/// What a model answered to a file of questions.
#[derive(Serialize)]
pub struct TaskReport {
    file: String,
    questions: usize,
    accuracy: f64,
    accuracy_error: Option<f64>,
    accuracy_normalized: f64,
    accuracy_normalized_error: Option<f64>,
    chance: f64,
    answers: Vec<AnswerReport>,
}

#[derive(Serialize)]
struct AnswerReport {
    line: usize,
    gold: usize,
    chosen: usize,
    chosen_normalized: usize,
    log_likelihoods: Vec<f64>,
    tokens: Vec<usize>,
}

impl TaskReport {
    pub fn new(file: &Path, result: TaskResult) -> Self {
        let answer = |a| {
            let Answer { line, gold, chosen, chosen_normalized, log_likelihoods, tokens } = a;
            AnswerReport { line, gold, chosen, chosen_normalized, log_likelihoods, tokens }
        };
        let answers: Vec<_> = result.answers.into_iter().map(answer).collect();
        Self {
            file: file.display().to_string(),
            questions: answers.len(),
            accuracy: result.accuracy.value,
            accuracy_error: result.accuracy.standard_error,
            accuracy_normalized: result.accuracy_normalized.value,
            accuracy_normalized_error: result.accuracy_normalized.standard_error,
            chance: result.chance,
            answers,
        }
    }
}

impl EvaluationReport {
    /// The report as tables for a person.
    pub fn words(&self) -> String {
        let heading = |text: &str| terminal::paint_output(Style::Heading, text);
        let mut parts = Vec::new();
        if let Some(text) = &self.text {
            parts.push(format!("{}\n{}", heading("Text"), text.words(&self.model)));
            if let Some(against) = &text.against {
                let title = format!("Against {}", against.reference);
                parts.push(format!("{}\n{}", heading(&title), against.words()));
            }
        }
        if !self.tasks.is_empty() {
            parts.push(format!("{}\n{}", heading("Questions"), task_table(&self.tasks)));
        }
        let mut pairs = Pairs::new();
        let took = human::seconds(self.seconds);
        pairs.row("time", format_args!("{took} ({} threads, {})", self.threads, self.kernel));
        parts.push(pairs.text());
        parts.join("\n")
    }
}

impl TextReport {
    fn words(&self, model: &str) -> String {
        let mut table = TextTable::new(&["", "nats/token", "bits/byte", "perplexity"]);
        let mut row = |name: &str, score: &Score| {
            let bits = score.bits_per_byte.map_or("-".into(), |b| format!("{b:.4}"));
            let cells = [format!("{:.5}", score.mean_nll), bits, format!("{:.4}", score.perplexity)];
            table.row([name.to_owned()].into_iter().chain(cells).collect());
        };
        row(model, &self.score);
        if let Some(against) = &self.against {
            row(&against.reference, &against.reference_score);
        }
        let mut pairs = Pairs::new();
        let Self { tokens, window, stride, .. } = *self;
        coverage(&mut pairs, self.score.tokens_scored, tokens, self.windows.len(), window, stride);
        format!("{}{}", table.text(), pairs.text())
    }
}

impl ComparisonReport {
    fn words(&self) -> String {
        let mut pairs = Pairs::new();
        pairs.row(
            "loss",
            format_args!(
                "{:+.5} nats per token (standard error {:.5})",
                self.loss_difference, self.loss_difference_error
            ),
        );
        let kl = &self.kl;
        pairs.row(
            "KL divergence",
            format_args!(
                "mean {:.6} nats, median {:.6}, 99 % below {:.6}, most {:.6}",
                kl.mean, kl.median, kl.p99, kl.max
            ),
        );
        pairs.row("same first choice", format_args!("{:.2} % of positions", 100.0 * self.top1_agreement));
        let l = &self.logit_difference;
        pairs.row(
            "|logit difference|",
            format_args!("rms {:.5}, 99 % below {:.5}, most {:.5}", l.rms, l.p99, l.max),
        );
        pairs.text()
    }
}

fn task_table(tasks: &[TaskReport]) -> String {
    let mut table = TextTable::new(&["file", "questions", "accuracy", "+-", "per character", "+-", "chance"]);
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let error = |e: Option<f64>| e.map_or("-".into(), percent);
    for t in tasks {
        table.row(vec![
            t.file.clone(),
            human::count(t.questions as u64),
            percent(t.accuracy),
            error(t.accuracy_error),
            percent(t.accuracy_normalized),
            error(t.accuracy_normalized_error),
            percent(t.chance),
        ]);
    }
    table.text()
}
