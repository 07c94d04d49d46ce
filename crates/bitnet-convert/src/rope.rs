//! Rotary scaling in both spellings: parameters (Hugging Face) and divisors (GGUF).

use bitnet_model::{Config, Rope, RopeScaling};

/// Original contexts of models with this scaling are powers of two.
const CONTEXTS: std::ops::RangeInclusive<u32> = 9..=20;
/// Ramps of the field: Llama 3's is 1 to 4.
const RAMPS: [(f32, f32); 6] = [(1.0, 4.0), (1.0, 2.0), (1.0, 8.0), (1.0, 32.0), (2.0, 4.0), (2.0, 8.0)];
/// Frequencies that differ by less come from another order of rounding, not from other parameters.
const CLOSE: f32 = 1.0 / (1 << 20) as f32;

/// The divisor of each frequency, such that dividing gives the bent frequencies, where f32 has such a divisor.
pub(crate) fn divisors(config: &Config) -> Option<Vec<f32>> {
    match &config.rope.scaling {
        RopeScaling::Divisors(divisors) => return Some(divisors.clone()),
        RopeScaling::Llama3 { .. } => {}
        RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Yarn(_) => return None,
    }
    let plain = Rope { theta: config.rope.theta, scaling: RopeScaling::None }.frequencies(config.rotary_dim);
    let bent = config.rope.frequencies(config.rotary_dim);
    let divisor = |(&frequency, &want): (&f32, &f32)| {
        let guess = frequency / want;
        let around = [guess, guess.next_up(), guess.next_down()];
        around.into_iter().find(|d| frequency / d == want).unwrap_or(guess)
    };
    Some(plain.iter().zip(&bent).map(divisor).collect())
}

/// The largest relative difference of the frequencies of two configurations.
pub(crate) fn difference(a: &Config, b: &Config) -> f32 {
    let (a, b) = (a.rope.frequencies(a.rotary_dim), b.rope.frequencies(b.rotary_dim));
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    a.iter().zip(&b).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f32::max)
}

/// The scaling of `config` by parameters, where some of the field give exactly its frequencies; else its divisors.
pub(crate) fn parameters(config: &Config) -> RopeScaling {
    let RopeScaling::Divisors(divisors) = &config.rope.scaling else {
        return config.rope.scaling.clone();
    };
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    let ramps = CONTEXTS.flat_map(|bits| RAMPS.map(|(low, high)| (low, high, (1u32 << bits) as f32)));
    let llama3 = ramps.map(|(low, high, original_context)| RopeScaling::Llama3 {
        factor,
        low,
        high,
        original_context,
    });
    let candidates = [RopeScaling::None, RopeScaling::Linear { factor }].into_iter().chain(llama3);
    let mut exact = candidates.filter(|scaling| {
        let rope = Rope { theta: config.rope.theta, scaling: scaling.clone() };
        difference(config, &Config { rope, ..config.clone() }) == 0.0
    });
    exact.next().unwrap_or_else(|| config.rope.scaling.clone())
}

/// Whether two configurations rotate alike but for rounding, and scale what they have rotated alike.
pub(crate) fn close(a: &Config, b: &Config) -> bool {
    difference(a, b) <= CLOSE && a.rope.attention_factor() == b.rope.attention_factor()
}

#[cfg(test)]
mod tests {
    use bitnet_model::GateActivation;
    use bitnet_source::family::LLAMA;

    use super::*;

    fn config(scaling: RopeScaling) -> Config {
        Config {
            family: LLAMA,
            hidden: 64,
            ffn: 64,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 128,
            rotary_dim: 128,
            gated_attention: false,
            recurrent: None,
            fold: None,
            vocab: 8,
            context: 64,
            norm_eps: 1e-5,
            rope: Rope { theta: 500_000.0, scaling },
            activation: GateActivation::Silu,
            sub_norms: false,
            qk_norms: false,
            input_norm_eps: None,
            tied_head: true,
            trained_int8: true,
            bos: None,
            eos: vec![],
        }
    }

    #[test]
    fn llama3_goes_to_divisors_and_comes_back() {
        for (factor, original_context) in [(8.0, 8192.0), (32.0, 8192.0), (4.0, 32768.0)] {
            let original = config(RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original_context });
            let divisors = divisors(&original).unwrap();
            assert_eq!((divisors[0], divisors[63]), (1.0, factor));
            let stored = config(RopeScaling::Divisors(divisors));
            assert!(difference(&original, &stored) <= f32::EPSILON, "{}", difference(&original, &stored));
            // Where a divisor is not to be had to the last bit, the divisors stay what they are.
            let same = difference(&original, &stored) == 0.0;
            let want = if same { &original } else { &stored };
            assert_eq!(parameters(&stored), want.rope.scaling);
        }
    }

    #[test]
    fn other_divisors_are_recognized_or_stay() {
        let with = |d: Vec<f32>| config(RopeScaling::Divisors(d));
        assert_eq!(parameters(&with(vec![1.0; 64])), RopeScaling::None);
        assert_eq!(parameters(&with(vec![3.0; 64])), RopeScaling::Linear { factor: 3.0 });
        let strange: Vec<f32> = (0..64).map(|i| 1.0 + i as f32).collect();
        assert_eq!(parameters(&with(strange.clone())), RopeScaling::Divisors(strange));
        assert_eq!(divisors(&config(RopeScaling::Linear { factor: 2.0 })), None);
    }
}
