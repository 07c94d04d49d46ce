//! From logits to the next token.
//!
//! The chain, in this order: logit bias, repetition, frequency and presence penalties, temperature, top-k, top-p, min-p,
//! then a draw. Equal logits are ordered by id, probabilities come from the kernels' one exponential, and the
//! generator is PCG with a 64-bit seed, so a seed means the same tokens on every machine.

use bitnet_kernels::{Kernel, exp};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Logits are divided by this; 0 takes the largest (greedy).
    pub temperature: f32,
    /// Only this many of the most probable tokens; 0 is all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability; 1 is all.
    pub top_p: f32,
    /// Only tokens with at least this share of the most probable one's probability; 0 is all.
    pub min_p: f32,
    /// Logits of tokens in the window are divided by this if positive, multiplied if negative; 1 is off (arXiv:1909.05858).
    pub repetition_penalty: f32,
    /// Taken from a generated token's logit for each time it was generated.
    pub frequency_penalty: f32,
    /// Taken from a generated token's logit once.
    pub presence_penalty: f32,
    /// How many of the last tokens penalties look at.
    pub penalty_window: usize,
    /// Added to the logits of these tokens.
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
        let rules = [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or more"),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            ("repetition penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "above 0"),
            ("frequency penalty", self.frequency_penalty, true, "a number"),
            ("presence penalty", self.presence_penalty, true, "a number"),
        ];
        for (name, value, good, range) in rules {
            if !good || !value.is_finite() {
                return Err(format!("{name} must be {range}, not {value}"));
            }
        }
        match self.logit_bias.iter().find(|(_, bias)| bias.is_nan()) {
            Some((id, _)) => Err(format!("the logit bias of token {id} is not a number")),
            None => Ok(()),
        }
    }

    fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

/// A token seen before.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: u32,
    generated: bool,
}

/// The chain with its memory. Made once a session; choosing a token allocates nothing.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    rng: Pcg32,
    /// Every token of the sequence; penalties look at its end.
    history: Vec<Seen>,
    /// How often each token stands in the window: at all, and as generated.
    counts: Vec<(u32, u32)>,
    /// The logits as the chain changes them.
    logits: Vec<f32>,
    /// Ids in order of preference.
    order: Vec<u32>,
}

impl Sampler {
    /// A sampler for a vocabulary, with room for `context` tokens of history.
    pub fn new(vocab: usize, context: usize) -> Self {
        Self {
            options: SamplingOptions::default(),
            rng: Pcg32::seed_from_u64(0),
            history: Vec::with_capacity(context),
            counts: vec![(0, 0); vocab],
            logits: Vec::with_capacity(vocab),
            order: Vec::with_capacity(vocab),
        }
    }

    /// Starts a generation: new options, the generator at its seed, and what the sequence holds as history.
    pub fn start(&mut self, options: SamplingOptions, history: &[u32]) {
        self.rng = Pcg32::seed_from_u64(options.seed);
        self.options = options;
        self.history.clear();
        self.counts.fill((0, 0));
        history.iter().for_each(|&id| self.push(Seen { id, generated: false }));
    }

    /// Remembers a generated token.
    pub fn accept(&mut self, id: u32) {
        self.push(Seen { id, generated: true });
    }

    fn push(&mut self, seen: Seen) {
        let leaves = self
            .history
            .len()
            .checked_sub(self.options.penalty_window)
            .map(|at| self.history.get(at).copied());
        self.history.push(seen);
        self.count(seen, 1);
        // With a window of 0 the token itself leaves at once.
        if let Some(leaver) = leaves {
            self.count(leaver.unwrap_or(seen), -1);
        }
    }

    fn count(&mut self, seen: Seen, by: i32) {
        if let Some((all, generated)) = self.counts.get_mut(seen.id as usize) {
            *all = all.wrapping_add_signed(by);
            *generated = generated.wrapping_add_signed(if seen.generated { by } else { 0 });
        }
    }

