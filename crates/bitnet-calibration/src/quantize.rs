//! A whole model, block by block.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bitnet_convert::{MixedWriter, stored_bytes};
use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_cpu::Cpu;
use bitnet_decoder::DecoderError;
use bitnet_device::{Looking, Stage};
use bitnet_format::{Checkpoint, OpenOptions, TensorType};
use bitnet_model::{ActivationChoice, ModelError, Part, Projection, Weight};
use bitnet_quant::Granularity;
use bitnet_source::{Source, SourceError, family::bitnet_file::Form};

use crate::{
    Feedback, Fitted, Grid, Hessian, QuantizeError, QuantizeReport, QuantizedMatrix, Scheme, Stored, Windows,
    block::{self, Hidden},
    evaluate::{exact, loss},
    fit::{BLOCK, fit},
};

/// What a caller of [`quantize`] may choose.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// What every projection becomes; with a budget, whether there is feedback.
    pub scheme: Scheme,
    /// Which weights share a scale, for ternary planes.
    pub granularity: Granularity,
    /// Bytes of all projections together: then each gets the grid of [`Grid::CHOICES`] that a [`crate::Plan`] gives it.
    pub budget: Option<u64>,
    /// What embedding and head become; they stay as they are when `None`.
    pub tables: Option<Grid>,
    /// Part of the mean diagonal that is added to the statistics of inputs: more makes less of what the text says. What suits each
    /// grid ([`Grid::damping`]) when `None`.
    pub damping: Option<f64>,
    /// Whether to measure what each matrix alone does to the loss. A budget measures it anyhow.
    pub sensitivity: bool,
    /// Threads; all that the machine grants when `None`. Results do not depend on them.
    pub threads: Option<usize>,
    /// Whether an output that exists is replaced.
    pub force: bool,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            scheme: Scheme { grid: Grid::Int8, feedback: false },
            granularity: Granularity::Group(64),
            budget: None,
            tables: None,
            damping: None,
            sensitivity: false,
            threads: None,
            force: false,
        }
    }
}

/// The part of a quantization that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizeStep {
    /// Each matrix alone, for the sensitivity table.
    Measuring,
    /// Statistics and errors of every choice, for the plan.
    Planning,
    /// Fitting each matrix in turn, and writing the file.
    Quantizing,
}

/// Called with what is going on, and how many matrices of how many are done.
pub type QuantizeProgress<'a> = &'a mut dyn FnMut(QuantizeStep, usize, usize);

/// The projections that read the same rows, in the order in which a block computes them.
pub(crate) const STAGES: [&[Projection]; 4] = [
    &[Projection::Query, Projection::Key, Projection::Value],
    &[Projection::Output],
    &[Projection::Gate, Projection::Up],
    &[Projection::Down],
];

/// The least text that gives statistics.
const LEAST_TOKENS: usize = 64;

/// Quantizes the float model `source` to a `.bitnet` file at `output`.
///
/// `calibration` is what feedback and plans look at; `held_out` is what losses are measured on, and may be empty.
///
/// # Errors
/// When the model is not a float model or cannot be read, a method lacks its text, the budget cannot be met, or the disk
/// refuses. Nothing is left of the output then.
pub fn quantize(
    source: &Source,
    output: &Path,
    calibration: &Windows,
    held_out: &Windows,
    options: &QuantizeOptions,
    progress: QuantizeProgress<'_>,
) -> Result<QuantizeReport, QuantizeError> {
    source.must_be_plain("quantization")?;
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let threads = Arc::new(ThreadPool::new(threads));
    let kernel = bitnet_kernels::select(None)?;
    let cpu = exact(Cpu::new(kernel, threads, HybridMemoryPool::new()));
    let mut job = Job {
        source,
        calibration,
        held_out,
        options,
        cpu: &cpu,
        progress,
        report: QuantizeReport::default(),
    };
    job.check()?;
    job.report.calibration_tokens = calibration.tokens();
    job.report.held_out_tokens = held_out.tokens();
    job.report.threads = cpu.threads().threads();
    if held_out.tokens() > 0 {
        job.report.loss_before = Some(loss(source, &cpu, held_out, ActivationChoice::Auto)?);
    }
    if options.sensitivity || options.budget.is_some() {
        job.measure()?;
    }
    let grids = job.grids()?;
    job.write(output, &grids)?;
    if held_out.tokens() > 0 {
        let written =
            Source::new(Checkpoint::open(output, &OpenOptions::default()).map_err(SourceError::from)?)?;
        job.report.loss_after = Some(loss(&written, &cpu, held_out, ActivationChoice::Auto)?);
    }
    Ok(job.report)
}

/// What one quantization has at hand throughout.
pub(crate) struct Job<'a> {
    pub(crate) source: &'a Source,
    pub(crate) calibration: &'a Windows,
    pub(crate) held_out: &'a Windows,
    pub(crate) options: &'a QuantizeOptions,
    pub(crate) cpu: &'a Cpu,
    pub(crate) progress: QuantizeProgress<'a>,
    pub(crate) report: QuantizeReport,
}

