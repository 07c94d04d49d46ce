//! `bitnet inspect --quality`: every ternary matrix and what int8 makes of the rows that it reads.

use bitnet_evaluation::{ActivationQuality, Input, MatrixQuality, judge_activations, judge_matrices};
use bitnet_inference::EngineError;
use bitnet_model::Projection;
use bitnet_source::Source;
use bitnet_text::EncodeOptions;

use crate::{
    args::{InspectArgs, ModelName},
    failure::{Failure, Result},
    files::{self, Draft},
    human::{self, TextTable},
    load,
    progress::{ProgressMeter, Unit},
    terminal::{self, Style},
};

use super::{
    page,
    rows::{ActivationRows, Cells, MatrixRow, Quality},
};

pub fn run(args: &InspectArgs) -> Result<()> {
    if let Some(path) = &args.html {
        files::check_output_file(path, args.force)?;
    }
    let open = |name: &ModelName| -> Result<Source> {
        Source::new(load::checkpoint(name, args.engine.i2s_64)?).map_err(|e| load::failure(e.into()))
    };
    if let Some(path) = &args.html {
        files::warn_of_ending(
            path,
            if path.extension().is_some_and(|e| e == "htm") { "htm" } else { "html" },
            "an HTML page",
        );
    }
    let calibration = args.calibration.as_deref().map(files::read_text).transpose()?;
    let source = open(&args.model)?;
    let masters = args.masters.as_ref().map(open).transpose()?;
    let other = args.against.as_ref().map(open).transpose()?;
    let progress = ProgressMeter::new("matrices", 0, Unit::Items);
    let tell = |done, total| progress.set(done as u64, total as u64);
    let matrices =
        judge_matrices(&source, masters.as_ref(), other.as_ref(), tell).map_err(load::evaluation_failure)?;
    drop(progress);
    let activations = match &calibration {
        Some(text) => watch(args, text)?,
        None => Vec::new(),
    };
    let quality = Quality {
        model: args.model.to_string(),
        masters: args.masters.as_ref().map(ToString::to_string),
        against: args.against.as_ref().map(ToString::to_string),
        calibration: args.calibration.as_ref().map(|path| path.display().to_string()),
        matrices: matrices.into_iter().map(MatrixRow::from).collect(),
        activations: activations.into_iter().map(ActivationRows::from).collect(),
    };
    if let Some(path) = &args.html {
        let mut draft = Draft::of_output(path, args.force)?;
        draft.write(page::html(&quality).as_bytes())?;
        draft.publish()?;
        terminal::note(format_args!("{} is written", path.display()));
    }
    if args.json { terminal::print_json(&quality) } else { terminal::print(&quality.words()) }
}

/// Runs the text through the model.
fn watch(args: &InspectArgs, text: &str) -> Result<Vec<ActivationQuality>> {
    let engine = load::for_evaluation(&args.model, &args.engine)?;
    let tokenizer = engine.tokenizer().ok_or_else(|| load::failure(EngineError::NoTokenizer))?;
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let ids = tokenizer.encode(text, plain).map_err(|e| load::failure(e.into()))?;
    if ids.is_empty() {
        return Err(Failure::new("the calibration text is empty"));
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut session = engine.session().map_err(load::failure)?;
    let progress = ProgressMeter::new("tokens", 0, Unit::Items);
    let tell = |done, total| progress.set(done as u64, total as u64);
    judge_activations(&mut session, &ids, bos, tell).map_err(load::evaluation_failure)
}

impl From<MatrixQuality> for MatrixRow {
    fn from(m: MatrixQuality) -> Self {
        let weights = (m.shape[0] * m.shape[1]).max(1) as f64;
        Self {
            zeros: m.zero_share(),
            name: m.name,
            layer: m.layer,
            projection: projection(m.projection),
            shape: m.shape,
            scale: m.scales.1,
            scale_range: (m.scales.0, m.scales.2),
            dead_rows: m.dead_rows,
            dead_columns: m.dead_columns,
            sqnr_db: m.fit.map(|f| f.sqnr).filter(|s| s.is_finite()),
            cosine: m.fit.map(|f| f.cosine),
            flipped: m.change.map(|c| c.flipped as f64 / weights),
            flipped_to_zero: m.change.map(|c| c.to_zero),
            flipped_from_zero: m.change.map(|c| c.from_zero),
            flipped_sign: m.change.map(|c| c.sign),
            scale_drift: m.change.map(|c| c.scale_drift),
        }
    }
}

impl From<ActivationQuality> for ActivationRows {
    fn from(a: ActivationQuality) -> Self {
        Self {
            layer: a.layer,
            input: match a.input {
                Input::Qkv => "q k v",
                Input::Output => "o",
                Input::GateUp => "gate up",
                Input::Down => "down",
            },
            rows: a.rows,
            saturated: a.saturated,
            zeros: a.zeros,
            sqnr_db: Some(a.sqnr).filter(|s| s.is_finite()),
            crest: a.crest,
            crest_max: a.crest_max,
            outliers: a.outliers,
            dead_channels: a.dead_channels,
            channels: a.channels.iter().map(|c| (c.index, c.ratio)).collect(),
        }
    }
}

fn projection(projection: Projection) -> &'static str {
    match projection {
        Projection::Query => "q",
        Projection::Key => "k",
        Projection::Value => "v",
        Projection::Output => "o",
        Projection::Gate => "gate",
        Projection::Up => "up",
        Projection::Down => "down",
        Projection::AttentionGate => "attention gate",
        Projection::DeltaInput => "delta q k v",
        Projection::DeltaGate => "delta gate",
        Projection::DeltaBeta => "delta beta",
        Projection::DeltaDecay => "delta decay",
        Projection::DeltaOutput => "delta o",
    }
}

