//! Two models over one text: how far their predictions are apart.

use bitnet_inference::{EngineError, InferenceEngine, Session, argmax};
use bitnet_kernels::Kernel;
use bitnet_text::{EncodeOptions, Tokenizer};

use crate::{
    error::{EvaluationError, MismatchError},
    perplexity::{Perplexity, Sum},
    windows::{PerplexityOptions, Windows},
};

/// Positions whose logits of one model are held while the other makes its own.
const PART: usize = 32;

/// How far a model's predictions are from a reference's.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The model's own figures.
    pub model: Perplexity,
    /// The reference's.
    pub reference: Perplexity,
    /// Mean of the model's loss minus the reference's, nats per token.
    pub loss_difference: f64,
    /// Standard error of that mean, from the spread of single tokens; 0 for one token.
    pub loss_difference_error: f64,
    /// Share of positions at which both think the same token likeliest (the smaller id on a tie).
    pub top1_agreement: f64,
    /// `KL(reference || model)` of the distributions of the next token, nats.
    pub kl: Distance,
    /// `|logit of the model - logit of the reference|` over all positions and tokens of the vocabulary.
    pub logits: Distance,
}

/// How a set of distances, none of them negative, is spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Mean; of logits, the root of the mean square.
    pub mean: f64,
    /// Half of them are at most this.
    pub median: f64,
    /// 99 % of them are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Refuses models whose tokens are not the same: id by id, in what begins a text, and in how `text` is cut. Returns its tokens,
/// without the one that begins a text.
///
/// # Errors
/// [`MismatchError`] for the first difference; [`EngineError::NoTokenizer`].
pub fn same_vocabulary(
    model: &InferenceEngine,
    reference: &InferenceEngine,
    text: &str,
) -> Result<Vec<u32>, EvaluationError> {
    let sizes = (model.config().vocab, reference.config().vocab);
    if sizes.0 != sizes.1 {
        return Err(MismatchError::Vocabulary { model: sizes.0, reference: sizes.1 }.into());
    }
    let ours = model.tokenizer().ok_or(EngineError::NoTokenizer)?;
    let theirs = reference.tokenizer().ok_or(EngineError::NoTokenizer)?;
    let told = |bytes: Option<&[u8]>| {
        bytes.map_or_else(String::new, |b| String::from_utf8_lossy(b).chars().take(40).collect())
    };
    for id in 0..u32::try_from(sizes.0).unwrap_or(u32::MAX) {
        let (a, b) = (ours.token_bytes(id), theirs.token_bytes(id));
        if a != b {
            return Err(MismatchError::Token { id, model: told(a), reference: told(b) }.into());
        }
    }
    let first = |t: &Tokenizer| t.bos().filter(|_| t.adds_bos());
    if first(ours) != first(theirs) {
        return Err(MismatchError::Beginning { model: first(ours), reference: first(theirs) }.into());
    }
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let (ids, others) = (ours.encode(text, plain)?, theirs.encode(text, plain)?);
    if ids != others {
        let at = ids.iter().zip(&others).take_while(|(a, b)| a == b).count();
        return Err(MismatchError::Cut { at }.into());
    }
    Ok(ids)
}

/// Scores `ids` with both models in the same windows ([`perplexity()`](crate::perplexity())) and compares every prediction. Whether
/// their tokens mean the same is for [`same_vocabulary`] to say. Calls `progress(done, total)` after each window.
///
/// # Errors
/// As [`perplexity()`](crate::perplexity()); [`MismatchError::Vocabulary`]; [`EngineError::NotANumber`].
pub fn compare(
    model: &mut Session,
    reference: &mut Session,
    ids: &[u32],
    options: &PerplexityOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Comparison, EvaluationError> {
    let vocab = model.engine().config().vocab;
    let theirs = reference.engine().config().vocab;
    if vocab != theirs {
        return Err(MismatchError::Vocabulary { model: vocab, reference: theirs }.into());
    }
    let windows = Windows::new(ids, options, model.context().min(reference.context()))?;
    let mut both = Both::new(model.engine().kernel());
    let mut rows = Vec::with_capacity(PART * vocab);
    for index in 0..windows.len() {
        let window = windows.get(index);
        model.reset();
        reference.reset();
        let inputs = &window.inputs[..window.inputs.len() - 1];
        for (part, ids) in inputs.chunks(PART).enumerate() {
            rows.clear();
            reference.logits(ids, |logits| rows.extend_from_slice(logits))?;
            let mut wanted = rows.chunks_exact(vocab);
            let mut position = part * PART;
            model.logits(ids, |logits| {
                position += 1;
                if let Some(reference) = wanted.next().filter(|_| position >= window.first) {
                    both.add(window.inputs[position], logits, reference);
                }
            })?;
        }
        both.model.end_window();
        both.reference.end_window();
        progress(index + 1, windows.len());
    }
    both.finish(model, reference)
}

/// What is gathered while both models read.
struct Both {
    kernel: &'static Kernel,
    model: Sum,
    reference: Sum,
    /// Differences of the loss, token by token.
    losses: Vec<f64>,
    kl: Vec<f64>,
    same_top: usize,
    logits: Histogram,
}

impl Both {
    fn new(kernel: &'static Kernel) -> Self {
        Self {
            kernel,
            model: Sum::default(),
            reference: Sum::default(),
            losses: Vec::new(),
            kl: Vec::new(),
            same_top: 0,
            logits: Histogram::new(),
        }
    }

    /// One position: both models' logits, and the token that came.
    fn add(&mut self, id: u32, model: &[f32], reference: &[f32]) {
        // As `perplexity` has it, to the bit.
        let nll = |logits: &[f32]| f64::from(self.kernel.log_sum_exp(logits) - logits[id as usize]);
        let (ours, theirs) = (nll(model), nll(reference));
        self.model.add(id, ours);
        self.reference.add(id, theirs);
        self.losses.push(ours - theirs);
        self.kl.push(divergence(reference, model));
        self.same_top += usize::from(argmax(model) == argmax(reference));
        model.iter().zip(reference).for_each(|(a, b)| self.logits.add((a - b).abs()));
    }

    fn finish(self, model: &Session, reference: &Session) -> Result<Comparison, EvaluationError> {
        let positions = self.losses.len().max(1) as f64;
        let mean = self.losses.iter().sum::<f64>() / positions;
        let squares: f64 = self.losses.iter().map(|d| (d - mean) * (d - mean)).sum();
        Ok(Comparison {
            model: self.model.finish(model)?,
            reference: self.reference.finish(reference)?,
            loss_difference: mean,
            loss_difference_error: (squares / (positions - 1.0).max(1.0) / positions).sqrt(),
            top1_agreement: self.same_top as f64 / positions,
            kl: spread(self.kl),
            logits: self.logits.spread(),
        })
    }
}

/// `KL(p || q)` in nats of the distributions behind two rows of logits; 0 exactly for equal rows, and never below.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let most = |row: &[f32]| f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (most_p, most_q) = (most(p), most(q));
    let (mut sum_p, mut sum_q, mut product) = (0.0, 0.0, 0.0);
    for (&p, &q) in p.iter().zip(q) {
        let (p, q) = (f64::from(p), f64::from(q));
        let weight = libm::exp(p - most_p);
        sum_p += weight;
        sum_q += libm::exp(q - most_q);
        product += weight * (p - q);
    }
    let normalizer = |most: f64, sum: f64| most + libm::log(sum);
    // Rounding may leave something below zero where there is nothing.
    (product / sum_p - normalizer(most_p, sum_p) + normalizer(most_q, sum_q)).max(0.0)
}

