//! How the next token is chosen: the options of the chain.

/// The largest size of a logit bias and of the penalties. Logits are of the order of 10, so this is as good as always or never, and
/// no sum with it leaves the range of `f32`.
pub const LARGEST_SHIFT: f32 = 1e6;
/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Logits are divided by this; 0, or less than 1e-20, takes the largest (greedy).
    pub temperature: f32,
    /// Only this many of the most probable tokens; 0 is all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability; 1 is all.
    pub top_p: f32,
    /// Only tokens with at least this share of the most probable one's probability; 0 is all.
    pub min_p: f32,
    /// Logits of tokens in the window are divided by this if positive, multiplied if negative; 1 is off (arXiv:1909.05858). From
    /// 1e-6 to 1e6.
    pub repetition_penalty: f32,
    /// Taken from a generated token's logit for each time it was generated; at most [`LARGEST_SHIFT`] up or down.
    pub frequency_penalty: f32,
    /// Taken from a generated token's logit once; at most [`LARGEST_SHIFT`] up or down.
    pub presence_penalty: f32,
    /// How many of the last tokens penalties look at.
    pub penalty_window: usize,
    /// Added to the logits of these tokens: at most [`LARGEST_SHIFT`] up or down, or minus infinity for never.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: usize::MAX,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Says which value cannot be, if one cannot.
    ///
    /// # Errors
    /// A sentence naming the option and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let small = |x: f32| x.abs() <= LARGEST_SHIFT;
        let ratio = (1.0 / LARGEST_SHIFT..=LARGEST_SHIFT).contains(&self.repetition_penalty);
        let rules = [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or more"),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            ("repetition penalty", self.repetition_penalty, ratio, "from 0.000001 to 1000000"),
            ("frequency penalty", self.frequency_penalty, small(self.frequency_penalty), SHIFTS),
            ("presence penalty", self.presence_penalty, small(self.presence_penalty), SHIFTS),
        ];
        for (name, value, good, range) in rules {
            if !good || !value.is_finite() {
                return Err(format!("{name} must be {range}, not {value}"));
            }
        }
        let wrong = |&&(_, bias): &&(u32, f32)| !small(bias) && bias != f32::NEG_INFINITY;
        match self.logit_bias.iter().find(wrong) {
            Some((id, bias)) => Err(format!("the logit bias of token {id} must be {SHIFTS}, not {bias}")),
            None => Ok(()),
        }
    }

    /// Says which token of the logit biases a vocabulary of `vocab` ids does not have.
    ///
    /// # Errors
    /// A sentence naming the token and the size of the vocabulary.
    pub fn check_ids(&self, vocab: usize) -> Result<(), String> {
        match self.logit_bias.iter().find(|&&(id, _)| id as usize >= vocab) {
            Some((id, _)) => {
                Err(format!("the logit bias names token {id}, which is outside the vocabulary of {vocab}"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// Whether penalties never raise a logit.
    pub(super) fn only_lowers(&self) -> bool {
        self.repetition_penalty >= 1.0 && self.frequency_penalty >= 0.0 && self.presence_penalty >= 0.0
    }
}

/// The bounds of a number that is added to a logit.
const SHIFTS: &str = "from -1000000 to 1000000";