impl Quality {
    /// One row for each matrix; columns that nobody asked for are left out.
    pub fn matrix_cells(&self) -> Cells {
        let mut head = vec!["matrix", "shape", "zeros", "scale", "dead rows", "dead columns"];
        if self.masters.is_some() {
            head.extend(["SQNR dB", "cosine"]);
        }
        if self.against.is_some() {
            head.extend(["flipped", "to 0", "from 0", "sign", "scale drift"]);
        }
        let cells = |m: &MatrixRow| {
            let mut cells = vec![
                m.name.clone(),
                format!("{} x {}", m.shape[0], m.shape[1]),
                percent(m.zeros),
                format!("{:.6}", m.scale),
                m.dead_rows.to_string(),
                m.dead_columns.to_string(),
            ];
            if self.masters.is_some() {
                cells.push(m.sqnr_db.map_or("exact".into(), |s| format!("{s:.2}")));
                cells.push(m.cosine.map_or("-".into(), |c| format!("{c:.5}")));
            }
            if self.against.is_some() {
                cells.push(m.flipped.map_or("-".into(), percent));
                let counts = [m.flipped_to_zero, m.flipped_from_zero, m.flipped_sign];
                cells.extend(counts.map(|n| n.map_or("-".into(), |n| n.to_string())));
                cells.push(m.scale_drift.map_or("-".into(), human::signed_percent));
            }
            cells
        };
        Cells { head, rows: self.matrices.iter().map(cells).collect(), key: 1 }
    }

    /// One row for each input of each block.
    pub fn activation_cells(&self) -> Cells {
        let head = vec![
            "block",
            "input of",
            "at +-127",
            "at 0",
            "int8 SQNR dB",
            "max/rms",
            "most",
            "outliers",
            "dead",
            "largest",
        ];
        let cells = |a: &ActivationRows| {
            let largest = a.channels.iter().take(2).map(|(index, ratio)| format!("{index} ({ratio:.1})"));
            vec![
                a.layer.to_string(),
                a.input.to_owned(),
                percent(a.saturated),
                percent(a.zeros),
                a.sqnr_db.map_or("exact".into(), |s| format!("{s:.2}")),
                format!("{:.2}", a.crest),
                format!("{:.2}", a.crest_max),
                a.outliers.to_string(),
                a.dead_channels.to_string(),
                largest.collect::<Vec<_>>().join(", "),
            ]
        };
        Cells { head, rows: self.activations.iter().map(cells).collect(), key: 2 }
    }

    fn words(&self) -> String {
        let heading = |text: &str| terminal::paint_output(Style::Heading, text);
        let mut text = format!("{}\n{}", heading("Matrices"), table(self.matrix_cells()));
        if !self.activations.is_empty() {
            text += &format!("\n{}\n{}", heading("Activations"), table(self.activation_cells()));
        }
        text
    }
}

fn table(cells: Cells) -> String {
    let mut table = TextTable::new(&cells.head).key(cells.key);
    cells.rows.into_iter().for_each(|row| table.row(row));
    table.text()
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
