use super::*;

fn kernel() -> &'static Kernel {
    bitnet_kernels::by_name("scalar").unwrap()
}

/// The share of each of four tokens in many draws.
fn shares(options: SamplingOptions, logits: &[f32; 4]) -> [f64; 4] {
    const DRAWS: usize = 20_000;
    let (mut sampler, mut memory) = (Sampler::new(options, 4, &[], 0), SamplingMemory::new(4));
    let mut counts = [0; 4];
    (0..DRAWS).for_each(|_| counts[sampler.sample(kernel(), logits, &mut memory) as usize] += 1);
    counts.map(|c| c as f64 / DRAWS as f64)
}

fn near(got: [f64; 4], want: [f64; 4]) {
    // 20,000 draws: the standard deviation of a share is below 0.0036.
    let close = got.iter().zip(want).all(|(g, w)| (g - w).abs() < 0.015 && (w > 0.0 || *g == 0.0));
    assert!(close, "{got:?} instead of {want:?}");
}

/// Logits of the probabilities 0.4, 0.3, 0.2, 0.1, ids not in order of probability.
fn four() -> [f32; 4] {
    [0.3f32.ln(), 0.1f32.ln(), 0.4f32.ln(), 0.2f32.ln()]
}

fn warm() -> SamplingOptions {
    SamplingOptions { temperature: 1.0, seed: 7, ..Default::default() }
}

#[test]
fn draws_follow_the_distribution() {
    near(shares(warm(), &four()), [0.3, 0.1, 0.4, 0.2]);
    // Temperature 0.5 squares probabilities: 9 + 1 + 16 + 4 = 30.
    near(
        shares(SamplingOptions { temperature: 0.5, ..warm() }, &four()),
        [9.0 / 30.0, 1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0],
    );
}

#[test]
fn cuts_keep_the_most_probable() {
    near(shares(SamplingOptions { top_k: 2, ..warm() }, &four()), [3.0 / 7.0, 0.0, 4.0 / 7.0, 0.0]);
    // 0.4 + 0.3 reaches 0.65; the second is still needed.
    near(shares(SamplingOptions { top_p: 0.65, ..warm() }, &four()), [3.0 / 7.0, 0.0, 4.0 / 7.0, 0.0]);
    near(shares(SamplingOptions { top_p: 0.1, ..warm() }, &four()), [0.0, 0.0, 1.0, 0.0]);
    // 0.45 of 0.4 is 0.18: only 0.1 falls.
    near(shares(SamplingOptions { min_p: 0.45, ..warm() }, &four()), [3.0 / 9.0, 0.0, 4.0 / 9.0, 2.0 / 9.0]);
}

#[test]
fn bias_and_penalties_move_logits() {
    let greedy = |options: SamplingOptions, history: &[u32], accepted: &[u32], logits: &[f32]| {
        let mut sampler = Sampler::new(options, logits.len(), history, 8);
        accepted.iter().for_each(|&id| sampler.accept(id));
        sampler.sample(kernel(), logits, &mut SamplingMemory::new(logits.len()))
    };
    let base = SamplingOptions::default;
    assert_eq!(greedy(SamplingOptions { logit_bias: vec![(0, 5.0)], ..base() }, &[], &[], &[1.0, 4.0]), 0);
    let repetition = || SamplingOptions { repetition_penalty: 2.0, ..base() };
    assert_eq!(greedy(repetition(), &[1], &[], &[3.0, 4.0]), 0, "4 / 2 < 3");
    assert_eq!(greedy(repetition(), &[1], &[], &[-3.0, -2.0]), 0, "-2 * 2 < -3");
    let frequency = || SamplingOptions { frequency_penalty: 0.6, ..base() };
    assert_eq!(greedy(frequency(), &[1, 1], &[], &[3.0, 4.0]), 1, "the prompt does not count");
    assert_eq!(greedy(frequency(), &[], &[1], &[3.0, 4.0]), 1, "4 - 0.6 > 3");
    assert_eq!(greedy(frequency(), &[], &[1, 1], &[3.0, 4.0]), 0, "4 - 1.2 < 3");
    assert_eq!(greedy(SamplingOptions { presence_penalty: 0.6, ..base() }, &[], &[1, 1], &[3.0, 4.0]), 1);
    let window = |penalty_window| SamplingOptions { penalty_window, ..repetition() };
    assert_eq!(greedy(window(2), &[1, 0, 0], &[], &[3.0, 4.0]), 1, "1 has left the window");
    assert_eq!(greedy(window(3), &[1, 0, 2], &[], &[3.0, 4.0, 0.0]), 1, "both are halved");
    assert_eq!(greedy(window(0), &[1, 1], &[1], &[3.0, 4.0]), 1, "an empty window");
}

#[test]
fn ties_go_to_the_smaller_id_and_nan_never_wins() {
    assert_eq!(argmax(&[1.0, 2.0, 2.0]), 1);
    assert_eq!(argmax(&[f32::NAN, -5.0]), 1);
    assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
}

#[test]
fn a_seed_gives_the_same_tokens_again() {
    assert_eq!(draws(3), draws(3));
    assert_ne!(draws(3), draws(4));
}

#[test]
fn log_probabilities_are_of_the_model() {
    let l = TokenLogprobs::of(kernel(), &four(), 1, 2);
    assert!((l.chosen - 0.1f32.ln()).abs() < 1e-6);
    assert_eq!(l.top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 0]);
    assert!((l.top[0].1 - 0.4f32.ln()).abs() < 1e-6);
}