impl Job<'_> {
    fn check(&self) -> Result<(), QuantizeError> {
        let o = self.options;
        let least = if o.scheme.feedback || o.budget.is_some() { LEAST_TOKENS } else { 0 };
        if self.calibration.tokens() < least {
            return Err(QuantizeError::Text { least, got: self.calibration.tokens() });
        }
        if (o.budget.is_some() || o.sensitivity) && self.held_out.tokens() == 0 {
            return Err(QuantizeError::Text { least: LEAST_TOKENS, got: 0 });
        }
        if let Some(damping) = o.damping.filter(|d| !(d.is_finite() && *d > 0.0)) {
            let (expected, got) = ("a positive number".to_owned(), damping.to_string());
            return Err(QuantizeError::Option { what: "the damping", expected, got });
        }
        if o.granularity == Granularity::Group(0) {
            let (expected, got) = ("1 or more".to_owned(), "0".to_owned());
            return Err(QuantizeError::Option { what: "the size of a group", expected, got });
        }
        Ok(())
    }

    pub(crate) fn projections(&self) -> impl Iterator<Item = (usize, Projection)> + use<> {
        let layers = self.source.config().layers;
        (0..layers).flat_map(|layer| STAGES.concat().into_iter().map(move |p| (layer, p)))
    }

    /// The shape and the floats of a matrix of the source.
    pub(crate) fn weights(&self, part: Part) -> Result<([usize; 2], Vec<f32>), QuantizeError> {
        let name = self.source.name(part);
        let Weight::Table(table) = self.source.weight(part)? else {
            return Err(QuantizeError::Ternary { name });
        };
        let [rows, cols] = [table.rows(), table.cols()];
        let mut values = vec![0.0; rows * cols];
        values.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| table.row_to_f32(row, out));
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(([rows, cols], values)),
            false => Err(QuantizeError::NotFinite { name }),
        }
    }

    /// The form of a matrix of `shape` in the file.
    pub(crate) fn form(&self, part: Part, grid: Grid, cols: usize) -> Result<Form, QuantizeError> {
        let granularity = match self.options.granularity {
            Granularity::Group(size) => Granularity::Group(size.min(cols)),
            other => other,
        };
        Ok(match grid {
            Grid::Absmean | Grid::Ternary => Form::Trits(granularity),
            Grid::Shifted | Grid::Planes => Form::Planes([granularity; 2]),
            _ if !cols.is_multiple_of(BLOCK) => {
                let table = matches!(part, Part::Embedding | Part::Head);
                return Err(QuantizeError::Blocks {
                    name: self.source.name(part),
                    cols,
                    block: BLOCK,
                    table,
                });
            }
            Grid::Int4 => Form::Blocks(TensorType::Q4_0),
            Grid::Int8 => Form::Blocks(TensorType::Q8_0),
        })
    }

    pub(crate) fn fit(
        &self,
        shape: [usize; 2],
        weights: &[f32],
        grid: Grid,
        feedback: Option<&Feedback>,
    ) -> Fitted {
        fit(shape, weights, grid, self.options.granularity, feedback, self.cpu.threads())
    }

    pub(crate) fn embedded(&self) -> Result<Hidden, QuantizeError> {
        let embedding = self.source.weight(Part::Embedding)?;
        self.check_ids()?;
        Ok(Hidden::embedded(&embedding, self.source.config().hidden, self.calibration))
    }

    fn check_ids(&self) -> Result<(), QuantizeError> {
        let vocab = self.source.config().vocab;
        match self.calibration.iter().flatten().find(|&&id| id as usize >= vocab) {
            Some(&id) => Err(DecoderError::Token { id, vocab }.into()),
            None => Ok(()),
        }
    }

    /// Statistics of what projection `p` reads when the block's projections before it are `changed`.
    pub(crate) fn statistics(
        &self,
        layer: usize,
        p: Projection,
        changed: &BTreeMap<Projection, Weight>,
        hidden: &Hidden,
    ) -> Result<Hessian, QuantizeError> {
        let mut hessian = Hessian::new(p.shape(self.source.config())[1]);
        let read = |stage| match stage {
            Stage::AttentionNorm(_) => p == Projection::Query,
            Stage::OutputInput(_) => p == Projection::Output,
            Stage::FfnNorm(_) => p == Projection::Gate,
            Stage::DownInput(_) => p == Projection::Down,
            _ => false,
        };
        let add = |_: Stage, rows: &[f32]| hessian.add(rows, self.cpu.threads());
        block::run(self.source, layer, changed, hidden, self.cpu, &mut Looking::at(read, add))?;
        Ok(hessian)
    }

    /// The feedback for `grid`, made unless `made` holds it.
    pub(crate) fn feedback<'m>(
        &self,
        part: Part,
        grid: Grid,
        hessian: Option<&Hessian>,
        made: &'m mut Vec<(f64, Feedback)>,
    ) -> Result<Option<&'m Feedback>, QuantizeError> {
        let Some(hessian) = hessian.filter(|_| self.options.scheme.feedback) else { return Ok(None) };
        let damping = self.options.damping.unwrap_or(grid.damping(self.options.granularity));
        let at = match made.iter().position(|(d, _)| *d == damping) {
            Some(at) => at,
            None => {
                let found = hessian.clone().feedback(damping, self.cpu.threads());
                let name = self.source.name(part);
                made.push((damping, found.ok_or(QuantizeError::Statistics { name })?));
                made.len() - 1
            }
        };
        Ok(Some(&made[at].1))
    }

    fn write(&mut self, output: &Path, grids: &BTreeMap<Part, Grid>) -> Result<(), QuantizeError> {
        let config = self.source.config();
        let mut forms = BTreeMap::new();
        for (&part, &grid) in grids {
            let Part::Weight(_, p) = part else { continue };
            forms.insert(part, self.form(part, grid, p.shape(config)[1])?);
        }
        let tables = [Some(Part::Embedding), (!config.tied_head).then_some(Part::Head)];
        for part in tables.into_iter().flatten() {
            if let Some(grid) = self.options.tables {
                forms.insert(part, self.form(part, grid, config.hidden)?);
            }
        }
        let mut notes = Vec::new();
        let threads = self.cpu.threads();
        let force = self.options.force;
        let mut writer = MixedWriter::create(self.source, output, &forms, force, threads, &mut notes)?;
        let mut hidden = match self.options.scheme.feedback {
            true => Some(self.embedded()?),
            false => None,
        };
        for (part, grid) in tables.into_iter().flatten().filter_map(|p| Some((p, self.options.tables?))) {
            self.one(part, grid, None, &mut writer)?;
        }
        for layer in 0..config.layers {
            let mut changed = BTreeMap::new();
            for stage in STAGES {
                let hessian = match &hidden {
                    Some(hidden) => Some(self.statistics(layer, stage[0], &changed, hidden)?),
                    None => None,
                };
                let mut made = Vec::new();
                for &p in stage {
                    let part = Part::Weight(layer, p);
                    (self.progress)(QuantizeStep::Quantizing, self.report.matrices.len(), grids.len());
                    let grid = grids.get(&part).copied().unwrap_or(self.options.scheme.grid);
                    let feedback = self.feedback(part, grid, hessian.as_ref(), &mut made)?;
                    let weight = self.one(part, grid, feedback, &mut writer)?;
                    // Without feedback nobody looks at what later blocks get.
                    if hidden.is_some() {
                        changed.insert(p, weight);
                    }
                }
            }
            hidden = match hidden {
                Some(hidden) => Some(block::next(self.source, layer, &changed, hidden, self.cpu)?),
                None => None,
            };
        }
        self.report.notes.extend(notes);
        self.report.bytes_written = writer.finish()?;
        Ok(())
    }

    /// Quantizes and writes one matrix.
    fn one(
        &mut self,
        part: Part,
        grid: Grid,
        feedback: Option<&Feedback>,
        writer: &mut MixedWriter<'_>,
    ) -> Result<Weight, QuantizeError> {
        let name = self.source.name(part);
        let (shape, weights) = self.weights(part)?;
        let fitted = self.fit(shape, &weights, grid, feedback);
        let form = self.form(part, grid, shape[1])?;
        self.report.matrices.push(QuantizedMatrix {
            part,
            name: name.clone(),
            shape,
            grid,
            bytes: stored_bytes(shape, form).unwrap_or(0),
            relative_error: relative_error(&weights, &fitted),
            zeros: fitted.zeros() as f64 / weights.len().max(1) as f64,
        });
        drop(weights);
        match fitted.stored().map_err(ModelError::quant(&name))? {
            Stored::Plane(m) => {
                writer.plane(part, 0, &m)?;
                Ok(Weight::Ternary(m))
            }
            Stored::Planes(planes) => {
                let [first, second] = *planes;
                writer.plane(part, 0, &first)?;
                writer.plane(part, 1, &second)?;
                Ok(Weight::Planes(Box::new([Weight::Ternary(first), Weight::Ternary(second)])))
            }
            Stored::Blocks(ty, bytes) => {
                writer.blocks(part, ty, &bytes)?;
                Ok(Weight::Table(bitnet_source::block_table(&name, ty, shape, bytes.into())?))
            }
        }
    }
}

/// Norm of the error over norm of the weights.
fn relative_error(weights: &[f32], fitted: &Fitted) -> f64 {
    let [_, cols] = fitted.shape();
    let mut row = vec![0.0; cols];
    let (mut error, mut all) = (0.0f64, 0.0f64);
    for (r, weights) in weights.chunks_exact(cols).enumerate() {
        fitted.row_to_f32(r, &mut row);
        for (&w, &q) in weights.iter().zip(&row) {
            error += f64::from(w - q).powi(2);
            all += f64::from(w).powi(2);
        }
    }
    if all > 0.0 { (error / all).sqrt() } else { 0.0 }
}
