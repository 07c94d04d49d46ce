//! From logits to the next token.
//!
//! The chain, in this order: logit bias, repetition, frequency and presence penalties, temperature, top-k, top-p, min-p,
//! then a draw. Equal logits are ordered by id, probabilities come from the kernels' one exponential, and the
//! generator is PCG with a 64-bit seed, so a seed means the same tokens on every machine.
//!
//! The chain can often be followed on some candidates alone: [`Sampler::need`] says which, and [`Sampler::sample_support`] gives
//! a token only where it can prove that the whole chain over all logits would give the same one.

use bitnet_kernels::{Kernel, exp};
use bitnet_model::{Need, Support};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// The largest size of a logit bias and of the penalties. Logits are of the order of 10, so this is as good as always or never, and
/// no sum with it leaves the range of `f32`.
pub const LARGEST_SHIFT: f32 = 1e6;
/// Temperatures below this are greedy: different logits divided by it are further apart than any probability can tell.
const COLDEST: f32 = 1e-20;

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

    fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// Whether penalties never raise a logit.
    fn only_lowers(&self) -> bool {
        self.repetition_penalty >= 1.0 && self.frequency_penalty >= 0.0 && self.presence_penalty >= 0.0
    }
}

/// The bounds of a number that is added to a logit.
const SHIFTS: &str = "from -1000000 to 1000000";

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
    /// Ids whose logits the chain can only lower, and those that it may raise.
    lowered: Vec<u32>,
    raised: Vec<u32>,
    /// The candidates' logits as the chain changes them. Candidates are in order of their ids.
    logits: Vec<f32>,
    /// Candidates (places in `logits`) in order of preference.
    order: Vec<u32>,
}

/// Who the candidates are.
#[derive(Clone, Copy)]
enum Candidates<'a> {
    /// Every id.
    All,
    /// These ids; no other has a logit of `floor` or more.
    Some { ids: &'a [u32], floor: f32 },
}

impl Candidates<'_> {
    /// The id of the candidate at `place`.
    fn id(&self, place: usize) -> u32 {
        match self {
            Self::All => place as u32,
            Self::Some { ids, .. } => ids[place],
        }
    }

    /// Where `id` is, if it is a candidate (or no id at all: places are looked up with `get`).
    fn place(&self, id: u32) -> Option<usize> {
        match self {
            Self::All => Some(id as usize),
            Self::Some { ids, .. } => ids.binary_search(&id).ok(),
        }
    }
}

impl Sampler {
    /// A sampler for a vocabulary, with room for `context` tokens of history.
    pub fn new(vocab: usize, context: usize) -> Self {
        Self {
            options: SamplingOptions::default(),
            rng: Pcg32::seed_from_u64(0),
            history: Vec::with_capacity(context),
            counts: vec![(0, 0); vocab],
            lowered: Vec::with_capacity(context.min(vocab)),
            raised: Vec::with_capacity(context.min(vocab)),
            logits: Vec::with_capacity(vocab),
            order: Vec::with_capacity(vocab),
        }
    }

    /// Starts a generation: new options, the generator at its seed, and what the sequence holds as history.
    pub fn start(&mut self, options: SamplingOptions, history: &[u32]) {
        self.rng = Pcg32::seed_from_u64(options.seed);
        self.options = options;
        if self.options.temperature < COLDEST {
            self.options.temperature = 0.0;
        }
        self.history.clear();
        self.counts.fill((0, 0));
        for list in [&mut self.lowered, &mut self.raised] {
            list.clear();
            list.reserve(self.options.logit_bias.len() + self.history.capacity().min(self.counts.len()));
        }
        for &(id, bias) in &self.options.logit_bias {
            if bias > 0.0 { &mut self.raised } else { &mut self.lowered }.push(id);
        }
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
        let Some((all, generated)) = self.counts.get_mut(seen.id as usize) else { return };
        let before = *all;
        *all = all.wrapping_add_signed(by);
        *generated = generated.wrapping_add_signed(if seen.generated { by } else { 0 });
        let (enters, leaves) = (before == 0, *all == 0);
        if enters == leaves || !self.options.penalizes() {
            return;
        }
        let list = if self.options.only_lowers() { &mut self.lowered } else { &mut self.raised };
        if enters {
            list.push(seen.id);
        } else if let Some(place) = list.iter().position(|&id| id == seen.id) {
            list.swap_remove(place);
        }
    }

