//! From logits to the next token.
//!
//! The chain, in this order: logit bias, repetition, frequency and presence penalties, temperature, top-k, top-p, min-p,
//! then a draw. Equal logits are ordered by id, probabilities come from the kernels' one exponential, and the
//! generator is PCG with a 64-bit seed, so a seed means the same tokens on every machine.
//!
//! The chain can often be followed on some candidates alone: [`Sampler::need`] says which, and [`Sampler::sample_support`] gives
//! a token only where it can prove that the whole chain over all logits would give the same one.

use bitnet_device::{Need, Support};
use bitnet_kernels::{Kernel, exp};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

mod defaults;
mod options;
mod window;

pub use defaults::SamplingDefaults;
pub use options::{LARGEST_SHIFT, SamplingOptions};
use window::Window;

/// Temperatures below this are greedy: different logits divided by it are further apart than any probability can tell.
const COLDEST: f32 = 1e-20;

/// The chain of one generation: its options, its generator, and the tokens that penalties look at.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    vocab: usize,
    rng: Pcg32,
    window: Window,
}

/// Working memory of a choice, `[vocab]`. One serves all samplers in turn.
#[derive(Debug)]
pub struct SamplingMemory {
    /// The candidates' logits as the chain changes them. Candidates are in order of their ids.
    logits: Vec<f32>,
    /// Candidates (places in `logits`) in order of preference.
    order: Vec<u32>,
}

impl SamplingMemory {
    /// For a vocabulary of `vocab` ids. Choosing a token allocates nothing then.
    pub fn new(vocab: usize) -> Self {
        Self { logits: Vec::with_capacity(vocab), order: Vec::with_capacity(vocab) }
    }
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
    /// A sampler for a vocabulary of `vocab` ids, its generator at its seed. `prompt` is what the sequence holds already; up to
    /// `more` tokens are taken in without an allocation.
    pub fn new(options: SamplingOptions, vocab: usize, prompt: &[u32], more: usize) -> Self {
        let temperature = if options.temperature < COLDEST { 0.0 } else { options.temperature };
        let options = SamplingOptions { temperature, ..options };
        Self {
            rng: Pcg32::seed_from_u64(options.seed),
            window: Window::new(&options, vocab, prompt, more),
            options,
            vocab,
        }
    }

