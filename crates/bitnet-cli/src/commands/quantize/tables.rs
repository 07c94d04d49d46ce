//! A quantization in words and as JSON.

use std::path::Path;

use bitnet_calibration::{QuantizeOptions, QuantizeReport};
use serde::Serialize;

use crate::{
    human::{self, Pairs, TextTable},
    terminal::{self, Style},
};

#[derive(Serialize)]
pub struct Told {
    output: String,
    bytes_written: u64,
    bits_per_projection_weight: f64,
    loss_before: Option<f64>,
    loss_after: Option<f64>,
    calibration_tokens: usize,
    held_out_tokens: usize,
    threads: usize,
    feedback: bool,
    budget: Option<u64>,
    planned_bytes: Option<u64>,
    matrices: Vec<Matrix>,
    sensitivities: Vec<Sensitivity>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Matrix {
    name: String,
    shape: [usize; 2],
    form: &'static str,
    bytes: u64,
    bits_per_weight: f64,
    relative_error: f64,
    /// Absent where there is no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
    zeros: f64,
}

#[derive(Serialize)]
struct Sensitivity {
    name: String,
    loss_change: f64,
}

pub fn told(report: &QuantizeReport, output: &Path, options: &QuantizeOptions) -> Told {
    let matrix = |m: &bitnet_calibration::QuantizedMatrix| Matrix {
        name: m.name.clone(),
        shape: m.shape,
        form: m.grid.name(),
        bytes: m.bytes,
        bits_per_weight: m.bits(),
        relative_error: m.relative_error,
        sqnr_db: Some(m.sqnr()).filter(|db| db.is_finite()),
        zeros: m.zeros,
    };
    Told {
        output: output.display().to_string(),
        bytes_written: report.bytes_written,
        bits_per_projection_weight: bits(report),
        loss_before: report.loss_before,
        loss_after: report.loss_after,
        calibration_tokens: report.calibration_tokens,
        held_out_tokens: report.held_out_tokens,
        threads: report.threads,
        feedback: options.scheme.feedback,
        budget: options.budget,
        planned_bytes: report.plan.as_ref().map(|plan| plan.bytes),
        matrices: report.matrices.iter().map(matrix).collect(),
        sensitivities: report
            .sensitivities
            .iter()
            .map(|s| Sensitivity { name: s.name.clone(), loss_change: s.change })
            .collect(),
        notes: report.notes.clone(),
    }
}

/// Bits for each weight of all quantized matrices together.
fn bits(report: &QuantizeReport) -> f64 {
    let weights: usize = report.matrices.iter().map(|m| m.shape[0] * m.shape[1]).sum();
    let bytes: u64 = report.matrices.iter().map(|m| m.bytes).sum();
    bytes as f64 * 8.0 / weights.max(1) as f64
}

pub fn words(report: &QuantizeReport, output: &Path) -> String {
    let heading = |text: &str| terminal::paint_output(Style::Heading, text);
    let mut text = format!("{}\n{}", heading("Matrices"), matrices(report));
    if !report.sensitivities.is_empty() {
        text += &format!("\n{}\n{}", heading("Loss with that matrix alone quantized"), sensitivities(report));
    }
    let mut pairs = Pairs::new();
    let (path, size) = (output.display(), human::bytes(report.bytes_written));
    pairs.row("written", format_args!("{path}, {size}, {:.2} bits per quantized weight", bits(report)));
    if let Some(plan) = &report.plan {
        let (bytes, harm) = (human::bytes(plan.bytes), plan.harm);
        pairs.row("plan", format_args!("{bytes} of projections, expected to add {harm:.4} nats"));
    }
    if let (Some(before), Some(after)) = (report.loss_before, report.loss_after) {
        let tokens = human::count(report.held_out_tokens as u64);
        let change = after - before;
        pairs.row(
            "loss",
            format_args!(
                "{before:.4} nats before, {after:.4} after ({change:+.4}) on {tokens} held-out tokens"
            ),
        );
    }
    text + &format!("\n{}\n{}", heading("Model"), pairs.text())
}

fn matrices(report: &QuantizeReport) -> String {
    let mut table = TextTable::new(&["name", "shape", "form", "size", "bits", "error", "SQNR dB", "zeros"]);
    for m in &report.matrices {
        table.row(vec![
            m.name.clone(),
            format!("{} x {}", m.shape[0], m.shape[1]),
            m.grid.name().into(),
            human::bytes(m.bytes),
            format!("{:.2}", m.bits()),
            format!("{:.4}", m.relative_error),
            format!("{:.1}", m.sqnr()),
            format!("{:.1} %", 100.0 * m.zeros),
        ]);
    }
    table.text()
}

fn sensitivities(report: &QuantizeReport) -> String {
    let mut table = TextTable::new(&["name", "nats"]);
    let mut sorted: Vec<_> = report.sensitivities.iter().collect();
    sorted.sort_by(|a, b| b.change.total_cmp(&a.change));
    for s in sorted {
        table.row(vec![s.name.clone(), format!("{:+.5}", s.change)]);
    }
    table.text()
}