#[test]
fn impossible_options_are_named() {
    let bad = |o: SamplingOptions| o.check().unwrap_err();
    assert!(bad(SamplingOptions { temperature: -1.0, ..warm() }).contains("temperature"));
    assert!(bad(SamplingOptions { top_p: 0.0, ..warm() }).contains("top-p"));
    assert!(bad(SamplingOptions { min_p: f32::NAN, ..warm() }).contains("min-p"));
    assert!(bad(SamplingOptions { repetition_penalty: 0.0, ..warm() }).contains("repetition"));
    assert!(warm().check().is_ok());
}

#[test]
fn numbers_at_the_edge_of_floats_are_refused_by_name() {
    let largest = LARGEST_SHIFT;
    for beyond in [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, -1.0001 * largest, f32::NEG_INFINITY] {
        let o = [
            ("frequency penalty", SamplingOptions { frequency_penalty: beyond, ..warm() }),
            ("presence penalty", SamplingOptions { presence_penalty: beyond, ..warm() }),
            ("repetition penalty", SamplingOptions { repetition_penalty: beyond, ..warm() }),
            ("logit bias of token 3", SamplingOptions { logit_bias: vec![(1, 1.0), (3, beyond)], ..warm() }),
        ];
        let fine = |name: &str| beyond == f32::NEG_INFINITY && name.starts_with("logit");
        for (name, options) in o.into_iter().filter(|(name, _)| !fine(name)) {
            let told = options.check().unwrap_err();
            assert!(told.starts_with(name) || told.starts_with(&format!("the {name}")), "{told}");
        }
    }
    for good in [largest, -largest, 0.0] {
        let options = SamplingOptions { frequency_penalty: good, presence_penalty: good, ..warm() };
        assert_eq!(SamplingOptions { logit_bias: vec![(0, good)], ..options }.check(), Ok(()));
    }
    let repetition = |repetition_penalty| SamplingOptions { repetition_penalty, ..warm() }.check();
    assert!(repetition(1e-45).is_err() && repetition(1e-6).is_ok() && repetition(1e6).is_ok());
    let never = SamplingOptions { logit_bias: vec![(3, f32::NEG_INFINITY)], ..warm() };
    assert_eq!((never.check(), never.check_ids(4)), (Ok(()), Ok(())));
    assert!(never.check_ids(3).unwrap_err().contains("token 3, which is outside the vocabulary of 3"));
}

#[test]
fn the_largest_shifts_and_the_lowest_temperatures_have_their_limits() {
    let drawn = |options: SamplingOptions| shares(options, &four());
    // Every positive temperature, down to the smallest number there is.
    for temperature in [1e-45, 1e-38, 1e-30, 1e-20, 1e-10, 1e-5] {
        assert_eq!(drawn(SamplingOptions { temperature, ..warm() }), [0.0, 0.0, 1.0, 0.0], "{temperature}");
    }
    for temperature in [1e-20, 0.6, 1.0] {
        let biased = SamplingOptions { temperature, logit_bias: vec![(1, LARGEST_SHIFT)], ..warm() };
        assert_eq!(drawn(biased), [0.0, 1.0, 0.0, 0.0], "{temperature}");
    }
    let hot = SamplingOptions { temperature: f32::MAX, ..warm() };
    near(drawn(hot), [0.25; 4]);
}

#[test]
fn top_p_is_measured_after_the_temperature() {
    // At a temperature of 0.5 the best token has 16 of 30, which is enough; before it, 0.4, which is not.
    near(shares(SamplingOptions { temperature: 0.5, top_p: 0.5, ..warm() }, &four()), [0.0, 0.0, 1.0, 0.0]);
}

/// The first draws of a seed.
fn draws(seed: u64) -> Vec<u32> {
    let mut sampler = Sampler::new(SamplingOptions { seed, ..warm() }, 4, &[], 0);
    let mut memory = SamplingMemory::new(4);
    (0..32).map(|_| sampler.sample(kernel(), &four(), &mut memory)).collect()
}

#[test]
fn a_seed_stands_for_the_same_draws_for_ever() {
    let golden = [
        (
            0,
            [
                3u32, 0, 1, 2, 2, 0, 2, 0, 0, 2, 2, 2, 3, 2, 2, 3, 3, 2, 2, 2, 2, 3, 0, 2, 0, 1, 0, 3, 0, 2,
                0, 2,
            ],
        ),
        (7, [0, 3, 1, 3, 2, 1, 3, 0, 0, 0, 0, 2, 2, 2, 3, 0, 0, 0, 0, 0, 3, 0, 1, 2, 3, 2, 1, 3, 1, 2, 0, 2]),
        // Another seed than 7: all 64 bits count.
        (
            7 + (1 << 32),
            [3, 2, 2, 2, 2, 2, 1, 2, 2, 2, 0, 2, 0, 2, 0, 3, 3, 2, 2, 0, 2, 2, 1, 1, 3, 2, 2, 0, 2, 2, 3, 1],
        ),
    ];
    for (seed, golden) in golden {
        assert_eq!(draws(seed), golden, "seed {seed}");
    }
}

#[test]
fn frequency_counts_what_was_generated_and_not_the_prompt() {
    let choose = |history: &[u32], accepted: &[u32]| {
        let options = SamplingOptions { frequency_penalty: 1.0, ..SamplingOptions::default() };
        let mut sampler = Sampler::new(options, 2, history, 8);
        accepted.iter().for_each(|&id| sampler.accept(id));
        sampler.sample(kernel(), &[2.5, 0.0], &mut SamplingMemory::new(2))
    };
    assert_eq!(choose(&[0, 0, 0], &[]), 0);
    assert_eq!(choose(&[0, 0, 0], &[0, 0]), 0);
    assert_eq!(choose(&[], &[0, 0, 0]), 1);
}