    /// Remembers a generated token.
    pub fn accept(&mut self, id: u32) {
        self.window.push(&self.options, id, true);
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
        } else if (1..self.vocab).contains(&o.top_k) {
            (o.top_k, ties)
        } else if o.top_p == 1.0 && o.min_p > 0.0 {
            // One candidate more than `cut` asks for, to prove that the rest are too small.
            (1, o.temperature * (-1.000_01 * o.min_p.ln() + 0.003))
        } else {
            return None;
        };
        Some(Need { best, within, lowered: &self.window.lowered, raised: &self.window.raised })
    }

    /// The next token, given the logits that matter: the one that [`Sampler::sample`] would choose given all. `None` when
    /// that cannot be proven; nothing has changed then.
    pub fn sample_support(
        &mut self,
        kernel: &Kernel,
        support: &Support<'_>,
        memory: &mut SamplingMemory,
    ) -> Option<u32> {
        memory.logits.clear();
        memory.logits.extend_from_slice(support.logits);
        self.choose(kernel, Candidates::Some { ids: support.ids, floor: support.floor }, memory)
    }

    /// The next token, given the model's logits.
    pub fn sample(&mut self, kernel: &Kernel, logits: &[f32], memory: &mut SamplingMemory) -> u32 {
        memory.logits.clear();
        memory.logits.extend_from_slice(logits);
        // With all candidates nothing needs a proof.
        self.choose(kernel, Candidates::All, memory).unwrap_or(0)
    }

    fn choose(
        &mut self,
        kernel: &Kernel,
        candidates: Candidates<'_>,
        memory: &mut SamplingMemory,
    ) -> Option<u32> {
        let logits = &mut memory.logits;
        for &(id, bias) in &self.options.logit_bias {
            if let Some(logit) = candidates.place(id).and_then(|place| logits.get_mut(place)) {
                *logit += bias;
            }
        }
        self.window.penalize(&self.options, logits, |id| candidates.place(id));
        let place = if self.options.temperature == 0.0 {
            let place = argmax(logits);
            // Others are less than the floor, and what the chain does to them does not raise them.
            let ahead = |floor: f32| logits.get(place as usize).is_some_and(|&logit| logit >= floor);
            let proven = match candidates {
                Candidates::All => true,
                Candidates::Some { floor, .. } => ahead(floor),
            };
            proven.then_some(place)
        } else {
            self.draw(kernel, candidates, memory)
        };
        place.map(|place| candidates.id(place as usize))
    }

    /// Temperature, the cuts, and the draw; the place of the chosen candidate. `None` where others could change it.
    fn draw(
        &mut self,
        kernel: &Kernel,
        candidates: Candidates<'_>,
        memory: &mut SamplingMemory,
    ) -> Option<u32> {
        let factor = 1.0 / self.options.temperature;
        kernel.scale(&mut memory.logits, factor);
        // A product rounds alike for all, so the others stay at or below this.
        let (total, below) = match candidates {
            Candidates::All => (memory.logits.len(), None),
            Candidates::Some { floor, .. } => (self.vocab, Some(floor * factor)),
        };
        memory.order.clear();
        memory.order.extend(0..memory.logits.len() as u32);
        let keep = match self.options.top_k {
            0 => total,
            k => k.min(total),
        };
        let truncates = keep < total || self.options.top_p < 1.0 || self.options.min_p > 0.0;
        let kept = match (truncates, below) {
            (true, _) => self.cut(keep, below, memory)?,
            (false, None) => keep,
            (false, Some(_)) => return None,
        };
        let random = self.uniform();
        let SamplingMemory { logits, order } = memory;
        // Probabilities of what is left, in order of preference (or of id when nothing was cut).
        let largest = order[..kept].iter().map(|&id| logits[id as usize]).fold(f32::MIN, f32::max);
        let weight = |id: u32| exp(logits[id as usize] - largest);
        let total: f64 = order[..kept].iter().map(|&id| f64::from(weight(id))).sum();
        let mut left = random * total;
        for &id in &order[..kept] {
            left -= f64::from(weight(id));
            if left < 0.0 {
                return Some(id);
            }
        }
        // Rounding can leave a trace of the last interval uncovered.
        Some(order[kept - 1])
    }

    /// Sorts the most probable tokens to the front and returns how many pass top-k, top-p and min-p. `below` is what the logits
    /// of ids that are no candidates do not exceed; `None` is returned where they could matter.
    fn cut(&self, keep: usize, below: Option<f32>, memory: &mut SamplingMemory) -> Option<usize> {
        let (o, SamplingMemory { logits, order }) = (&self.options, memory);
        let listed = keep.min(order.len());
        sort_front(order, logits, listed);
        let logit = |&place: &u32| logits[place as usize];
        // How many in front are ahead of whatever is no candidate: so far the order is that of all ids.
        let sure = match below {
            None => listed,
            Some(below) => order[..listed].iter().take_while(|place| logit(place) > below).count(),
        };
        let largest = logit(order[..sure].first()?);
        let weight = |id: u32| exp(logits[id as usize] - largest);
        let mut kept = keep;
        if o.top_p < 1.0 {
            if keep > sure {
                return None;
            }
            let total: f64 = order[..keep].iter().map(|&id| f64::from(weight(id))).sum();
            let mut sum = 0.0;
            let enough = |&id: &u32| {
                sum += f64::from(weight(id));
                sum >= f64::from(o.top_p) * total
            };
            kept = order[..keep].iter().position(enough).map_or(keep, |last| last + 1);
        }
        // The order is by weight, so the first that is too small ends the list.
        let too_small = |&id: &u32| weight(id) < o.min_p;
        let first = order[..kept.min(sure)].iter().position(too_small);
        if let (None, Some(below)) = (first, below)
            && kept > sure
        {
            // All candidates pass. The next id must be proven too small; the margin is far above the error of `exp`.
            let proven = f64::from(below - largest).exp() * 1.001 < f64::from(o.min_p);
            return (proven && sure == order.len()).then_some(sure);
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