/// Mean, median, 99th percentile (nearest rank) and maximum.
fn spread(mut values: Vec<f64>) -> Distance {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values.get(rank(share, values.len()) - 1).copied().unwrap_or(0.0);
    Distance { mean, median: at(0.5), p99: at(0.99), max: at(1.0) }
}

/// The nearest rank of a share of `count`, from 1.
fn rank(share: f64, count: usize) -> usize {
    ((share * count as f64).ceil() as usize).clamp(1, count.max(1))
}

/// How often numbers that are not negative came. A vocabulary at every position is too many to keep: they are counted by
/// exponent and the first 11 bits behind it, so that a percentile is known to 0.05 %, from below.
struct Histogram {
    counts: Vec<u64>,
    total: u64,
    squares: f64,
    max: f32,
}

impl Histogram {
    const DROPPED: u32 = f32::MANTISSA_DIGITS - 1 - 11;

    fn new() -> Self {
        let buckets = (f32::INFINITY.to_bits() >> Self::DROPPED) as usize + 1;
        Self { counts: vec![0; buckets], total: 0, squares: 0.0, max: 0.0 }
    }

    fn add(&mut self, value: f32) {
        // What is no number is found in the loss; here it only must not be beyond the table.
        let bucket = (value.to_bits() >> Self::DROPPED) as usize;
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += 1;
        self.total += 1;
        self.squares += f64::from(value) * f64::from(value);
        self.max = self.max.max(value);
    }

    fn at(&self, share: f64) -> f64 {
        let wanted = rank(share, usize::try_from(self.total).unwrap_or(usize::MAX)) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|&count| {
            seen += count;
            seen >= wanted
        });
        f64::from(f32::from_bits((bucket.unwrap_or(0) as u32) << Self::DROPPED))
    }

    fn spread(&self) -> Distance {
        let mean = (self.squares / self.total.max(1) as f64).sqrt();
        Distance { mean, median: self.at(0.5), p99: self.at(0.99), max: f64::from(self.max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_distributions() {
        // p = (1/4, 3/4), q = (1/2, 1/2): 1/4 ln(1/2) + 3/4 ln(3/2).
        let row = |p: [f64; 2]| p.map(|p| (p.ln() + 7.0) as f32);
        let (p, q) = (row([0.25, 0.75]), row([0.5, 0.5]));
        let wanted = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((divergence(&p, &q) - wanted).abs() < 1e-7, "{} {wanted}", divergence(&p, &q));
        assert_eq!(divergence(&p, &p), 0.0);
        // Moving all logits changes no distribution.
        let moved = p.map(|x| x + 2.0);
        assert!(divergence(&p, &moved) < 1e-12);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let told = spread((1..=200).rev().map(f64::from).collect());
        assert_eq!(told, Distance { mean: 100.5, median: 100.0, p99: 198.0, max: 200.0 });
        let mut counted = Histogram::new();
        (1..=200).for_each(|i| counted.add(i as f32));
        let told = counted.spread();
        // Integers up to 2048 are whole in 11 bits.
        assert_eq!((told.median, told.p99, told.max), (100.0, 198.0, 200.0));
        assert!((told.mean - (201.0 * 401.0 / 6.0f64).sqrt()).abs() < 1e-9);
        assert_eq!(Histogram::new().spread(), Distance { mean: 0.0, median: 0.0, p99: 0.0, max: 0.0 });
    }
}
