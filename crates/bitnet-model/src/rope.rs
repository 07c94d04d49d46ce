//! Rotary position embedding: frequencies, and what they are bent by.

use crate::ModelError;

/// More radians per position than any model turns by: the fastest turn by 1, and a factor below 1 makes them somewhat faster.
const FASTEST: f32 = 1e6;
/// More than any model multiplies cosines and sines with: YaRN's is 1.2 for a context eight times as long.
const MOST_ATTENTION: f32 = 1e3;

/// How rotary frequencies are bent for contexts longer than the model was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3's: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// Wavelengths above `original_context / low` are divided.
        low: f32,
        /// Wavelengths below `original_context / high` are kept.
        high: f32,
        /// The context of the first training.
        original_context: f32,
    },
    /// YaRN (arXiv:2309.00071).
    Yarn(Yarn),
    /// A divisor for each frequency, as GGUF files store Llama 3's scaling.
    Divisors(Vec<f32>),
}

/// YaRN: dimensions that turn often within the first training's context keep their frequency, those that turn seldom are
/// divided, with a ramp between; queries and keys are multiplied with a factor besides. It does not depend on the text's length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// The divisor of low frequencies.
    pub factor: f32,
    /// The context of the first training.
    pub original_context: f32,
    /// Dimensions that turn more often than this in the original context are kept.
    pub beta_fast: f32,
    /// Dimensions that turn less often than this are divided.
    pub beta_slow: f32,
    /// What cosines and sines of queries and keys are multiplied with.
    pub attention_factor: f32,
    /// Whether the ends of the ramp are rounded outwards to whole dimensions.
    pub truncate: bool,
}

impl Yarn {
    /// `beta_fast` where a file does not say it.
    pub const BETA_FAST: f32 = 32.0;
    /// `beta_slow` where a file does not say it.
    pub const BETA_SLOW: f32 = 1.0;

    /// What attention is multiplied with for a context `factor` times as long, in Python's width: `0.1 mscale ln(factor) + 1`.
    pub fn magnitude(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * libm::log(factor) + 1.0 }
    }

    /// The ramp's ends, in dimensions, which may be fractions.
    fn range(&self, theta: f32, head_dim: usize) -> (f64, f64) {
        let dim = head_dim as f64;
        let (context, theta) = (f64::from(self.original_context), f64::from(theta));
        let turning = |turns: f32| {
            let wavelengths = context / (f64::from(turns) * 2.0 * std::f64::consts::PI);
            (dim * libm::log(wavelengths)) / (2.0 * libm::log(theta))
        };
        let (mut low, mut high) = (turning(self.beta_fast), turning(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low.max(0.0), high.min(dim - 1.0))
    }

    /// The frequencies, each operation rounded to f32 as `transformers` rounds it (`modeling_rope_utils.py`).
    fn frequencies(&self, theta: f32, head_dim: usize) -> Vec<f32> {
        let (low, mut high) = self.range(theta, head_dim);
        if low == high {
            high += 0.001;
        }
        let (first, width) = (low as f32, (high - low) as f32);
        let frequency = |j: usize| {
            let power = power(theta, head_dim, j);
            let (kept, divided) = (1.0 / power, 1.0 / (self.factor * power));
            let share = 1.0 - ((j as f32 - first) / width).clamp(0.0, 1.0);
            divided * (1.0 - share) + kept * share
        };
        (0..head_dim / 2).map(frequency).collect()
    }
}

/// `theta^(2 j / head_dim)`: the exponent and the power are each rounded to f32 once, as in the models' own code. The power is
/// libm's in f64, so that every platform has the same bits.
fn power(theta: f32, head_dim: usize, j: usize) -> f32 {
    let exponent = (2 * j) as f32 / head_dim as f32;
    libm::pow(f64::from(theta), f64::from(exponent)) as f32
}

/// Rotary position embedding (arXiv:2104.09864), dimension `i` paired with `i + head_dim / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f32,
    /// How frequencies are bent.
    pub scaling: RopeScaling,
}

impl Rope {
    /// The frequencies of a head of `head_dim` dimensions, `[head_dim / 2]`, in radians per position.
    ///
    /// Rounded where `transformers` rounds them.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        if let RopeScaling::Yarn(yarn) = &self.scaling {
            return yarn.frequencies(self.theta, head_dim);
        }
        (0..head_dim / 2).map(|j| self.bend(1.0 / power(self.theta, head_dim, j), j)).collect()
    }

    /// What cosines and sines of queries and keys are multiplied with; 1 for all scalings but YaRN.
    pub fn attention_factor(&self) -> f32 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            _ => 1.0,
        }
    }

    fn bend(&self, frequency: f32, j: usize) -> f32 {
        match &self.scaling {
            RopeScaling::None | RopeScaling::Yarn(_) => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Divisors(divisors) => frequency / divisors[j],
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                let wavelength = 2.0 * std::f32::consts::PI / frequency;
                if wavelength > original_context / low {
                    frequency / factor
                } else if wavelength < original_context / high {
                    frequency
                } else {
                    let t = (original_context / wavelength - low) / (high - low);
                    (1.0 - t) * frequency / factor + t * frequency
                }
            }
        }
    }

    /// Refuses what no model of heads of `head_dim` dimensions can have.
    pub(crate) fn check(&self, head_dim: usize) -> Result<(), ModelError> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !positive(self.theta) {
            return Err(ModelError::config("rope theta", "a positive number", self.theta));
        }
        let sane = match &self.scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { factor } => positive(*factor),
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                [*factor, *low, *high, *original_context].into_iter().all(positive) && high > low
            }
            RopeScaling::Divisors(d) => d.len() == head_dim / 2 && d.iter().all(|&x| positive(x)),
            RopeScaling::Yarn(y) => {
                let Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, .. } = *y;
                let numbers = [factor, original_context, beta_fast, beta_slow, attention_factor];
                // The ramp is a quotient of logarithms: a theta of 1 has none.
                numbers.into_iter().all(positive) && beta_fast >= beta_slow && self.theta > 1.0
            }
        };
        if !sane {
            let got = format!("{:?}", self.scaling);
            let expected = "positive factors for every frequency, the faster one larger";
            return Err(ModelError::config("rope scaling", expected, got));
        }
        // Numbers that are sane one by one can still make what is not: a quotient that no f32 holds would turn attention into
        // numbers that are no numbers, and rounding to eight bits would hide them.
        let turns = |frequency: &f32| (0.0..=FASTEST).contains(frequency);
        if !self.frequencies(head_dim).iter().all(turns) || self.attention_factor() > MOST_ATTENTION {
            let expected = format!(
                "frequencies of at most {FASTEST} and an attention factor of at most {MOST_ATTENTION}"
            );
            return Err(ModelError::config("rope scaling", expected, format!("{self:?}")));
        }
        Ok(())
    }
}