    /// The next token, given the model's logits.
    pub fn sample(&mut self, kernel: &Kernel, logits: &[f32]) -> u32 {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        for &(id, bias) in &self.options.logit_bias {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
        self.penalize();
        if self.options.temperature == 0.0 {
            return argmax(&self.logits);
        }
        self.draw(kernel)
    }

    fn penalize(&mut self) {
        let o = &self.options;
        if !o.penalizes() {
            return;
        }
        for (logit, &(all, generated)) in self.logits.iter_mut().zip(&self.counts) {
            if all > 0 {
                *logit *= if *logit > 0.0 { 1.0 / o.repetition_penalty } else { o.repetition_penalty };
            }
            if generated > 0 {
                *logit -= o.frequency_penalty * generated as f32 + o.presence_penalty;
            }
        }
    }

    /// Temperature, the cuts, and the draw.
    fn draw(&mut self, kernel: &Kernel) -> u32 {
        kernel.scale(&mut self.logits, 1.0 / self.options.temperature);
        self.order.clear();
        self.order.extend(0..self.logits.len() as u32);
        let keep = match self.options.top_k {
            0 => self.order.len(),
            k => k.min(self.order.len()),
        };
        let truncates = keep < self.order.len() || self.options.top_p < 1.0 || self.options.min_p > 0.0;
        let kept = if truncates { self.cut(keep) } else { keep };
        let random = self.uniform();
        // Probabilities of what is left, in order of preference (or of id when nothing was cut).
        let largest = self.order[..kept].iter().map(|&id| self.logits[id as usize]).fold(f32::MIN, f32::max);
        let weight = |id: u32| exp(self.logits[id as usize] - largest);
        let total: f64 = self.order[..kept].iter().map(|&id| f64::from(weight(id))).sum();
        let mut left = random * total;
        for &id in &self.order[..kept] {
            left -= f64::from(weight(id));
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a trace of the last interval uncovered.
        self.order[kept - 1]
    }

    /// Sorts the most probable tokens to the front and returns how many pass top-k, top-p and min-p.
    fn cut(&mut self, keep: usize) -> usize {
        let o = &self.options;
        sort_front(&mut self.order, &self.logits, keep);
        let largest = self.logits[self.order[0] as usize];
        let weight = |id: u32| exp(self.logits[id as usize] - largest);
        let mut kept = keep;
        if o.top_p < 1.0 {
            let total: f64 = self.order[..keep].iter().map(|&id| f64::from(weight(id))).sum();
            let mut sum = 0.0;
            let enough = |&id: &u32| {
                sum += f64::from(weight(id));
                sum >= f64::from(o.top_p) * total
            };
            kept = self.order[..keep].iter().position(enough).map_or(keep, |last| last + 1);
        }
        // The order is by weight, so the first that is too small ends the list.
        let too_small = |&id: &u32| weight(id) < o.min_p;
        self.order[..kept].iter().position(too_small).unwrap_or(kept).max(1)
    }

    /// A number in [0, 1) with 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Orders the `keep` best ids first, best to worst; ties by id.
fn sort_front(order: &mut [u32], logits: &[f32], keep: usize) {
    let better = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if keep < order.len() {
        order.select_nth_unstable_by(keep, better);
    }
    order[..keep].sort_unstable_by(better);
}

/// The id of the largest logit, the smaller id on a tie. NaN never wins.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.0 {
            best = (logit, id);
        }
    }
    best.1 as u32
}

/// The `count` most probable tokens with their log-probabilities, and that of `chosen`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprobs {
    /// Log-probability of the chosen token under the model's own distribution (before the chain).
    pub chosen: f32,
    /// The most probable tokens, best first.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprobs {
    /// Of `chosen` and the `count` best, from the model's logits.
    pub fn of(kernel: &Kernel, logits: &[f32], chosen: u32, count: usize) -> Self {
        let norm = kernel.log_sum_exp(logits);
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let count = count.min(order.len());
        sort_front(&mut order, logits, count);
        let logprob = |id: u32| logits[id as usize] - norm;
        Self { chosen: logprob(chosen), top: order[..count].iter().map(|&id| (id, logprob(id))).collect() }
    }
}

#[cfg(test)]
mod tests;
