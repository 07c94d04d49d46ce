//! What a run tells of itself: events for whoever watches, and lines of JSON in its directory.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bitnet_quant::{QuantConfig, weights};
use serde_json::{Value, json};

use crate::{FakeQuantization, Kind, Parameters, StepReport, TrainError, tensorboard::EventFile};

/// The share of zeros among the trits, and how many trits have changed since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trits {
    /// The share of trits that are 0.
    pub zeros: f64,
    /// Trits that are not what they were; 0 at the first look.
    pub flips: u64,
    /// The number of all trits.
    pub count: u64,
}

/// Looks at the trits of a model now and then.
#[derive(Debug, Default)]
pub(crate) struct TritWatch {
    before: Vec<Vec<u8>>,
}

impl TritWatch {
    /// The trits of `parameters` as they would be served.
    ///
    /// # Errors
    /// When a master is not finite.
    pub(crate) fn look(
        &mut self,
        parameters: &Parameters,
        quantization: FakeQuantization,
    ) -> Result<Trits, TrainError> {
        let Some(granularity) = quantization.weights else { return Ok(Trits::default()) };
        let (mut zeros, mut trits, mut codes) = (0, Trits::default(), Vec::new());
        for p in parameters.list().iter().filter(|p| p.kind == Kind::Ternary) {
            let [rows, cols] = p.values.dims();
            let data = p.values.clone().into_data();
            let values = data.as_slice::<f32>().map_err(|_| TrainError::NotFinite { name: p.name() })?;
            let matrix = weights::absmean(rows, cols, values, QuantConfig { granularity })
                .map_err(|_| TrainError::NotFinite { name: p.name() })?;
            let counts = matrix.counts();
            zeros += counts.zero;
            trits.count += (rows * cols) as u64;
            codes.push(matrix.codes().to_vec());
        }
        for (now, before) in codes.iter().zip(&self.before) {
            let changed = |a: u8, b: u8| ((a ^ b) | (a ^ b) >> 1) & 0x55;
            trits.flips +=
                now.iter().zip(before).map(|(&a, &b)| u64::from(changed(a, b).count_ones())).sum::<u64>();
        }
        self.before = codes;
        trits.zeros = zeros as f64 / trits.count.max(1) as f64;
        Ok(trits)
    }
}

/// `metrics.jsonl`: one line per event, in the order of the steps.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
    events: Option<EventFile>,
}

impl Metrics {
    /// Opens the file of a run that has done `step` steps: lines of later ones, which a killed run has written, are dropped. With
    /// `events`, so it does TensorBoard's.
    pub(crate) fn open(directory: &Path, step: u64, events: bool) -> Result<Self, TrainError> {
        let path = directory.join("metrics.jsonl");
        let io = |error| TrainError::Io { path: path.clone(), error };
        let lines: Vec<Value> = lines(directory, step)?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let temporary = directory.join(".metrics.partial");
        std::fs::write(&temporary, text).map_err(io)?;
        std::fs::rename(&temporary, &path).map_err(io)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        let events = events.then(|| EventFile::create(directory, lines.iter())).transpose()?;
        Ok(Self { path, file, events })
    }

    pub(crate) fn step(&mut self, report: &StepReport, seconds: f64) -> Result<(), TrainError> {
        let mut line = json!({
            "step": report.step,
            "loss": report.loss,
            "gradient": report.length,
            "learning_rate": report.rates.learning_rate,
            "weight_decay": report.rates.weight_decay,
            "tokens": report.tokens,
            "seconds": seconds,
            "time": now(),
        });
        if let Some(relations) = report.relations {
            line["relations"] = relations.into();
        }
        self.line(&line)
    }

    pub(crate) fn evaluation(&mut self, step: u64, loss: f64, trits: Trits) -> Result<(), TrainError> {
        self.line(&json!({
            "step": step,
            "validation": loss,
            "zeros": trits.zeros,
            "flips": trits.flips,
            "trits": trits.count,
            "time": now(),
        }))
    }

    fn line(&mut self, value: &Value) -> Result<(), TrainError> {
        // One write a line: a killed run leaves whole lines, or a last one that the next run drops.
        let text = format!("{value}\n");
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| TrainError::Io { path: self.path.clone(), error })?;
        self.events.as_mut().map_or(Ok(()), |events| events.line(value))
    }
}

/// Seconds since 1970, to the millisecond.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}

/// The whole lines of steps up to `step`.
fn lines(directory: &Path, step: u64) -> Result<Vec<Value>, TrainError> {
    let path = directory.join("metrics.jsonl");
    let Ok(file) = File::open(&path) else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|error| TrainError::Io { path: path.clone(), error })?;
        // The last line of a killed run may be cut anywhere.
        let value = serde_json::from_slice::<Value>(&line).ok();
        lines.extend(value.filter(|v| v["step"].as_u64().is_some_and(|s| s <= step)));
    }
    Ok(lines)
}

/// What a run has told of itself so far, for curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Steps and the loss before each, in nats per token.
    pub losses: Vec<(u64, f64)>,
    /// Steps and the validation loss behind each.
    pub validations: Vec<(u64, f64)>,
}

impl History {
    /// Of the run in `directory`, up to `step`; empty when there is none.
    ///
    /// # Errors
    /// When its metrics cannot be read.
    pub fn read(directory: &Path, step: u64) -> Result<Self, TrainError> {
        let lines = lines(directory, step)?;
        let all = |key: &str| -> Vec<(u64, f64)> {
            lines.iter().filter_map(|line| Some((line["step"].as_u64()?, line[key].as_f64()?))).collect()
        };
        Ok(Self { losses: all("loss"), validations: all("validation") })
    }
}