    /// Which logits the next token depends on, as far as can be said before they are known. `None` when it is all of them.
    pub fn need(&self) -> Option<Need<'_>> {
        let o = &self.options;
        if o.temperature.is_nan() || o.temperature < 0.0 {
            return None;
        }
        // Scaled logits may be equal where logits are not, and equal ones are ordered by id.
        let ties = 1e-4 * o.temperature;
        let (best, within) = if o.temperature == 0.0 {
            (1, 0.0)
        } else if (1..self.counts.len()).contains(&o.top_k) {
            (o.top_k, ties)
        } else if o.top_p == 1.0 && o.min_p > 0.0 {
            // More than `cut` asks for in proof that all others are too small.
            (1, o.temperature * (-1.000_01 * o.min_p.ln() + 0.003))
        } else {
            return None;
        };
        Some(Need { best, within, lowered: &self.lowered, raised: &self.raised })
    }

    /// The next token, given the logits that matter: the one that [`Sampler::sample`] would choose given all. `None` when
    /// that cannot be proven; nothing has changed then.
    pub fn sample_support(&mut self, kernel: &Kernel, support: &Support<'_>) -> Option<u32> {
        self.logits.clear();
        self.logits.extend_from_slice(support.logits);
        self.choose(kernel, Candidates::Some { ids: support.ids, floor: support.floor })
    }

    /// The next token, given the model's logits.
    pub fn sample(&mut self, kernel: &Kernel, logits: &[f32]) -> u32 {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        // With all candidates nothing needs a proof.
        self.choose(kernel, Candidates::All).unwrap_or(0)
    }

    fn choose(&mut self, kernel: &Kernel, candidates: Candidates<'_>) -> Option<u32> {
        for &(id, bias) in &self.options.logit_bias {
            if let Some(logit) = candidates.place(id).and_then(|place| self.logits.get_mut(place)) {
                *logit += bias;
            }
        }
        self.penalize(candidates);
        let place = if self.options.temperature == 0.0 {
            let place = argmax(&self.logits);
            // Others are less than the floor, and what the chain does to them does not raise them.
            let ahead = |floor: f32| self.logits.get(place as usize).is_some_and(|&logit| logit >= floor);
            let proven = match candidates {
                Candidates::All => true,
                Candidates::Some { floor, .. } => ahead(floor),
            };
            proven.then_some(place)
        } else {
            self.draw(kernel, candidates)
        };
        place.map(|place| candidates.id(place as usize))
    }

    fn penalize(&mut self, candidates: Candidates<'_>) {
        let o = &self.options;
        if !o.penalizes() {
            return;
        }
        for (place, logit) in self.logits.iter_mut().enumerate() {
            let Some(&(all, generated)) = self.counts.get(candidates.id(place) as usize) else { continue };
            if all > 0 {
                *logit *= if *logit > 0.0 { 1.0 / o.repetition_penalty } else { o.repetition_penalty };
            }
            if generated > 0 {
                *logit -= o.frequency_penalty * generated as f32 + o.presence_penalty;
            }
        }
    }

    /// Temperature, the cuts, and the draw; the place of the chosen candidate. `None` where others could change it.
    fn draw(&mut self, kernel: &Kernel, candidates: Candidates<'_>) -> Option<u32> {
        let factor = 1.0 / self.options.temperature;
        kernel.scale(&mut self.logits, factor);
        // A product rounds alike for all, so the others stay at or below this.
        let (total, below) = match candidates {
            Candidates::All => (self.logits.len(), None),
            Candidates::Some { floor, .. } => (self.counts.len(), Some(floor * factor)),
        };
        self.order.clear();
        self.order.extend(0..self.logits.len() as u32);
        let keep = match self.options.top_k {
            0 => total,
            k => k.min(total),
        };
        let truncates = keep < total || self.options.top_p < 1.0 || self.options.min_p > 0.0;
        let kept = match (truncates, below) {
            (true, _) => self.cut(keep, below)?,
            (false, None) => keep,
            (false, Some(_)) => return None,
        };
        let random = self.uniform();
        // Probabilities of what is left, in order of preference (or of id when nothing was cut).
        let largest = self.order[..kept].iter().map(|&id| self.logits[id as usize]).fold(f32::MIN, f32::max);
        let weight = |id: u32| exp(self.logits[id as usize] - largest);
        let total: f64 = self.order[..kept].iter().map(|&id| f64::from(weight(id))).sum();
        let mut left = random * total;
        for &id in &self.order[..kept] {
            left -= f64::from(weight(id));
            if left < 0.0 {
                return Some(id);
            }
        }
        // Rounding can leave a trace of the last interval uncovered.
        Some(self.order[kept - 1])
    }

    /// Sorts the most probable tokens to the front and returns how many pass top-k, top-p and min-p. `below` is what the logits
    /// of ids that are no candidates do not exceed; `None` is returned where they could matter.
    fn cut(&mut self, keep: usize, below: Option<f32>) -> Option<usize> {
        let o = &self.options;
        let listed = keep.min(self.order.len());
        sort_front(&mut self.order, &self.logits, listed);
        let logit = |&place: &u32| self.logits[place as usize];
        // How many in front are ahead of whatever is no candidate: so far the order is that of all ids.
        let sure = match below {
            None => listed,
            Some(below) => self.order[..listed].iter().take_while(|place| logit(place) > below).count(),
        };
        let largest = logit(self.order[..sure].first()?);
        let weight = |id: u32| exp(self.logits[id as usize] - largest);
        let mut kept = keep;
        if o.top_p < 1.0 {
            if keep > sure {
                return None;
            }
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
        let first = self.order[..kept.min(sure)].iter().position(too_small);
        if let (None, Some(below)) = (first, below)
            && kept > sure
        {
            // All candidates pass. The next id must be proven too small; the margin is far above the error of `exp`.
            let proven = f64::from(below - largest).exp() * 1.001 < f64::from(o.min_p);
            return (proven && sure == self.order.len()).then_some(sure);
        }
        Some(first.unwrap_or(kept).max(1))
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
