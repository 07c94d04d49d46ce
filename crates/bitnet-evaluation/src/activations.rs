//! What int8 makes of the rows that projections read.

use bitnet_device::{Looking, Stage};
use bitnet_inference::Session;
use bitnet_quant::{
    Activations,
    activations::{BLOCK, quantize},
};

use crate::{error::EvaluationError, noise::decibels};

/// A channel is an outlier when its root mean square over the text is this many times the median channel's.
pub const OUTLIER: f64 = 6.0;
/// Channels that are told by name.
const TOLD: usize = 8;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// Of queries, keys and values.
    Qkv,
    /// Of the output projection.
    Output,
    /// Of gate and up.
    GateUp,
    /// Of the down projection.
    Down,
}

impl Input {
    /// All of them, in the order in which a block reads them.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Output, Self::GateUp, Self::Down];

    /// Block and input that a stage shows.
    fn of(stage: Stage) -> Option<(usize, Self)> {
        match stage {
            Stage::AttentionNorm(layer) => Some((layer, Self::Qkv)),
            Stage::OutputInput(layer) => Some((layer, Self::Output)),
            Stage::FfnNorm(layer) => Some((layer, Self::GateUp)),
            Stage::DownInput(layer) => Some((layer, Self::Down)),
            _ => None,
        }
    }
}

/// A channel that stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// Its column.
    pub index: usize,
    /// Its root mean square over the median channel's.
    pub ratio: f64,
}

/// The rows of one input of one block over a text.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationQuality {
    /// The block.
    pub layer: usize,
    /// Which input of it.
    pub input: Input,
    /// Rows that were seen, one a token.
    pub rows: u64,
    /// Share of int8 codes at -127 or 127. The largest of every row (or block) is there by construction: `1 / width` is the least.
    pub saturated: f64,
    /// Share of int8 codes that are 0.
    pub zeros: f64,
    /// Signal to rounding noise of int8, `10 log10(sum x^2 / sum (x - code * step)^2)`, dB.
    pub sqnr: f64,
    /// Mean over rows of the largest magnitude over the row's root mean square.
    pub crest: f64,
    /// The largest of those.
    pub crest_max: f64,
    /// Channels that are outliers ([`OUTLIER`]).
    pub outliers: usize,
    /// The largest channels, the largest first.
    pub channels: Vec<Channel>,
    /// Channels that were 0 in every row.
    pub dead_channels: usize,
}

/// Runs `ids` through `session` in windows as long as its context, each begun by `bos` if any, and looks at the inputs of all
/// projections, rounded as the model's projections take them (one step per token where they take floats). Calls
/// `progress(done, total)` in tokens.
///
/// Where a projection has a norm of its own, the rows are those in front of it.
///
/// # Errors
/// When an id is outside the vocabulary, or there is none.
pub fn judge_activations(
    session: &mut Session,
    ids: &[u32],
    bos: Option<u32>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<ActivationQuality>, EvaluationError> {
    let config = session.engine().config().clone();
    let block = match session.engine().info().activations {
        Activations::Int8PerBlock => BLOCK,
        Activations::Int8PerToken | Activations::Float => usize::MAX,
    };
    let width = |input| match input {
        Input::Qkv | Input::GateUp => config.hidden,
        Input::Output => config.q_width(),
        Input::Down => config.ffn,
    };
    let mut seen: Vec<Seen> =
        (0..config.layers).flat_map(|_| Input::ALL).map(|input| Seen::new(width(input), block)).collect();
    if ids.is_empty() {
        return Err(EvaluationError::Window("the text is too short: nothing to look at".into()));
    }
    let room = session.context().saturating_sub(usize::from(bos.is_some())).max(1);
    let mut done = 0;
    for part in ids.chunks(room) {
        session.reset();
        let window: Vec<u32> =
            bos.filter(|_| room < session.context()).into_iter().chain(part.iter().copied()).collect();
        let inputs = |stage| Input::of(stage).is_some();
        let mut gather = Looking::at(inputs, |stage, rows: &[f32]| {
            if let Some((layer, input)) = Input::of(stage) {
                let seen = &mut seen[layer * Input::ALL.len() + input as usize];
                rows.chunks_exact(seen.squares.len()).for_each(|row| seen.add(row));
            }
        });
        session.feed_observed(&window, &mut gather)?;
        done += part.len();
        progress(done, ids.len());
    }
    let places = (0..config.layers).flat_map(|layer| Input::ALL.map(|input| (layer, input)));
    Ok(places.zip(seen).map(|((layer, input), seen)| seen.judge(layer, input)).collect())
}

/// What is gathered of one input.
struct Seen {
    /// Columns that share a step.
    block: usize,
    codes: Vec<i8>,
    rows: u64,
    /// Sum of squares of each channel.
    squares: Vec<f64>,
    noise: f64,
    saturated: u64,
    zeros: u64,
    crest_sum: f64,
    crest_max: f64,
}

impl Seen {
    fn new(width: usize, block: usize) -> Self {
        Self {
            block: block.min(width),
            codes: vec![0; width],
            rows: 0,
            squares: vec![0.0; width],
            noise: 0.0,
            saturated: 0,
            zeros: 0,
            crest_sum: 0.0,
            crest_max: 0.0,
        }
    }

    fn add(&mut self, row: &[f32]) {
        let (mut sum, mut largest) = (0.0, 0.0f64);
        for (square, &x) in self.squares.iter_mut().zip(row) {
            let x = f64::from(x);
            *square += x * x;
            sum += x * x;
            largest = largest.max(x.abs());
        }
        for (x, codes) in row.chunks(self.block).zip(self.codes.chunks_mut(self.block)) {
            let step = f64::from(quantize(x, codes));
            for (&x, &code) in x.iter().zip(&*codes) {
                let lost = f64::from(x) - f64::from(code) * step;
                self.noise += lost * lost;
                self.saturated += u64::from(code.unsigned_abs() >= 127);
                self.zeros += u64::from(code == 0);
            }
        }
        let rms = (sum / row.len() as f64).sqrt();
        let crest = if rms > 0.0 { largest / rms } else { 0.0 };
        self.crest_sum += crest;
        self.crest_max = self.crest_max.max(crest);
        self.rows += 1;
    }

    fn judge(self, layer: usize, input: Input) -> ActivationQuality {
        let rows = self.rows.max(1) as f64;
        let codes = rows * self.squares.len() as f64;
        let rms: Vec<f64> = self.squares.iter().map(|s| (s / rows).sqrt()).collect();
        let mut sorted = rms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        // Where half of the channels are silent every other one stands out, and no ratio says by how much.
        let ratio = |rms: f64| if median > 0.0 { rms / median } else { 0.0 };
        let mut channels: Vec<Channel> =
            rms.iter().enumerate().map(|(index, &rms)| Channel { index, ratio: ratio(rms) }).collect();
        channels.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        let outliers = channels.iter().filter(|c| c.ratio > OUTLIER).count();
        channels.truncate(TOLD);
        ActivationQuality {
            layer,
            input,
            rows: self.rows,
            saturated: self.saturated as f64 / codes,
            zeros: self.zeros as f64 / codes,
            sqnr: decibels(self.squares.iter().sum(), self.noise),
            crest: self.crest_sum / rows,
            crest_max: self.crest_max,
            outliers,
            channels,
            dead_channels: rms.iter().filter(|&&r| r == 0.0).count(),
        }
    }
}
